"""Cross-modal CutMix: which words, which patches, the finished sample. Pure functions."""
