"""What can be known in the first seconds is checked there, before the first stage begins."""
