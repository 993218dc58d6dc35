"""Region features of others, in the formats of VinVL and bottom-up attention, through the door of stage detect."""

import base64
import io
import json
import os
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from tests.pipeline.jobs.small_corpus import Corpus, contents, run

from vlmixer.artifacts.rejects import RejectLog
from vlmixer.model.tasks import find_task
from vlmixer.model.tasks.data import with_photos
from vlmixer.model.tasks.photos import Photos

DIM = 10
COUNT = 30


def packed(array) -> str:
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()


class Regions:
    """What the files say: for each of 30 images of 60×40 boxes, classes, scores and features."""

    def __init__(self):
        rng = np.random.default_rng(0)
        self.ids = [str(391895 + 7 * number) for number in range(COUNT)]
        self.boxes, self.classes, self.scores, self.features = [], [], [], []
        for _ in self.ids:
            count = int(rng.integers(1, 5))
            corners = rng.uniform(0, [30, 20], (count, 2))
            self.boxes.append(np.concatenate([corners, corners + rng.uniform(5, 20, (count, 2))], 1).astype(np.float32))
            self.classes.append([str(name) for name in rng.choice(["dog", "kite", "puppy", "sky"], count)])
            self.scores.append(rng.uniform(0.31, 1, count).astype(np.float32))
            self.features.append(rng.normal(0, 1, (count, DIM)).astype(np.float32))

    def objects(self, number):
        rows = zip(self.boxes[number].tolist(), self.classes[number], self.scores[number].tolist(), strict=True)
        return [{"rect": rect, "class": name, "conf": conf} for rect, name, conf in rows]

    def prediction(self, number):
        return json.dumps({"image_h": 40, "image_w": 60, "num_boxes": 9, "objects": self.objects(number)})

    def expected(self):
        """By id: (concept, score, feature) of regions that the vocabulary knows, best first."""
        concepts = {"dog": "dog", "puppy": "dog", "kite": "kite", "sky": None}
        result = {}
        for number, identity in enumerate(self.ids):
            rows = [
                (concepts[name], float(score), feature.astype(np.float16).tolist())
                for name, score, feature in zip(
                    self.classes[number], self.scores[number], self.features[number], strict=True
                )
                if concepts[name]
            ]
            if rows:
                result[identity] = sorted(rows, key=lambda row: -row[1])
        return result


@pytest.fixture
def known():
    return Regions()


def write_vinvl(folder: Path, known: Regions, *, as_json=False, index=True) -> Path:
    folder.mkdir(exist_ok=True)
    starts, at, lines = [], 0, []
    for number, identity in enumerate(known.ids):
        features, count = packed(known.features[number]), len(known.features[number])
        if as_json:
            line = f"{identity}\t{json.dumps({'num_boxes': count, 'features': features})}\n"
        else:
            line = f"{identity}\t{count}\t{features}\n"
        starts.append(at)
        at += len(line)
        lines.append(line)
    (folder / "features.tsv").write_text("".join(lines))
    order = reversed(range(COUNT))  # not the order of the features
    (folder / "predictions.tsv").write_text("".join(f"{known.ids[n]}\t{known.prediction(n)}\n" for n in order))
    if index:
        (folder / "features.lineidx").write_text("\n".join(map(str, starts)))
        (folder / "imageid2idx.json").write_text(json.dumps({identity: row for row, identity in enumerate(known.ids)}))
    return folder / "features.tsv"


def write_bottom_up(folder: Path, known: Regions) -> Path:
    folder.mkdir(exist_ok=True)
    lines = [
        "\t".join([identity, "60", "40", str(len(known.boxes[n])), packed(known.boxes[n]), packed(known.features[n])])
        for n, identity in enumerate(known.ids)
    ]
    (folder / "trainval_features.tsv").write_text("\n".join(lines) + "\n")
    (folder / "trainval_predictions.tsv").write_text(
        "".join(f"{identity}\t{known.prediction(n)}\n" for n, identity in enumerate(known.ids))
    )
    return folder / "trainval_features.tsv"


