"""The demo's page, on a small drawn world whose stages' results are written here: what is known of them is exact."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from tests.pipeline.report.small import (
    DIM,
    BankPatch,
    image,
    jpeg,
    make_bank,
    mention,
    mixed,
    patch,
    publish,
    read_page,
)

from vlmixer.artifacts import manifest, schemas
from vlmixer.artifacts.details import DetectorIdentity, RegionsDetails, ShardsDetails, TaggedDetails
from vlmixer.artifacts.manifest import Counts
from vlmixer.artifacts.samples import write_shard
from vlmixer.pipeline.demo import captions
from vlmixer.pipeline.demo.categories import CATEGORIES
from vlmixer.pipeline.demo.world import write_world
from vlmixer.pipeline.report.demo.page import DemoReport, gather, write_report
from vlmixer.pipeline.report.retrieval import Recall, Retrieval, RetrievalRow, conclusion
from vlmixer.pipeline.report.run import gather_run, write_run_report
from vlmixer.pipeline.report.stages import SCORES as SCORES_FILE

SEED, SENTENCES = 3, 120
NAMES = [[category.name] for category in CATEGORIES]


@pytest.fixture(scope="module")
def told() -> list[captions.Caption]:
    return list(captions.sentences(SEED, "sentences", SENTENCES))


TAGGED = TaggedDetails("rules", "drawn", "-", mentions={}, not_meant={}, sources={}, not_split=0)
REGIONS = RegionsDetails(
    detector=DetectorIdentity("drawn", weights="-", device="cpu", options={}),
    feature_dim=DIM,
    vocabulary="drawn",
    vocabulary_hash="-",
    regions={},
    labels_not_in_vocabulary=(),
    images_by_part=(),
    not_images=0,
)
SHARDS = ShardsDetails(
    feature_dim=DIM,
    concepts=(),
    vocabulary="drawn",
    vocabulary_hash="-",
    detector="drawn",
    bank="-",
    replaced={},
    seed=0,
    settings={},
)


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory, told: list[captions.Caption]) -> Path:
    """A tagger that finds all names and the first look-alike; a detector that finds every second thing, and calls the
    last of these something else."""
    folder = tmp_path_factory.mktemp("demo")
    write_world(folder / "world", seed=SEED, photos=3, sentences=SENTENCES, pairs=1)
    _write_tagged(folder / "tagged", told)
    _write_regions(folder / "regions", folder / "world" / "boxes.jsonl")
    make_bank(
        folder / "bank", NAMES, [BankPatch("p-dog", "dog", jpeg("red")), BankPatch("p-kite", "kite", jpeg("blue"))]
    )
    (folder / "shards").mkdir()
    samples = [mixed(f"m{n}", "a dog", [mention("a dog", "dog")], [patch("p-dog", "dog", 0)]) for n in range(3)]
    with open(folder / "shards" / "mixed-000000.tar", "wb") as file:
        write_shard(file, samples)
    with open(folder / "shards" / "images-000000.tar", "wb") as file:
        write_shard(file, [image("i0", [patch("p-kite", "kite")])])
    publish(folder / "shards", "mix", [], {"images": Counts(1, 1), "views": Counts(4, 3, {"no_patch": 1})}, SHARDS)
    (folder / "run").mkdir()
    steps = [{"step": step, "masked_language": 9 - step, "masked_tags": 0.0, "contrastive": 1.5} for step in (1, 2, 3)]
    (folder / "run" / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in steps))
    return folder


def _write_tagged(folder: Path, told: Sequence[captions.Caption]) -> None:
    fooled = next(caption for caption in told if caption.decoys).decoys[0]
    rows: list[dict[str, object]] = []
    for number, caption in enumerate(told):
        names = [*caption.names, *(decoy for decoy in caption.decoys if decoy is fooled)]
        mentions = [
            {"start": name.start, "end": name.end, "concept": name.category, "surface": "-", "lemma": "-"}
            for name in sorted(names, key=lambda name: name.start)
        ]
        if mentions:
            rows.append({"sentence_id": str(number), "text": caption.text, "mentions": mentions})
    with schemas.writing_parquet(str(folder / "part-00000.parquet"), schemas.TAGGED) as writer:
        writer.write_table(schemas.rows_to_table(rows, schemas.TAGGED))
    outputs = [manifest.output_of(str(folder), "part-00000.parquet", len(rows))]
    left = len(told) - len(rows)
    publish(folder, "tag", outputs, {"sentences": Counts(len(told), len(rows), {"no_mention": left})}, TAGGED)


def _write_regions(folder: Path, boxes: Path) -> None:
    things = [
        (entry["image"], thing["label"], thing["xyxy"])
        for entry in map(json.loads, boxes.read_text().splitlines())
        for thing in entry["boxes"]
    ][::2]
    things[-1] = (things[-1][0], "other", things[-1][2])
    schema = schemas.regions(DIM)
    rows = [
        {
            "image_id": name, "patch_id": f"{name}-{number}", "box": box, "concept": label, "score": 0.75,
            "feature": [0.0] * DIM, "crop": b"", "width": 256, "height": 256, "source": f"world/photos/{name}",
            "key": "", "url": "", "license": "",
        }
        for number, (name, label, box) in enumerate(things)
    ]  # fmt: skip
    with schemas.writing_parquet(str(folder / "part-00000.parquet"), schema) as writer:
        writer.write_table(pa.Table.from_pylist(rows, schema=schema))
    publish(
        folder,
        "detect",
        [manifest.output_of(str(folder), "part-00000.parquet", len(rows))],
        {"images": Counts(3, 3)},
        REGIONS,
    )


def scores(values: dict[str, tuple[float, float, float]]) -> dict[str, Any]:
    """Scores as RetrievalReport.to_json gives them, after a round trip through JSON: method → value, low, high."""
    estimates = {name: dict(zip(("value", "low", "high"), value, strict=True)) for name, value in values.items()}
    entries = [
        {"method": name, "direction": direction, "recall": dict.fromkeys((1, 5, 10), estimate),
         **dict.fromkeys(("median_rank", "log2_rank", "ahead"), estimate)}
        for direction in ("text to image", "image to text")
        for name, estimate in estimates.items()
    ]  # fmt: skip
    loaded: dict[str, Any] = json.loads(json.dumps({"images": 200, "captions": 1000, "scores": entries}))
    return loaded


SCORES = scores(
    {"regions + tags": (30, 28, 32), "regions": (9, 8, 10), "tag overlap": (20, 18, 22), "chance": (0.5, 0, 1)}
)


@pytest.fixture(scope="module")
def report(out: Path) -> DemoReport:
    return gather(str(out), str(out / "world"), SCORES, SEED)


def test_counts_come_from_the_manifests(report: DemoReport) -> None:
    counts = {(count.stage, count.kind): (count.read, count.written, count.rejected) for count in report.counts}
    assert counts["detect", "images"] == (3, 3, ())
    assert counts["mix", "views"] == (4, 3, (("the bank has no patch for any mentioned concept", 1),))
    assert report.steps == 3


def test_the_tagger_is_measured_against_the_grammar(report: DemoReport, told: list[captions.Caption]) -> None:
    names = sum(len(caption.names) for caption in told)
    lookalikes = sum(len(caption.decoys) for caption in told)
    tagging = report.tagging.score
    assert tagging.sentences == SENTENCES
    assert (tagging.found.right, tagging.found.total) == (names, names)
    assert (tagging.correct.right, tagging.correct.total) == (names, names + 1)
    assert (tagging.fooled.right, tagging.fooled.total) == (1, lookalikes)
    assert lookalikes > 2


def test_look_alikes_are_marked_apart_from_mentions(report: DemoReport, told: list[captions.Caption]) -> None:
    texts = {caption.text: caption for caption in told}
    words = set()
    for number, spans in enumerate(report.tagging.lookalikes):
        caption = texts["".join(span.text for span in spans)]
        marked = [span.text for span in spans if span.kind == "lookalike"]
        expected = [caption.text[decoy.start : decoy.end] for decoy in caption.decoys]
        assert marked == (expected[1:] if number == 0 else expected)
        words.update(expected)
    assert len(words) >= len(report.tagging.lookalikes)
    assert all(span.kind != "lookalike" for spans in report.tagging.sentences for span in spans)
    assert len(report.tagging.sentences) == 8


def test_the_detector_is_measured_against_the_gold_boxes(report: DemoReport, out: Path) -> None:
    lines = (out / "world" / "boxes.jsonl").read_text().splitlines()
    things = sum(len(json.loads(line)["boxes"]) for line in lines)
    found = (things + 1) // 2
    detection = report.detection
    assert (detection.correct.right, detection.correct.total) == (found - 1, found)
    assert (detection.found.right, detection.found.total) == (found - 1, things)
    boxes = [box for scene in report.scenes for box in scene.boxes]
    assert len(boxes) == found
    assert all(box.left >= 0 and box.left + box.width < 100.01 for box in boxes)


def test_a_loss_that_was_off_has_no_curve(report: DemoReport) -> None:
    assert [(curve.title, curve.first, curve.last) for curve in report.curves] == [
        ("Sentence against its mixed view", 1.5, 1.5), ("Masked words of mixed sentences", 8.0, 6.0)
    ]  # fmt: skip


def test_scores_stand_with_the_network_first(report: DemoReport) -> None:
    rows = report.retrieval.directions["image to text"]
    assert [(row.method, row.trained) for row in rows] == [
        ("regions and tags, trained", True),
        ("regions alone, trained", True),
        ("tag overlap, no training", False),
        ("chance", False),
    ]
    assert rows[0].recall == (Recall(30, 28, 32),) * 3
    assert (report.retrieval.images, report.retrieval.captions) == (200, 1000)


@pytest.mark.parametrize(
    ("ours", "says"),
    [
        ((30.0, 26.0, 34.0), "adds to what the tags say"),
        ((23.0, 19.0, 27.0), "does not settle"),
        ((9.0, 7.0, 11.0), "has not caught up"),
    ],
)
def test_the_conclusion_follows_the_intervals(ours: tuple[float, float, float], says: str) -> None:
    rows = tuple(
        RetrievalRow(method, True, (Recall(*recall),), 1.0)
        for method, recall in (
            ("regions and tags, trained", ours),
            ("tag overlap, no training", (20.0, 17.0, 23.0)),
            ("chance", (0.5, 0.1, 0.9)),
        )
    )
    told = conclusion(Retrieval(200, 1000, {"text to image": rows}))
    assert f"For {ours[0]:.1f} % of the sentences" in told
    assert says in told


def test_the_page_shows_it_all_loads_nothing_and_is_the_same_twice(tmp_path: Path, report: DemoReport) -> None:
    for name in ("one.html", "two.html"):
        write_report(str(tmp_path / name), report)
    assert (tmp_path / "one.html").read_bytes() == (tmp_path / "two.html").read_bytes()
    page = read_page(tmp_path / "one.html")
    assert page.loads() == []
    assert len(page.all("img", inside="scene")) == 3
    assert len(page.all("found")) == sum(len(scene.boxes) for scene in report.scenes)
    assert len(page.all("img", inside="pasted")) == 3
    assert len(page.all("concept")) == len(NAMES)
    assert len(page.all("polyline")) == 4
    assert report.conclusion in page.all("main")[0].text
    cells = [cell.text for cell in page.all("td")]
    assert cells[:6] == ["tag", "sentences", "120", str(report.counts[0].written), str(120 - report.counts[0].written),
                         f"no word of the vocabulary ({120 - report.counts[0].written})"]  # fmt: skip


def test_another_seeds_world_is_refused(out: Path) -> None:
    with pytest.raises(ValueError, match=f"not the world of seed {SEED + 1}"):
        gather(str(out), str(out / "world"), SCORES, SEED + 1)


def test_the_same_folders_give_the_same_report(out: Path, report: DemoReport) -> None:
    assert gather(str(out), str(out / "world"), SCORES, SEED) == report


def test_a_users_run_has_the_same_page_without_a_world(out: Path, report: DemoReport) -> None:
    run = gather_run(str(out))
    assert (run.counts, run.curves, run.mixed, run.scenes) == (
        report.counts,
        report.curves,
        report.mixed,
        report.scenes,
    )
    assert run.retrieval is None
    assert [(concept.name, concept.count) for concept in run.concepts] == [("dog", 1), ("kite", 1)]
    page = Path(write_run_report(str(out)))
    assert page == out / "reports" / "run.html"
    headings = ["The chain", "Sentences and their mentions", "What the detector sees", "The patch bank",
                "Mixed sentences", "Training"]  # fmt: skip
    assert re.findall(r"<h2>([A-Z][^<]+)</h2>", page.read_text()) == headings
    (out / "reports" / SCORES_FILE).write_text(json.dumps(SCORES))
    write_run_report(str(out))
    assert re.findall(r"<h2>([A-Z][^<]+)</h2>", page.read_text()) == [*headings, "Retrieval on held-out pairs"]
    for bad in ("damaged", "{}", json.dumps(SCORES | {"scores": [3]}), json.dumps(SCORES | {"images": "x"})):
        (out / "reports" / SCORES_FILE).write_text(bad)
        assert gather_run(str(out)).retrieval is None


@pytest.mark.parametrize(
    "line", [b'{"step": 20, "lo', b"\xff", b"[]", b'{"step": null}', b'{"step": 1e999}', b'{"step": {}}']
)
def test_a_damaged_log_is_read_up_to_the_damage(out: Path, tmp_path: Path, line: bytes) -> None:
    for name in ("tagged", "regions", "bank", "shards"):
        (tmp_path / name).symlink_to(out / name)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "log.jsonl").write_bytes(
        b'{"step": 10, "mlm": 2.5}\n{"epoch": 1}\n' + line + b'\n{"step": 30}\n'
    )
    assert gather_run(str(tmp_path)).steps == 10


def test_a_run_without_training_has_no_curves(out: Path, tmp_path: Path) -> None:
    for name in ("tagged", "regions", "bank", "shards"):
        (tmp_path / name).symlink_to(out / name)
    run = gather_run(str(tmp_path))
    assert (run.steps, run.curves) == (0, ())
    assert "<h2>Training</h2>" not in Path(write_run_report(str(tmp_path))).read_text()
