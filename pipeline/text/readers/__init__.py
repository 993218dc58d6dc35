"""Where sentences come from: one file per format, one table (`formats`), and `reader`, which makes sentences."""
