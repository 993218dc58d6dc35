"""Measures what a trained network has learned: retrieval, and ablations."""
