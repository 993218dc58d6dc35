"""The stage `mix`: what its settings do to the shards, what it says of them, and a sample reproduced from its key."""

import gzip
import io
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from tests.pipeline.jobs.small_corpus import Corpus, contents, make_corpus, run
from tests.pipeline.jobs.small_text import tag

from vlmixer.artifacts import manifest
from vlmixer.artifacts.errors import CallError, UserError
from vlmixer.artifacts.samples import ImageSample, MixedSample, read_shard
from vlmixer.bank.store import PatchBank
from vlmixer.pipeline.commands.main import main
from vlmixer.pipeline.mix import reproduce as reproducing
from vlmixer.pipeline.mix.reproduce import reproduce, to_text
from vlmixer.pipeline.text.units import TagSizes


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Corpus:
    """A corpus with a run up to the bank in `out`."""
    made = make_corpus(tmp_path_factory.mktemp("mix"))
    assert run(made.write_config(), made.folder / "out") == 0
    return made


@pytest.fixture
def mixed_with(corpus, tmp_path):
    """Mixes afresh with other settings; gives the folder and its samples."""

    def mix(*arguments: str, **settings: object):
        out = corpus.folder / "out"
        assert run(corpus.write_config("other.yaml", mix=settings), out, "--overwrite", *arguments, command="mix") == 0
        return out, samples_of(out)

    return mix


def samples_of(out: Path) -> list[MixedSample | ImageSample]:
    return [sample for shard in sorted((out / "shards").glob("*.tar")) for sample in read_shard(str(shard))]


def mixed_of(samples) -> list[MixedSample]:
    return [sample for sample in samples if isinstance(sample, MixedSample)]


def test_each_setting_reaches_the_shards(mixed_with):
    _, samples = mixed_with(replace_probability=1.0, max_replaced=1, patches_only=0.0, patches_per_plural=3)
    mixed = mixed_of(samples)
    assert {len(sample.replaced) for sample in mixed} == {1}
    assert not any(sample.patches_only for sample in mixed)
    wanted = Counter((sample.mentions[sample.replaced[0]].surface[-1] == "s", len(sample.patches)) for sample in mixed)
    assert set(wanted) == {(False, 1), (True, 3)}

    _, samples = mixed_with(replace_probability=1.0, one_image=True, min_replaced=0)
    assert all(len({patch.image_id for patch in sample.patches}) == 1 for sample in mixed_of(samples))

    out, samples = mixed_with(lacking="reject", views=3)
    assert {sample.view for sample in mixed_of(samples)} == {0, 1, 2}
    assert not any(mention.concept == "horse" for sample in mixed_of(samples) for mention in sample.mentions)
    assert json.loads((out / "shards" / "manifest.json").read_text())["details"]["settings"]["lacking"] == "reject"


def test_views_of_a_sentence_differ_and_keys_are_unique(mixed_with):
    _, samples = mixed_with(views=4)
    assert len({sample.key for sample in samples}) == len(samples)
    of: dict[str, list[Any]] = {}
    for sample in mixed_of(samples):
        of.setdefault(sample.sentence_id, []).append((sample.replaced, [patch.patch_id for patch in sample.patches]))
    assert all(len(views) == 4 for views in of.values())
    assert sum(len({str(view) for view in views}) > 1 for views in of.values()) > 0.9 * len(of)


def test_crops_are_the_patches_pictures(mixed_with):
    out, samples = mixed_with(crops=True, patches_per_word=2)
    bank = PatchBank.open(str(out / "bank"))
    assert {type(sample) for sample in samples} == {MixedSample, ImageSample}
    for sample in samples:
        with Image.open(io.BytesIO(sample.picture)) as picture:
            pixels = np.asarray(picture.convert("RGB"), np.float32)
        for patch in sample.patches:
            left, top, right, bottom = patch.crop
            assert (right - left, bottom - top) == (16, 16)
            if isinstance(sample, MixedSample):
                own = np.asarray(bank.patch(patch.patch_id).picture, np.float32)
                assert abs(pixels[top:bottom, left:right].mean((0, 1)) - own.mean((0, 1))).max() < 12


