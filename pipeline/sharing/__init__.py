"""Sharing results: shards, what a query of the bank found, and runs as repositories of Hugging Face's Hub."""
