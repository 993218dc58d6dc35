"""The `vlmixer` command: one file per group of subcommands, with its parser and its handlers."""
