"""The demo's page: what went through each stage, from sentences and pictures to retrieval, with measured numbers."""
