"""How to install the packages of an extra of vlmixer.

vlmixer is installed from a checkout or a wheel, so `pip install 'vlmixer[train]'` would look in the wrong place. The
command names the packages themselves and works anywhere.
"""

import re
from importlib import metadata

_PIPELINE = ("apache_beam", "inflect", "safetensors", "spacy", "torch", "torchvision", "zstandard")
_MODULES = {
    **dict.fromkeys(_PIPELINE, "pipeline"),
    **dict.fromkeys(("timm", "transformers"), "transformers"),
    "huggingface_hub": "hub",
    "tokenizers": "train",
    "pycocoevalcap": "captions",
    "argcomplete": "completion",
}
"""The extra with each module that the core does without."""


def extra_of(module: str) -> str | None:
    """The extra that installs a module, such as "pipeline" for spacy.tokens; None if no extra does."""
    return _MODULES.get(module.partition(".")[0])


def install_command(*extras: str) -> str:
    """A `pip install` line with the packages of these extras, such as "pipeline" or "train"."""
    try:
        declared = metadata.requires("vlmixer") or []
    except metadata.PackageNotFoundError:  # a checkout on the path that was not installed
        declared = []
    wanted = [
        requirement.strip()
        for extra in extras
        for requirement, _, marker in (entry.partition(";") for entry in declared)
        if re.search(rf"extra == ['\"]{extra}['\"]", marker)
    ]
    if not wanted:  # or one that was installed before it had the extra
        return f"pip install '.[{','.join(extras)}]'"
    return f"pip install {' '.join(repr(requirement) for requirement in dict.fromkeys(wanted))}"
