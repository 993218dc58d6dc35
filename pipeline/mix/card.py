"""The card of a folder of shards: what is in it, from what it was made, and how to load it."""

from collections.abc import Mapping, Sequence
from typing import Any

from vlmixer.artifacts import files
from vlmixer.artifacts.dataset_cards import CARD, LICENCE_OPEN, Part, dataset_card, plain
from vlmixer.artifacts.details import ShardsDetails
from vlmixer.artifacts.manifest import Output

CONCEPTS_SHOWN = 20

_MENTION = {"start": "int64", "end": "int64", "concept": "string", "surface": "string", "lemma": "string"}
_PATCH = {
    "mention": "int64", "patch_id": "string", "image_id": "string", "concept": "string", "score": "float64",
    "box": ["float64"], "width": "int64", "height": "int64",
}  # fmt: skip
_RECORDS: Mapping[str, Mapping[str, Any]] = {
    "mixed": {
        "kind": "string", "key": "string", "sentence_id": "string", "view": "int64", "text": "string",
        "replaced": ["int64"], "patches_only": "bool", "mentions": [_MENTION],
    },
    "images": {
        "kind": "string", "key": "string", "image_id": "string", "source": "string", "width": "int64",
        "height": "int64", "tags": ["string"],
    },
}  # fmt: skip

_WHAT = {
    "mixed": "sentences in which patches replace words",
    "images": "photos: all their regions, and their tags",
}

_TEXT = """\
# Vision-language training data without image-text pairs

Made by vlmixer with cross-modal CutMix (VLMixer, ICML 2022): words of sentences are replaced by image patches of the
same concept. The sentences and the photos are unrelated.

| | samples | shards | |
|---|---|---|---|
{counts}

| | |
|---|---|
{facts}

Words that were replaced, by concept: {replaced}.

## Load

```python
from datasets import load_dataset

data = load_dataset("out/shards", "{first}", split="train", streaming=True)
```

Put the path of this folder, or the name of its repository, in place of `out/shards`. A sample has `txt`, the sentence
or the tags; `json`, its record with mentions, patches, boxes and scores; `npy`, the features, a row per patch{picture}.
The tars are plain WebDataset tars.

## Licence

The sentences are whole, and the {cut} from the photos: the licences of both hold here, too.
{licence}
"""


def write_card(folder: str, shards: Sequence[Output], details: ShardsDetails, crops: bool) -> None:
    """Write README.md for the `shards` of a folder; `datasets.load_dataset(folder)` reads its head.

    crops: whether samples have pictures of their patches.
    """
    of_part = {name: [shard for shard in shards if shard.name.startswith(name)] for name in _RECORDS}
    found = {name: tars for name, tars in of_part.items() if tars}
    text = _TEXT.format(
        counts="\n".join(
            f"| `{name}` | {sum(tar.rows for tar in tars):,} | {len(tars):,} | {_WHAT[name]} |"
            for name, tars in found.items()
        ),
        facts="\n".join(f"| {name} | {value} |" for name, value in _facts(details, crops).items()),
        replaced=_replaced(details.replaced),
        first=next(iter(found), "mixed"),
        picture="; `jpg`, a picture of the patches" if crops else "",
        licence=LICENCE_OPEN,
        cut="patches are cut" if crops else "features are computed",
    )
    parts = {name: Part(f"{name}-*.tar", _fields(name, crops)) for name in found}
    files.publish_bytes(files.join(folder, CARD), dataset_card(parts, text))


def _facts(details: ShardsDetails, crops: bool) -> dict[str, str]:
    return {
        "detector": plain(details.detector) or "not known",
        "vocabulary": f"{plain(details.vocabulary)}, {len(details.concepts):,} concepts",
        "features": f"{details.feature_dim} × float16 per patch",
        "pictures of the patches": "JPEG" if crops else "none; `mix.crops: true` makes them",
        "seed": str(details.seed),
    }


def _replaced(replaced: Mapping[str, int]) -> str:
    """The concepts that were replaced most often, with their numbers."""
    met = sorted((name for name, number in replaced.items() if number), key=lambda name: (-replaced[name], name))
    if not met:
        return "none"
    shown = ", ".join(f"{plain(name)} {replaced[name]:,}" for name in met[:CONCEPTS_SHOWN])
    more = len(met) - CONCEPTS_SHOWN
    return f"{shown}, and {more:,} more concepts" if more > 0 else shown


def _fields(name: str, crops: bool) -> dict[str, Any]:
    """What the members of a sample hold, in the order of the tar."""
    patch = _PATCH | ({"crop": ["int64"]} if crops else {})
    members: dict[str, Any] = {"json": {**_RECORDS[name], "patches": [patch]}, "txt": "string", "npy": [["float16"]]}
    return members | ({"jpg": "image"} if crops else {})
