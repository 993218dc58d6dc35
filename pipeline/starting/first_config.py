"""The first config of a project, with a comment at each key, from what was found in its folders."""

import json

from vlmixer.pipeline.starting.looking import Captions, Found, Images

EXAMPLE_LENGTH = 60

_HEAD = """\
# Made by `vlmixer init`. docs/configuration.md explains all keys; those that are missing here have defaults.
# Try it: vlmixer run {name} --dry-run, then vlmixer plan {name}, then vlmixer run {name}.
seed: 0            # the same inputs, config and seed give the same bytes
out: {out}
vocabulary: coco   # what is looked for: coco (80 things), lvis (1,203), vg1600, openimages (601), or a file of yours

text:
  inputs:{texts}
  field: {field}

images:
  inputs:{images}
  detector: torchvision:fasterrcnn_resnet50_fpn_v2   # its weights are downloaded once; docs/which-detector.md
  score_threshold: 0.3
  device: auto     # cuda if there is one

bank:
  max_patches_per_concept: 1000

mix:
  replace_probability: 0.5   # how often a word that means a thing is replaced by a patch
  crops: false               # true: samples get a picture of their patches, for loaders that need one

# train:           # remove the comment signs to train after the shards
#   steps: 1000
"""


def first_config(found: Found, name: str, out: str) -> str:
    """The text of the config, to be saved as `name`.

    Captions with another field than the first ones are commented out, because all files have one `text.field`.
    """
    field = next((each.field for each in found.captions if each.field), "caption")
    return _HEAD.format(
        name=name,
        out=_quoted(out),
        texts="".join(_captions_line(each, field) for each in found.captions) or _nothing("files with sentences"),
        field=_quoted(field),
        images="".join(map(_images_line, found.images)) or _nothing("photos"),
    )


def _captions_line(found: Captions, field: str) -> str:
    example = " ".join(found.example.split())
    shown = example if len(example) <= EXAMPLE_LENGTH else f"{example[:EXAMPLE_LENGTH]}…"
    about = f"{_number(found.number)}, such as {_quoted(shown)}"
    if found.field in ("", field):
        return f"\n    - {_quoted(found.pattern)}   # {about}"
    return f"\n    # - {_quoted(found.pattern)}   # needs field: {found.field}; {about}"


def _images_line(found: Images) -> str:
    return f"\n    - {_quoted(found.pattern)}   # {_number(found.number)}"


def _quoted(text: str) -> str:
    """As YAML reads it, on one line."""
    return json.dumps(text, ensure_ascii=not text.isprintable())


def _number(files: int) -> str:
    return f"{files:,} file{'' if files == 1 else 's'}"


def _nothing(what: str) -> str:
    return f" []   # none found: name your {what}"
