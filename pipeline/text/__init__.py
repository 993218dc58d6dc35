"""Reads sentences and finds their visually grounded words."""