def write_lxmert(folder: Path, known: Regions) -> Path:
    folder.mkdir(exist_ok=True)
    vocabulary = ["sky,heaven", "dog", "puppy", "kite"]
    numbers = {"sky": 0, "dog": 1, "puppy": 2, "kite": 3}
    lines = []
    for n, identity in enumerate(known.ids):
        count = len(known.boxes[n])
        labels = np.array([numbers[name] for name in known.classes[n]], np.int64)
        parts = [packed(labels), packed(known.scores[n]), packed(labels), packed(known.scores[n]), str(count)]
        lines.append("\t".join([identity, "40", "60", *parts, packed(known.boxes[n]), packed(known.features[n])]))
    (folder / "obj36.tsv").write_text("\n".join(lines) + "\n")
    (folder / "objects_vocab.txt").write_text("\n".join(vocabulary) + "\n")
    return folder / "obj36.tsv"


def config(corpus: Corpus, path: Path, inputs=(), **options) -> Path:
    images = {
        "inputs": [str(one) for one in inputs], "detector": f"tsv:{path}", "detector_options": options,
        "nms_threshold": 1.0,
    }  # fmt: skip
    return corpus.write_config("features.yaml", images=images)


def rows(out: Path) -> list[dict]:
    return [row for part in sorted((out / "regions").glob("part-*")) for row in pq.read_table(part).to_pylist()]


def as_expected(found: list[dict]) -> dict:
    by_id: dict[str, list] = {}
    for row in found:
        by_id.setdefault(row["key"], []).append((row["concept"], row["score"], row["feature"]))
    return by_id


def counts(out: Path) -> dict:
    return json.loads((out / "regions" / "manifest.json").read_text())["counts"]["images"]


def reasons(out: Path) -> dict[str, tuple[str, str]]:
    return {
        row["key"]: (row["reason"], row["detail"])
        for part in (out / "rejects").glob("detect-*")
        for row in pq.read_table(part).to_pylist()
    }


@pytest.mark.parametrize("kind", ["vinvl", "vinvl as json", "bottom-up", "lxmert"])
def test_regions_come_in_with_their_concepts(corpus: Corpus, known: Regions, kind):
    folder = corpus.folder / "tsv"
    options = {}
    if kind.startswith("vinvl"):
        path = write_vinvl(folder, known, as_json=kind.endswith("json"), index=not kind.endswith("json"))
    elif kind == "bottom-up":
        path = write_bottom_up(folder, known)
    else:
        path = write_lxmert(folder, known)
        options = {"classes": str(folder / "objects_vocab.txt")}
    out = corpus.folder / "out"
    assert run(config(corpus, path, **options), out, command="detect") == 0
    found = rows(out)
    assert as_expected(found) == known.expected()
    assert {(row["source"], row["width"], row["height"]) for row in found} == {(str(path), 60, 40)}
    written = len(known.expected())
    assert counts(out) == {"read": COUNT, "written": written, "rejected": {"no_region": COUNT - written}}
    details = json.loads((out / "regions" / "manifest.json").read_text())["details"]
    assert details["feature_dim"] == DIM
    assert details["labels_not_in_vocabulary"] == ["sky,heaven" if kind == "lxmert" else "sky"]
    # Where there are no photos, a crop is a plain grey of the region's shape.
    with Image.open(io.BytesIO(found[0]["crop"])) as crop:
        assert max(crop.size) <= 16
        assert np.ptp(np.asarray(crop)) < 5


def test_the_whole_chain_and_two_workers(corpus: Corpus, known: Regions, capsys):
    path = write_vinvl(corpus.folder / "tsv", known)
    assert run(config(corpus, path), corpus.folder / "one") == 0
    assert run(config(corpus, path), corpus.folder / "two", workers=2) == 0
    assert contents(corpus.folder / "one") == contents(corpus.folder / "two")
    from vlmixer.pipeline.commands.main import main

    assert main(["verify", str(corpus.folder / "one")]) == 0


