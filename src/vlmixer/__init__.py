"""VLMixer: vision-language pre-training data from unpaired sentences and images.

`vlmixer.pipeline` makes the data, `vlmixer.bank` searches the patches, `vlmixer.model` trains. `vlmixer.artifacts` is
what they share: the files between the stages. In a checkout, these packages are the top-level folders of the
repository, and the links in this folder give them their common name.
"""

__version__ = "0.1.0"
