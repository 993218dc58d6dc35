"""Small text corpora for the tests of stage `tag`, and what the stage should make of them, by plain reckoning."""

import json
import random
from collections import Counter
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import yaml

from vlmixer.bank.concepts import load_vocabulary
from vlmixer.pipeline.commands.main import main
from vlmixer.pipeline.config import HARDLY_VISUAL, load_config
from vlmixer.pipeline.jobs.engine import Engine
from vlmixer.pipeline.jobs.tag import run_tag
from vlmixer.pipeline.text.readers.slices import source_id
from vlmixer.pipeline.text.tagger import Tagger
from vlmixer.pipeline.text.units import TagSizes

SMALL = TagSizes(find_bytes=2000, bucket_bytes=4000, rows_per_batch=8, parts_wanted=5)
"""Many units, batches and buckets for little text."""

NOUNS = ["a dog", "two dogs", "a cat", "a bear market", "kites", "cat food", "a tree", "the sea", "an orange shirt"]


def sentences(chance: random.Random, count: int) -> list[str]:
    """Captions, many of them twice or more often."""
    return [f"{chance.choice(NOUNS)} and {chance.choice(NOUNS)} on day {chance.randrange(3)}" for _ in range(count)]


def write_config(folder: Path, inputs: Sequence[Path | str], name: str = "config.yaml", **text: object) -> Path:
    """A config over these inputs."""
    path = folder / name
    settings = {"inputs": [str(entry) for entry in inputs], "spacy_model": "rules", **text}
    path.write_text(yaml.safe_dump({"vocabulary": "coco", "max_bad_fraction": 1.0, "text": settings}))
    return path


def tagged_rows(out: Path) -> list[dict]:
    """The rows of all parts in order."""
    return [row for path in sorted((out / "tagged").glob("part-*")) for row in pq.read_table(path).to_pylist()]


def reject_rows(out: Path) -> list[dict]:
    return [row for path in sorted((out / "rejects").glob("tag-*")) for row in pq.read_table(path).to_pylist()]


def counts(out: Path) -> dict:
    return json.loads((out / "tagged" / "manifest.json").read_text())["counts"]["sentences"]


def is_sound(out: Path) -> bool:
    return main(["verify", str(out)]) == 0


@cache
def tagger() -> Tagger:
    """The tagger of `write_config`'s configs."""
    return Tagger(load_vocabulary("coco"), "rules", HARDLY_VISUAL)


def tag(config: Path, out: Path, *, sizes: TagSizes = SMALL, overwrite: bool = False) -> None:
    """The stage, with units of these sizes, in this process."""
    settings = load_config(str(config), [], out=str(out))
    run_tag(settings, load_vocabulary(settings.vocabulary), Engine(1), overwrite=overwrite, sizes=sizes)


def reckoned(lines: Sequence[tuple[str, str]]) -> tuple[list[dict], Counter]:
    """The rows and the rejects by reason that sound sentences (id, text) give, one after the other."""
    rejects: Counter[str] = Counter()
    rows, known = [], set()
    for (key, text), found in zip(lines, tagger().tag([text for _, text in lines]), strict=True):
        if not (found.mentions or found.not_meant):
            rejects["no_mention"] += 1
        elif text in known:
            rejects["duplicate"] += 1
        elif not found.mentions:
            rejects["not_meant"] += 1
        else:
            fields = ("start", "end", "concept", "surface", "lemma")
            mentions = [{field: getattr(mention, field) for field in fields} for mention in found.mentions]
            rows.append({"sentence_id": key, "text": text, "mentions": mentions})
        if found.mentions or found.not_meant:
            known.add(text)
    return rows, rejects


def write_text_files(folder: Path) -> tuple[list[Path], list[tuple[str, str]]]:
    """Three files of 300 sentences in all, and the sentences with their ids."""
    chance = random.Random(3)
    paths, lines = [], []
    texts = sentences(chance, 300)
    for number in range(3):
        path = folder / f"{number}.txt"
        at = 0
        for text in texts[number * 100 : number * 100 + 100]:
            lines.append((f"{source_id(str(path))}-{at:012d}", text))
            at += len(text) + 1
        path.write_text("\n".join(texts[number * 100 : number * 100 + 100]) + "\n")
        paths.append(path)
    return paths, lines


def report_numbers(out: Path) -> dict[str, Any]:
    """The numbers of the stage's report, which must be that of the results that lie there."""
    found: dict[str, Any] = json.loads((out / "reports" / "tagging.json").read_text())
    manifest = json.loads((out / "tagged" / "manifest.json").read_text())
    report_of = found.pop("report_of")
    assert isinstance(report_of, dict)
    assert report_of["content_hash"] == manifest["content_hash"]
    return found