def test_crops_come_from_photos_that_are_named_by_the_ids(corpus: Corpus, known: Regions):
    path = write_vinvl(corpus.folder / "tsv", known)
    photos = corpus.folder / "coco"
    photos.mkdir()
    for number, identity in enumerate(known.ids):
        name = f"COCO_val2014_{int(identity):012d}.png" if number % 2 else f"{identity}.png"
        colour = (number * 8, 255 - number * 8, 100)
        Image.new("RGB", (40, 60) if number == 3 else (60, 40), colour).save(photos / name)
    (photos / f"{known.ids[0]}.png").unlink()
    (photos / f"{known.ids[2]}.png").write_bytes(b"broken")
    out = corpus.folder / "out"
    settings = config(corpus, path, [photos])
    assert run(settings, out, command="detect") == 1
    settings.write_text(settings.read_text() + "max_bad_fraction: 0.2\n")
    assert run(settings, out, command="detect") == 0
    found = reasons(out)
    assert found[known.ids[0]][0] == "missing_photo"
    assert found[known.ids[2]][0] == "not_an_image"
    assert found[known.ids[3]] == (
        "bad_record",
        f"the photo {photos}/COCO_val2014_{int(known.ids[3]):012d}.png is 40×60, the features are for 60×40",
    )
    for row in rows(out):
        number = known.ids.index(row["key"])
        with Image.open(io.BytesIO(row["crop"])) as crop:
            pixel = np.asarray(crop)[0, 0].astype(int)
        assert np.abs(pixel - (number * 8, 255 - number * 8, 100)).max() < 6


def test_questions_about_photos_that_the_file_lacks_are_counted(corpus: Corpus, known: Regions):
    """Fine-tuning finds the others by COCO's number, those without a region, too."""
    path = write_vinvl(corpus.folder / "tsv", known)
    out = corpus.folder / "out"
    assert run(config(corpus, path), out, command="detect") == 0
    ids = [*known.ids, "391894"]
    asked = [{"question_id": n, "image_id": int(image), "question": "?"} for n, image in enumerate(ids)]
    answers = [
        {"question_id": n, "image_id": int(image), "answers": [{"answer": "dog"}]} for n, image in enumerate(ids)
    ]
    files = [corpus.folder / "questions.json", corpus.folder / "annotations.json"]
    for file, name, content in zip(files, ("questions", "annotations"), (asked, answers), strict=True):
        file.write_text(json.dumps({name: content}))
    task, log = find_task("vqa"), RejectLog("finetune")
    examples, read = task.read(list(map(str, files)), task.config(), log, training=True)
    found = with_photos(task, examples, Photos(str(out / "regions"), "detector"), log, read)
    assert vars(found.counts) == {"read": COUNT + 1, "written": COUNT, "rejected": {"missing_photo": 1}}


def test_lines_whose_parts_do_not_fit_are_rejected_and_counted(corpus: Corpus, known: Regions):
    path = write_vinvl(corpus.folder / "tsv", known, index=False)
    lines = path.read_text().splitlines()

    def change(row, count=None, features=None):
        identity, number, packed_features = lines[row].split("\t")
        lines[row] = "\t".join([identity, count or number, packed_features if features is None else features])

    change(1, count="77")
    change(2, features="no base64!")
    change(3, features=packed(np.zeros((len(known.boxes[3]), DIM + 1), np.float32)))
    change(4, features=packed(known.features[4]).rstrip("=")[:-4])
    lines[5] = "unknown\t" + lines[5].partition("\t")[2]
    lines[6] = lines[6].partition("\t")[0]
    change(7, features=packed(np.full((len(known.boxes[7]), DIM), np.nan, np.float32)))
    lines.append(lines[8])
    lines.append("")
    path.write_text("\n".join(lines) + "\n")
    out = corpus.folder / "out"
    settings = config(corpus, path)
    settings.write_text(settings.read_text() + "max_bad_fraction: 0.5\n")
    assert run(settings, out, command="detect") == 0
    found = reasons(out)
    bad = {known.ids[row] for row in (1, 2, 3, 4, 6)} | {"unknown"}
    assert {key for key, (reason, _) in found.items() if reason == "bad_record"} == bad
    assert "for 77 boxes" in found[known.ids[1]][1]
    assert f"features of {DIM + 1} numbers" in found[known.ids[3]][1]
    assert "has no line for it" in found["unknown"][1]
    whole = counts(out)
    assert whole["read"] == COUNT + 1
    assert whole["rejected"]["duplicate"] == 1
    assert whole["read"] == whole["written"] + sum(whole["rejected"].values())
    if known.ids[7] in known.expected():
        assert found[known.ids[7]][0] == "bad_feature"


