"""Where sentences come from."""
