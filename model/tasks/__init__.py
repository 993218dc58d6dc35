"""The downstream tasks: reading their official files, inputs, heads, metrics and result files."""
