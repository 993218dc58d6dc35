"""The drawn world: scenes, captions and a small trained detector, so that everything runs offline."""
