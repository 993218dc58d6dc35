"""Boxes that somebody has already, in place of a detector: reading their files, and finding their photos."""
