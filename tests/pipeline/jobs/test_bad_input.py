"""Each kind of bad input has its defined result: rejected with a reason and counted, or one clear error."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from tests.pipeline.jobs.small_corpus import PHOTOS, Corpus, run

from vlmixer.artifacts.stages import DETECT
from vlmixer.bank.concepts import make_vocabulary
from vlmixer.pipeline.jobs.detect import report_unmapped
from vlmixer.pipeline.units.stage import Stage


def reject_rows(out: Path, stage: str) -> dict[str, tuple[str, str]]:
    """(reason, key) by the name of the source."""
    rows = [row for path in (out / "rejects").glob(f"{stage}-*.parquet") for row in pq.read_table(path).to_pylist()]
    return {f"{Path(row['source']).name}@{row['key']}": row["reason"] for row in rows}


def counts(out: Path, folder: str) -> dict:
    return json.loads((out / folder / "manifest.json").read_text())["counts"]


def test_bad_images_are_rejected_one_by_one(corpus: Corpus):
    out = corpus.folder / "out"
    photos = corpus.photos
    whole = (photos / "0000.jpg").read_bytes()
    (photos / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (photos / "empty.jpg").write_bytes(b"")
    (photos / "text.jpg").write_text("not a picture")
    (photos / "folder.jpg").mkdir()
    (photos / "bright.jpg").write_bytes(_jpeg(np.full((32, 32, 3), 255, np.uint8)))
    (photos / "dark.jpg").write_bytes(_jpeg(np.zeros((32, 32, 3), np.uint8)))
    # A PNG header that promises 0 × 16 pixels.
    (photos / "zero.png").write_bytes(
        bytes.fromhex("89504e470d0a1a0a0000000d49484452000000000000001008020000004d00f2a30000000049454e44ae426082")
    )
    config = corpus.write_config(
        images={"inputs": [str(photos / "*.jpg"), str(photos / "*.png")]}, max_bad_fraction=0.1
    )
    assert run(config, out, command="detect") == 0
    assert reject_rows(out, "detect") == {
        "cut.jpg@": "truncated_image",
        "empty.jpg@": "empty_file",
        "text.jpg@": "not_an_image",
        "folder.jpg@": "unreadable_file",
        "bright.jpg@": "failed_in_detector",
        "dark.jpg@": "no_region",
        "zero.png@": "zero_pixels",
    }
    assert counts(out, "regions")["images"]["read"] == PHOTOS + 7
    assert counts(out, "regions")["images"]["written"] == PHOTOS


def test_neighbours_of_bad_images_keep_their_regions(corpus: Corpus):
    clean, spoiled = corpus.folder / "clean", corpus.folder / "spoiled"
    assert run(corpus.write_config(), clean, command="detect") == 0
    (corpus.photos / "bright.jpg").write_bytes(_jpeg(np.full((32, 32, 3), 255, np.uint8)))
    assert run(corpus.write_config(), spoiled, command="detect") == 0

    def rows(out: Path) -> list[dict]:
        found = [row for path in (out / "regions").glob("part-*") for row in pq.read_table(path).to_pylist()]
        return sorted(found, key=lambda row: row["patch_id"])

    assert rows(clean) == rows(spoiled)


def _jpeg(pixels: np.ndarray) -> bytes:
    import io

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def test_bad_text_is_rejected_line_by_line(corpus: Corpus):
    out = corpus.folder / "out"
    texts = corpus.folder / "texts"
    texts.mkdir()
    good = "".join(f"a dog number {number}\n" for number in range(100)).encode()
    (texts / "a.txt").write_bytes(good + b"a caf\xe9 with a dog\n" + b"\n" + b"nothing of note\n" + b"x" * 2000 + b"\n")
    (texts / "b.txt").write_bytes(b"")
    config = corpus.write_config(text={"inputs": [str(texts / "*.txt")]})
    assert run(config, out, command="tag") == 0
    after = len(good)
    assert reject_rows(out, "tag") == {
        f"a.txt@{after}": "not_utf8",
        f"a.txt@{after + 18}": "empty_line",
        f"a.txt@{after + 19}": "no_mention",
        f"a.txt@{after + 35}": "too_long",
        "b.txt@": "empty_file",
    }
    assert counts(out, "tagged")["sentences"]["read"] == 105
    assert counts(out, "tagged")["sentences"]["written"] == 100


def test_mostly_bad_input_stops_and_goes_on_when_allowed(corpus: Corpus, capsys):
    out = corpus.folder / "out"
    for number in range(30):
        (corpus.photos / f"broken-{number}.jpg").write_bytes(b"broken")
    assert run(corpus.write_config(), out, command="detect") == 1
    said = capsys.readouterr().err
    assert "30 of 180 images were bad (30 not_an_image), but max_bad_fraction allows only 5%" in said
    assert not (out / "regions" / "manifest.json").exists()
    stats = {path: path.stat().st_mtime_ns for path in (out / "regions").glob("part-*")}
    assert run(corpus.write_config("lax.yaml", max_bad_fraction=0.5), out, command="detect") == 0
    assert {path: path.stat().st_mtime_ns for path in (out / "regions").glob("part-*")} == stats


@pytest.mark.parametrize(
    ("sections", "code", "message"),
    [
        ({"text": {"inputs": ["no/such/*.txt"]}}, 2, "text.inputs: nothing matches 'no/such/*.txt'"),
        ({"images": {"inputs": ["no/such.jpg"]}}, 2, "images.inputs: nothing matches 'no/such.jpg'"),
        ({"text": {"inputs": []}}, 2, "text.inputs: empty"),
        ({"images": {"inputs": []}}, 2, "images.inputs: empty"),
        ({"images": {"detector": "quadrants:Missing"}}, 2, "has no class 'Missing'"),
        ({"images": {"detector": "nowhere:Missing"}}, 2, "no module 'nowhere'"),
        (
            {"images": {"detector": "yolo"}},
            2,
            "Expected torchvision:NAME, detectron2:CONFIG, transformers:NAME, boxes:FILE, tsv:FILE, demo",
        ),
        ({"images": {"weights": "no/such.pth"}}, 2, "images.weights: no such file: no/such.pth"),
        ({"images": {"detector_options": {"dealy": 1}}}, 2, "unexpected keyword argument 'dealy'"),
        ({"images": {"detector_options": {"broken": "shape"}}}, 1, "Quadrants.detect gave boxes, scores"),
        ({"images": {"detector_options": {"broken": "nan"}}}, 1, "bad_feature"),
        ({"images": {"score_threshold": 0.999}}, 1, "no image has a region"),
        ({"vocabulary": "no/such.txt"}, 2, "vocabulary: no such file"),
        ({"text": {"spacy_model": "no_such_model"}}, 2, "cannot load 'no_such_model'"),
        ({"mix": {"veiws": 2}}, 2, "unknown key 'mix.veiws'; did you mean 'views'?"),
        ({"mix": {"views": 0}}, 2, "mix.views: expected a value from 1"),
    ],
)
def test_what_a_user_gets_wrong_is_one_message(corpus: Corpus, capsys, sections, code, message):
    assert run(corpus.write_config(**sections), corpus.folder / "out") == code
    said = capsys.readouterr().err
    assert message in said
    assert "Traceback" not in said


def test_a_user_error_in_a_worker_process_is_one_message(corpus: Corpus, capsys):
    config = corpus.write_config(images={"detector_options": {"broken": "shape"}})
    assert run(config, corpus.folder / "out", command="detect", workers=2) == 1
    said = capsys.readouterr().err
    assert "error: images.detector: Quadrants.detect gave boxes, scores" in said
    assert "Traceback" not in said


def test_an_empty_corpus_is_an_error(corpus: Corpus, capsys):
    corpus.captions.write_text("")
    # An empty file counts as one bad input; allowed, there is still nothing to tag.
    assert run(corpus.write_config(max_bad_fraction=1.0), corpus.folder / "out", command="tag") == 1
    assert "hold no sentence" in capsys.readouterr().err


def test_texts_without_any_mention_stop_the_mixing(corpus: Corpus, capsys):
    corpus.captions.write_text("nothing here\nnor there\n")
    assert run(corpus.write_config(), corpus.folder / "out") == 1
    assert "no sentence mentions a concept" in capsys.readouterr().err


def test_sentences_whose_concepts_the_bank_lacks_are_rejected(corpus: Corpus):
    out = corpus.folder / "out"
    corpus.captions.write_text("a horse\n" + "a dog\ntwo dogs\nthree dogs\na dog\n")
    assert run(corpus.write_config(mix={"views": 1}), out) == 0
    assert counts(out, "shards")["views"] == {"read": 4, "rejected": {"no_patch": 1}, "written": 3}


def test_a_vocabulary_without_the_detectors_classes_is_an_error(corpus: Corpus, capsys):
    words = corpus.folder / "other.txt"
    words.write_text("submarine\n")
    assert run(corpus.write_config(vocabulary=str(words)), corpus.folder / "out", command="detect") == 1
    assert "none of the 4 labels of quadrants:Quadrants" in capsys.readouterr().err


def test_labels_that_are_no_concepts_are_said_once_and_in_the_manifest(corpus: Corpus, capsys):
    out = corpus.folder / "out"
    assert run(corpus.write_config(images={"inputs": [str(corpus.photos / "000*.jpg")]}), out, command="detect") == 0
    said = capsys.readouterr().err
    assert said.count(" has no concept for ") == 1
    assert "1 of the detector's labels, whose regions are dropped: zebra crossing. See labels_not" in said
    manifest = json.loads((out / "regions" / "manifest.json").read_text())
    assert manifest["details"]["labels_not_in_vocabulary"] == ["zebra crossing"]


def test_of_many_labels_ten_are_said_and_no_placeholders(caplog):
    vocabulary = make_vocabulary("words", [["dog"]])
    report_unmapped(["__background__", "N/A", ""], vocabulary, Stage(DETECT, "out"))
    assert not caplog.messages
    labels = ["__background__", *(f"thing {number}" for number in range(13)), "N/A"]
    report_unmapped(labels, vocabulary, Stage(DETECT, "out"))
    (message,) = caplog.messages
    assert message.startswith("detect: vocabulary words has no concept for 13 of the detector's labels")
    assert (
        f"thing 8, thing 9 and 3 more. See labels_not_in_vocabulary in {Path('out').resolve()}/regions/manifest.json"
        in message
    )


def test_a_stage_before_its_time_says_what_to_run(corpus: Corpus, capsys):
    assert run(corpus.write_config(), corpus.folder / "out", command="index") == 1
    assert "Run `vlmixer detect`" in capsys.readouterr().err


def test_class_names_for_torchvisions_own_weights_are_refused(corpus: Corpus, capsys):
    images = {"detector": "torchvision:fasterrcnn_mobilenet_v3_large_320_fpn", "detector_options": {"classes": ["dog"]}}
    assert run(corpus.write_config(images=images), corpus.folder / "out", command="detect") == 2
    assert "Leave classes out" in capsys.readouterr().err
