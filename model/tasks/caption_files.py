"""Photos and their captions, from the files that captioning and retrieval are distributed in.

COCO's captions (images, annotations), Karpathy's dataset_coco.json and dataset_flickr30k.json (images with sentences
and a split), and lines of {"image": …, "captions": […]}, or {"image": …, "caption": …}.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

from vlmixer.artifacts.errors import UserError
from vlmixer.artifacts.rejects import RejectLog
from vlmixer.artifacts.texts import encodable
from vlmixer.model.tasks.base import Example
from vlmixer.model.tasks.files import Entry, entries, expand, identifier

TRAINING_SPLITS = ("train", "restval")
"""Karpathy's; restval is the rest of COCO's validation photos, which everybody trains on."""
_FORMATS = (
    "Expected COCO's captions (annotations with image_id and caption), Karpathy's dataset (images with sentences), or "
    'lines of {"image": …, "captions": […]}.'
)


def read_captions(
    paths: Sequence[str], splits: Collection[str], log: RejectLog, single: bool, uncaptioned: bool = False
) -> tuple[list[Example], int]:
    """The examples of these files, and how many there are with those in `log`.

    splits: those to read, of files that have splits. single: one example per caption, whose text it is; else one per
    photo. The answers of an example are all captions of its photo. uncaptioned: whether files that list photos without
    any caption, as COCO's image_info_test2014.json, are read, too.

    Raises UserError for other files, and if no photo is of these splits.
    """
    before = log.total
    reading = _Reading(log)
    others: set[str] = set()
    for path in expand(paths, "task.train"):
        some = False
        for entry in entries(path):
            if not isinstance(entry.value, dict) or entry.name in ("info", "licenses"):
                continue
            some = True
            split = entry.text("split")
            if split and split not in splits:
                others.add(split)
            else:
                reading.add(entry)
        if not some:
            raise UserError(f"{path}: no captions in it. {_FORMATS}")
    if not reading.photos and others:
        raise UserError(
            f"{', '.join(paths)}: no photo is of the split {' or '.join(splits)}. Splits in it: "
            f"{', '.join(sorted(others))}. Set task.split to one of them."
        )
    if not reading.photos and log.total == before and not uncaptioned:
        raise UserError(f"{', '.join(paths)}: photos without captions. Name the file with the captions, too.")
    examples = list(reading.examples(single))
    return examples, len(examples) + log.total - before


@dataclass
class _Photo:
    """A photo while its files are read. `image`: the name that finds it. `captions`: (id, text), in order."""

    path: str
    image: str
    captions: list[tuple[str, str]] = field(default_factory=list)


class _Reading:
    """The photos by id, as far as the files were read."""

    def __init__(self, log: RejectLog) -> None:
        self.photos: dict[str, _Photo] = {}
        self._log = log
        self._file_names: dict[str, str] = {}
        self._whole: set[str] = set()
        self._caption_ids: set[str] = set()

    def add(self, entry: Entry) -> None:
        """Take what the entry says of a photo. Raises UserError if it is none of a caption."""
        if entry.name == "images" and "sentences" not in entry.value:  # COCO's; the captions are in the annotations
            if key := entry.identifier("id"):
                self._file_names[key] = entry.text("file_name") or key
            return
        image = entry.identifier("image", "filename", "file_name", "image_id")
        key = entry.identifier("image_id", "cocoid", "imgid", "image")
        captions = _captions(entry)
        if not image or not key or captions is None:
            raise UserError(f"{entry.where}: not a caption. {_FORMATS}")
        if "caption" not in entry.value:  # an entry for all captions of its photo
            if key in self._whole:
                self._log.add(entry.path, key, "duplicate_id", "the photo occurs twice; the first is used")
                return
            self._whole.add(key)
        photo = self.photos.setdefault(key, _Photo(entry.path, image))
        for number, text in captions:
            name = number or f"{key}#{len(photo.captions)}"
            if not isinstance(text, str) or not text.strip():
                self._log.add(entry.path, name, "empty_answer", f"photo {key}: a caption that is empty or not a text")
            elif name in self._caption_ids:
                self._log.add(entry.path, name, "duplicate_id", "the caption's id occurs twice; the first is used")
            else:
                self._caption_ids.add(name)
                photo.captions.append((name, " ".join(encodable(text).split())))

    def examples(self, single: bool) -> Iterator[Example]:
        """See `read_captions`."""
        if not self.photos:
            yield from (Example(key, (name,), "") for key, name in self._file_names.items())
        for key, photo in self.photos.items():
            image = (self._file_names.get(key, photo.image),)
            answers = tuple(text for _, text in photo.captions)
            if not answers:
                self._log.add(photo.path, key, "no_answer", "a photo without a caption")
            elif single:
                yield from (Example(number, image, text, answers) for number, text in photo.captions)
            else:
                yield Example(key, image, "", answers)


def _captions(entry: Entry) -> list[tuple[str, object]] | None:
    """(id, text) of the entry's captions, the id "" if there is none; None if the entry has no place for captions."""
    sentences, captions = entry.field("sentences"), entry.field("captions")
    if isinstance(sentences, list):
        return [(identifier(each.get("sentid")), each.get("raw")) for each in sentences if isinstance(each, dict)]
    if isinstance(captions, list):
        return [("", caption) for caption in captions]
    if "caption" in entry.value:
        return [(entry.identifier("id") if entry.name == "annotations" else "", entry.field("caption"))]
    return None