def test_image_shards_are_of_even_size_and_hold_every_image_once(mixed_with):
    out, samples = mixed_with(samples_per_shard=40)
    sizes = json.loads((out / "shards" / ".nv-meta" / ".info.json").read_text())["shard_counts"]
    images = [size for name, size in sizes.items() if name.startswith("images-")]
    assert sum(images) == 150
    assert set(images) <= {37, 38}
    keys = [sample.key for sample in samples if isinstance(sample, ImageSample)]
    regions = [row for part in sorted((out / "regions").glob("*.parquet")) for row in pq.read_table(part).to_pylist()]
    order = list(dict.fromkeys(row["image_id"] for row in regions))
    assert sorted(keys) == sorted(order)
    assert keys != order


def test_the_summary_counts_what_is_in_the_shards(mixed_with, capsys):
    out, samples = mixed_with(views=2)
    printed = capsys.readouterr().out
    summary = json.loads((out / "reports" / "mixing.json").read_text())
    mixed = mixed_of(samples)
    bank = PatchBank.open(str(out / "bank"))
    tagged = [row for part in sorted((out / "tagged").glob("*.parquet")) for row in pq.read_table(part).to_pylist()]
    mentions = Counter(mention["concept"] for row in tagged for mention in row["mentions"])
    assert summary["mentions"] == 2 * mentions.total()
    assert summary["grounded"] == 2 * sum(number for name, number in mentions.items() if bank.counts[name])
    by_replaced = Counter(str(len(sample.replaced)) for sample in mixed)
    assert summary["by_replaced"] == dict(by_replaced)
    uses = Counter(patch.patch_id for sample in mixed for patch in sample.patches)
    assert (summary["used"], summary["pasted"]) == (len(uses), uses.total())
    assert summary["reuse"]["most"] == max(uses.values())
    by_row = np.load(out / "shards" / "uses.npy")
    assert {bank.record(int(row)).patch_id: by_row[row] for row in np.flatnonzero(by_row)} == uses
    assert all(uses[patch_id] == number for patch_id, number in summary["most_used"].items())
    assert summary["concepts"]["dog"]["mentions"] == 2 * mentions["dog"]
    assert summary["patches_only"] == len(mixed)
    assert f"{len(mixed):,} mixed samples of {2 * len(tagged):,} views" in printed
    assert f"{summary['by_replaced']['1']:,} have 1 (" in printed
    assert "<title>Mixed samples</title>" in (out / "reports" / "mixing.html").read_text()


def test_a_limit_of_uses_reaches_shards_rejects_and_summary(mixed_with, capsys):
    out, samples = mixed_with(max_uses=1, views=2)
    printed = capsys.readouterr().out
    summary = json.loads((out / "reports" / "mixing.json").read_text())
    bank = PatchBank.open(str(out / "bank"))
    limited = {name for name, entry in summary["concepts"].items() if entry["too_few"]}
    assert limited == {name for name, entry in summary["concepts"].items() if entry["mentions"] > entry["patches"] > 0}
    uses = Counter(patch.concept for sample in mixed_of(samples) for patch in sample.patches)
    assert limited
    assert all(uses[name] <= 1.5 * bank.counts[name] for name in limited)
    rejected = summary["counts"]["rejected"]
    assert rejected["rare_concept"] > 0
    assert summary["counts"]["read"] == len(mixed_of(samples)) + sum(rejected.values())
    assert "few patches for many mentions" in printed
    assert "Few patches for many mentions" in (out / "reports" / "mixing.html").read_text()


def test_settings_do_not_depend_on_workers(corpus, mixed_with):
    settings = {"crops": True, "patches_per_word": 2, "samples_per_shard": 40, "max_uses": 3}
    out, _ = mixed_with(**settings)
    once = contents(out)
    mixed_with("--workers", "2", **settings)
    assert contents(out) == once


def same(one, other):
    plain = [vars(sample) | {"features": sample.features.tolist()} for sample in (one, other)]
    return plain[0] == plain[1]


@pytest.mark.parametrize(
    "settings", [{"max_uses": 2}, {"views": 3, "crops": True, "sampler": "score", "patches_per_word": 2}]
)
def test_every_sample_is_reproduced_from_its_key(mixed_with, settings):
    out, samples = mixed_with(**settings)
    stored = {sample.key: (shard.name, sample) for shard in sorted((out / "shards").glob("mixed-*.tar"))
             for sample in read_shard(str(shard))}  # fmt: skip
    for key in sorted(stored)[::40]:
        found = reproduce(str(out), key)
        assert same(found.sample, stored[key][1])
        assert found.shard == stored[key][0]
        assert found.source.endswith(f"captions.txt at {key.split('-')[1]}")
        replaced = [index for index, why in enumerate(found.reasons) if why.reason.startswith("replaced")]
        assert isinstance(found.sample, MixedSample)
        assert replaced == list(found.sample.replaced)
    images = [sample for sample in samples if isinstance(sample, ImageSample)]
    assert same(reproduce(str(out), images[7].key).sample, images[7])


