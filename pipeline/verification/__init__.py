"""Re-reads everything on disk and says whether it is sound."""
