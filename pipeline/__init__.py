"""The jobs that turn two unrelated corpora into mixed samples, and the `vlmixer` command."""
