"""Retrieval, and ablations: what the trained network has learned."""
