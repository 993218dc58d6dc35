"""Region features apart from the detector: encoders of pictures."""
