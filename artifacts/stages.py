"""Names of the stages' folders below OUT."""

FOLDERS = {"tag": "tagged", "detect": "regions", "index": "bank", "mix": "shards"}
