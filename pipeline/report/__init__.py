"""HTML pages: self-contained, no network."""