def test_a_sentence_is_found_by_looking_into_a_few_parts(corpus, tmp_path, monkeypatch):
    lines = corpus.captions.read_text().splitlines()
    (tmp_path / "b.txt").write_text("\n".join(lines[:90]))
    (tmp_path / "c.jsonl").write_text("\n".join(json.dumps({"caption": line}) for line in lines[90:150]))
    (tmp_path / "d.txt.gz").write_bytes(gzip.compress("\n".join(lines[150:230]).encode()))
    pq.write_table(pa.table({"caption": lines[230:]}), tmp_path / "a.parquet", row_group_size=25)
    inputs = [str(tmp_path / name) for name in ("c.jsonl", "b.txt", "a.parquet", "d.txt.gz")]
    config = corpus.write_config("kinds.yaml", text={"inputs": inputs, "field": "caption"})
    out = tmp_path / "out"
    tag(config, out, sizes=TagSizes(rows_per_batch=16))
    parts = sorted((out / "tagged").glob("*.parquet"))
    assert len(parts) > 16
    looked: list[str] = []
    ids = reproducing._ids
    monkeypatch.setattr(reproducing, "_ids", lambda folder, part: looked.append(part) or ids(folder, part))
    for row in (row for part in parts for row in pq.read_table(part).to_pylist()):
        looked.clear()
        assert reproducing._tagged_row(str(out), row["sentence_id"]) == row
        assert len(looked) <= 7
    for wrong in ("0" * 12 + "-" + "0" * 12, "f" * 12 + "-000000000007", ""):
        with pytest.raises(CallError, match="no such sentence"):
            reproducing._tagged_row(str(out), wrong)


def test_show_tells_why(mixed_with, capsys, tmp_path):
    out, samples = mixed_with(max_replaced=1)
    sample = next(sample for sample in mixed_of(samples) if len(sample.mentions) == 2)
    capsys.readouterr()
    page = tmp_path / "page.html"
    assert main(["show", str(out), "--key", sample.key, "--why", "--html", str(page)]) == 0
    said = capsys.readouterr().out
    word = sample.mentions[sample.replaced[0]].surface
    assert f"[{word}]" in said
    assert said.count("replaced: its draw ") == 1
    assert said.count("kept: its draw ") == 1
    assert page.read_text().count('class="why"') == 2
    assert main(["show", str(out / "shards"), "--key", sample.key, "--why", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["key"] == sample.key
    assert len(shown["why"]) == 2
    assert to_text(reproduce(str(out), sample.key), why=False).count("\n") == 4 + len(sample.patches)


def test_unknown_keys_and_sentences_without_a_sample(mixed_with):
    out, samples = mixed_with(lacking="reject")
    rows = [row for part in (out / "rejects").glob("mix-*.parquet") for row in pq.read_table(part).to_pylist()]
    for row in rows[:1]:
        with pytest.raises(CallError, match="this sentence has no sample: lacking_patch"):
            reproduce(str(out), f"{row['source']}-00")
    key = mixed_of(samples)[0].key
    for wrong in (key[:-2] + "07", key[:-2] + "xx", "0123456789ab-000000000000-00", "0123456789abcdef"):
        with pytest.raises(CallError):
            reproduce(str(out), wrong)
    with pytest.raises(CallError, match="Give its --key"):
        main(["show", str(out), "--why", "--debug"])


def test_a_sample_is_not_made_from_another_bank(mixed_with, tmp_path):
    out, samples = mixed_with()
    description = manifest.read(str(out / "shards"))
    description.inputs[2] = type(description.inputs[2])("bank", 1, "another")
    moved = out / "shards" / "manifest.json"
    kept = moved.read_bytes()
    manifest.publish(str(out / "shards"), description)
    try:
        with pytest.raises(UserError, match="made from another bank"):
            reproduce(str(out), mixed_of(samples)[0].key)
    finally:
        moved.write_bytes(kept)