def test_images_without_a_box_are_read_and_have_no_region(corpus: Corpus, known: Regions):
    for row in (0, 9):
        known.boxes[row], known.classes[row] = known.boxes[row][:0], []
        known.scores[row], known.features[row] = known.scores[row][:0], known.features[row][:0]
    out = corpus.folder / "out"
    assert run(config(corpus, write_vinvl(corpus.folder / "tsv", known)), out, command="detect") == 0
    assert as_expected(rows(out)) == known.expected()
    assert {reasons(out)[known.ids[row]][0] for row in (0, 9)} == {"no_region"}


def test_index_files_of_another_version_are_noticed(corpus: Corpus, known: Regions, capsys):
    path = write_vinvl(corpus.folder / "tsv", known)
    (path.parent / "features.lineidx").write_text("0\n17\n")
    assert run(config(corpus, path), corpus.folder / "out", command="detect") == 1
    assert f"lists 2 lines, {path} has {COUNT}" in capsys.readouterr().err
    (path.parent / "features.lineidx").unlink()
    (path.parent / "imageid2idx.json").write_text(json.dumps({known.ids[0]: 0}))
    assert run(config(corpus, path), corpus.folder / "out", command="detect") == 1
    assert f"names 1 images, {path} has {COUNT}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "content", "options", "message"),
    [
        ("f.tsv", "1\t2\t3\t4\n", {}, "has 4 columns; expected 3 or 2 (VinVL), 6"),
        ("f.tsv", "1\t2\tAAAA\n", {}, "does not contain classes. Give the TSV file"),
        ("f.tsv", "1\t2\tAAAA\n", {"predictions": "no/such.tsv"}, "no such file: no/such.tsv"),
        ("f.tsv", "\t".join("1" * 10) + "\n", {}, "has numbers of classes. Give their names"),
        ("f.tsv", "\t".join("1" * 10) + "\n", {"classes": ["dog"]}, "is not usable"),
        ("f.tsv", "1\t2\tAAAA\n", {"colour": 1}, "tsv knows predictions, classes, sizes, dtype, not 'colour'"),
        ("missing.tsv", None, {}, "nothing matches"),
    ],
)
def test_files_that_cannot_be_used_are_one_message(corpus: Corpus, capsys, name, content, options, message):
    path = corpus.folder / name
    if content is not None:
        path.write_text(content)
    assert run(config(corpus, path, **options), corpus.folder / "out", command="detect") == 2
    said = capsys.readouterr().err
    assert message in said
    assert "Traceback" not in said


@pytest.mark.parametrize("with_photos", [False, True])
def test_files_that_were_only_touched_are_the_same(corpus: Corpus, known: Regions, tmp_path, capsys, with_photos):
    features = write_vinvl(tmp_path / "vinvl", known, index=False)
    photo = tmp_path / f"{known.ids[0]}.png"
    Image.new("RGB", (60, 40), "red").save(photo)
    watched = [features, features.with_name("predictions.tsv"), *([photo] if with_photos else [])]
    call = (config(corpus, features, inputs=watched[2:]), tmp_path / "out", "--set", "max_bad_fraction=1")
    assert run(*call, command="detect") == 0
    before = contents(tmp_path / "out")

    def age(path: Path) -> None:
        later = path.stat().st_mtime_ns + 2_000_000_000
        os.utime(path, ns=(later, later))

    for path in watched:
        age(path)
    capsys.readouterr()
    assert run(*call, command="detect") == 0
    assert f"comparing {len(watched)} input files by content" in capsys.readouterr().err
    assert contents(tmp_path / "out") == before
    for path in watched:
        whole = path.read_bytes()
        path.write_bytes(whole[:-3] + whole[-3:].replace(whole[-2:-1], b"%c" % (whole[-2] ^ 1)))
        age(path)
        assert run(*call, command="detect") == 1
        assert f"{path}: changed since stage 'detect' was run" in capsys.readouterr().err
        path.write_bytes(whole)
