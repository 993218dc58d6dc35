"""Results that replace those of an output folder: with more inputs (`run --extend`) or without some (`drop`)."""
