"""Detectors: the protocol, the ones that ship, and loading one of your own."""
