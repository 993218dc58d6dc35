"""Resumable units of work: plan, do, publish. Knows nothing of Beam."""
