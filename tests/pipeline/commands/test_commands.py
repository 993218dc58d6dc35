"""The `vlmixer` command: exit codes, what goes to stdout and what to stderr, and every option's effect."""

import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from tests.pipeline.jobs.small_corpus import run

from vlmixer.artifacts.samples import read_shard
from vlmixer.pipeline.commands.main import main

TINY = ["train.steps=3", "train.batch_size=8", "train.log_every=1", "model.layers=1", "model.hidden_size=16",
        "model.heads=2", "model.feed_forward_size=16", "model.projection_size=8"]  # fmt: skip


@pytest.fixture(scope="module")
def out(small_run) -> Path:
    """The folder of a finished run; only read."""
    return small_run.folder / "out"


@pytest.fixture
def call(capsys) -> Callable[..., tuple[int, str, str]]:
    """Calls the command; (exit code, stdout, stderr). argparse leaves by SystemExit, as it would from a shell."""

    def run_command(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as leaving:
            code = int(leaving.code or 0)
        said = capsys.readouterr()
        return code, said.out, said.err

    return run_command


@pytest.fixture
def answer(call) -> Callable[..., dict]:
    """Calls the command with --json; its answer, after checking that stdout holds nothing else."""

    def ask(*arguments: object) -> dict:
        code, printed, _ = call(*arguments, "--json")
        assert code == 0
        content = json.loads(printed)
        assert isinstance(content, dict)
        return content

    return ask


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nonsense"],
        ["bank"],
        ["bank", "nonsense", "x"],
        ["eval", "retrieval"],
        ["verify"],
        ["verify", "x", "--nonsense"],
        ["show", "x", "-n", "0"],
        ["bank", "query", "x", "-k", "none"],
        ["run", "x.yaml", "--workers", "0"],
    ],
)
def test_a_wrong_call_prints_the_usage_and_gives_2(call, arguments):
    code, printed, said = call(*arguments)
    assert code == 2
    assert printed == ""
    assert "usage: " in said


def test_help_goes_to_stdout(call):
    code, printed, _ = call("--help")
    assert code == 0
    for name in ("demo", "run", "tag", "detect", "index", "mix", "verify", "show", "bank", "train", "eval"):
        assert f"    {name} " in printed


@pytest.mark.parametrize("command", ["run", "tag", "train"])
def test_a_config_that_is_not_there(call, tmp_path, command):
    code, printed, said = call(command, tmp_path / "none.yaml")
    assert code == 2
    assert printed == ""
    assert said.startswith("error: ")
    assert "none.yaml" in said
    assert "Traceback" not in said


def test_an_unknown_key_names_the_nearest(call, small_run, tmp_path):
    code, _, said = call("tag", small_run.write_config(), "--out", tmp_path, "--set", "text.feild=x")
    assert code == 2
    assert "'field'" in said


def test_failed_work_gives_1_and_one_message(call, small_run, tmp_path):
    code, printed, said = call("index", small_run.write_config(), "--out", tmp_path)
    assert code == 1
    assert printed == ""
    assert [line for line in said.splitlines() if line.startswith("error: ")]
    assert "vlmixer detect" in said
    assert "Traceback" not in said


def test_messages_of_a_run_are_kept_in_its_logs(call, small_run, tmp_path):
    code, printed, said = call("tag", small_run.write_config(), "--out", tmp_path / "out", "--workers", 1)
    assert code == 0
    assert printed.startswith("tagged by rules, vocabulary ")
    assert "282 of 300 sentences" in said
    [log] = (tmp_path / "out" / "logs").glob("*.log")
    assert "282 of 300 sentences" in log.read_text()


def test_arguments_after_the_dashes_reach_beam(call, small_run, tmp_path):
    config = small_run.write_config()
    runner = "apache_beam.runners.portability.fn_api_runner.FnApiRunner"
    code, _, _ = call("tag", config, "--out", tmp_path / "good", "--", f"--runner={runner}")
    assert code == 0
    made, expected = tmp_path / "good" / "tagged", small_run.folder / "out" / "tagged"
    assert {path.name: path.read_bytes() for path in made.iterdir()} == {
        path.name: path.read_bytes() for path in expected.iterdir()
    }


def test_a_wrong_argument_for_beam(call, small_run, tmp_path):
    arguments = ["tag", small_run.write_config(), "--out", tmp_path, "--", "--direct_running_mode=nonsense"]
    code, _, said = call(*arguments)
    assert code == 2
    assert "nonsense" in said


def test_show_of_an_output_folder_and_of_shards(answer, out):
    samples = answer("show", out, "-n", 8)["samples"]
    assert [sample["kind"] for sample in samples] == ["mixed"] * 6 + ["image"] * 2
    assert answer("show", out / "shards", "-n", 8)["samples"] == samples
    for sample in samples[:6]:
        assert all(sample["text"][m["start"] : m["end"]] == m["surface"] for m in sample["mentions"])
        assert {patch["mention"] for patch in sample["patches"]} == set(sample["replaced"])


@pytest.mark.parametrize("inner", ["", "shards"])
def test_show_as_a_page(call, out, tmp_path, inner):
    code, printed, said = call("show", out / inner, "--html", tmp_path / "page.html", "-n", 3)
    assert code == 0
    assert printed == ""
    assert "3 samples" in said
    page = (tmp_path / "page.html").read_text()
    assert "data:image/jpeg;base64," in page, "crops come from the bank beside the shards"


def test_show_without_a_bank_beside_it(call, out, tmp_path):
    shutil.copytree(out / "shards", tmp_path / "alone")
    code, _, _ = call("show", tmp_path / "alone", "--html", tmp_path / "page.html", "-n", 3)
    assert code == 0
    assert "data:image/jpeg" not in (tmp_path / "page.html").read_text()


@pytest.mark.parametrize("inner", ["tagged", "bank", "logs", "nowhere"])
def test_show_of_something_else(call, out, inner):
    code, printed, said = call("show", out / inner, "--json")
    assert code == 2
    assert printed == ""
    assert "shards" in said


@pytest.mark.parametrize(("command", "inner"), [(["show"], ""), (["bank", "show"], "bank")])
def test_neither_page_nor_data(call, out, command, inner):
    code, _, said = call(*command, out / inner)
    assert code == 2
    assert "--html" in said
    assert "--json" in said


def test_bank_stats(answer, call, out):
    stats = answer("bank", "stats", out / "bank")
    assert (stats["patches"], stats["feature_dim"], stats["detector"]) == (120, 6, "quadrants:Quadrants")
    by_name = {entry["concept"]: entry for entry in stats["concepts"]}
    assert {name: entry["patches"] for name, entry in by_name.items()} == {"dog": 40, "cat": 40, "kite": 40, "horse": 0}
    assert by_name["dog"]["sizes"] == [16, 16, 16]
    assert stats["quantiles"] == [0.1, 0.5, 0.9]
    assert by_name["horse"]["scores"] is None
    assert sum(entry["candidates"] for entry in stats["concepts"]) == 491

    code, table, said = call("bank", "stats", out / "bank")
    assert (code, said) == (0, "")
    assert "120 patches of 3 concepts" in table
    assert "without patches (1): horse" in table


def test_bank_show(answer, call, out, tmp_path):
    concepts = answer("bank", "show", out / "bank")["concepts"]
    assert {name: entry["count"] for name, entry in concepts.items()} == {"dog": 40, "cat": 40, "kite": 40, "horse": 0}
    assert [len(entry["patches"]) for entry in concepts.values()] == [24, 24, 24, 0]
    code, printed, _ = call("bank", "show", out / "bank", "--html", tmp_path / "sheet.html")
    assert (code, printed) == (0, "")
    assert (tmp_path / "sheet.html").read_text().count("data:image/jpeg") == 72


@pytest.mark.parametrize("word", ["dog", "puppy", " Puppy "])
def test_bank_query_by_name_and_synonym(answer, out, word):
    hits = answer("bank", "query", out / "bank", "--concept", word)["hits"]
    assert len(hits) == 16
    assert {hit["concept"] for hit in hits} == {"dog"}
    assert [hit["row"] for hit in hits] == list(range(hits[0]["row"], hits[0]["row"] + 16))


@pytest.mark.parametrize(("concept", "found"), [("dog", 40), ("horse", 0)])
def test_bank_query_for_more_than_there_are(answer, out, concept, found):
    assert len(answer("bank", "query", out / "bank", "--concept", concept, "-k", 500)["hits"]) == found


def test_bank_query_by_likeness(answer, out):
    [first] = answer("bank", "query", out / "bank", "--concept", "cat", "-k", 1)["hits"]
    hits = answer("bank", "query", out / "bank", "--like", first["patch_id"], "-k", 50)["hits"]
    assert hits[0]["patch_id"] == first["patch_id"]
    assert hits[0]["similarity"] == pytest.approx(1, abs=1e-3)
    similarities = [hit["similarity"] for hit in hits]
    assert similarities == sorted(similarities, reverse=True)
    assert len({hit["concept"] for hit in hits}) > 1
    dogs = answer("bank", "query", out / "bank", "--like", first["patch_id"], "--concept", "dog", "-k", 5)["hits"]
    assert [hit["patch_id"] for hit in dogs] == [hit["patch_id"] for hit in hits if hit["concept"] == "dog"][:5]


def test_bank_query_by_context(answer, out):
    hits = answer("bank", "query", out / "bank", "--concept", "dog", "--context", "kite, cat", "-k", 40)["hits"]
    matches = [len({"kite", "cat"} & set(hit["context"])) for hit in hits]
    assert matches == sorted(matches, reverse=True)
    assert matches[0] == 2
    assert matches[-1] < 2


def test_bank_query_for_people(call, out):
    code, printed, said = call("bank", "query", out / "bank", "--concept", "kite", "-k", 3)
    assert (code, said) == (0, "")
    assert len(printed.splitlines()) == 3
    assert all("  kite  " in line for line in printed.splitlines())


def test_bank_query_saved(answer, out, tmp_path):
    folder = tmp_path / "crops"
    hits = answer("bank", "query", out / "bank", "--concept", "kite", "-k", 3, "--save", folder)["hits"]
    lines = [json.loads(line) for line in (folder / "patches.jsonl").read_text().splitlines()]
    assert [line["patch_id"] for line in lines] == [hit["patch_id"] for hit in hits]
    assert {path.name for path in folder.iterdir()} == {"patches.jsonl", *(line["file"] for line in lines)}
    for line in lines:
        assert Path(line["source"]).exists()
        with Image.open(folder / line["file"]) as crop:
            assert crop.format == "JPEG"
            assert crop.size[0] == crop.size[1]


def test_bank_query_like_an_image(answer, call, small_run, out, tmp_path):
    [kite] = answer("bank", "query", out / "bank", "--concept", "kite", "-k", 1)["hits"]
    config = small_run.folder / "config.yaml"
    arguments = ["--concept", "kite", "--like", kite["source"], "-k", 5]
    hits = answer("bank", "query", out / "bank", *arguments, "--config", config)["hits"]
    assert {hit["concept"] for hit in hits} == {"kite"}
    similarities = [hit["similarity"] for hit in hits]
    assert similarities == sorted(similarities, reverse=True)
    assert similarities[0] > 0.9
    (tmp_path / "no.jpg").write_bytes(b"no image")
    code, _, said = call("bank", "query", out / "bank", "--like", tmp_path / "no.jpg", "--config", config)
    assert code == 2
    assert "no.jpg: not usable as an image: not_an_image" in said


def test_bank_query_as_a_webdataset(call, out, tmp_path):
    folder = tmp_path / "kites"
    code, printed, said = call("bank", "query", out / "bank", "--concept", "kite", "-k", 7, "--to-wds", folder)
    assert (code, printed) == (0, "")
    assert "7 crops in 1 shards" in said
    with tarfile.open(folder / "patches-000000.tar") as tar:
        assert len(tar.getnames()) == 7 * 3


def test_bank_stats_tell_what_the_text_wants(answer, call, out, tmp_path):
    stats = answer("bank", "stats", out / "bank")
    mentions = {entry["concept"]: entry["mentions"] for entry in stats["concepts"]}
    assert mentions["dog"] > 0
    assert stats["wanted"] == {}
    (tmp_path / "alone").symlink_to(out / "bank")
    alone = answer("bank", "stats", tmp_path / "alone")
    assert alone["wanted"] is None
    assert answer("bank", "stats", tmp_path / "alone", "--tagged", out / "tagged") == stats
    code, _, said = call("bank", "stats", out / "bank", "--tagged", out / "regions")
    assert code == 2
    assert "wrote, expected the folder of stage 'tag'" in said


def test_bank_stats_with_quality(answer, call, out):
    quality = answer("bank", "stats", out / "bank", "--quality")["quality"]
    assert {entry["concept"] for entry in quality["concepts"]} == {"dog", "cat", "kite"}
    assert "strangers" in call("bank", "stats", out / "bank", "--quality")[1]


def test_bank_drop_lists_what_is_affected_and_leaves_a_sound_bank(answer, call, out, tmp_path):
    hits = answer("bank", "query", out / "bank", "--concept", "cat", "-k", 2)["hits"]
    images = tmp_path / "images.txt"
    images.write_text(f"{hits[0]['image_id']}\n\n{hits[1]['source']}\nnobody.jpg\n")
    dropped = answer(
        "bank", "drop", out / "bank", "--images", images, "--out", tmp_path / "new" / "bank", "--shards", out / "shards"
    )
    gone = {hit["image_id"] for hit in hits}
    assert set(dropped["images"]) == gone
    assert dropped["unknown"] == ["nobody.jpg"]
    assert dropped["patches"]["cat"] >= 2
    expected = {
        name.name: [
            sample.key for sample in read_shard(str(name)) if gone & {patch.image_id for patch in sample.patches}
        ]
        for name in sorted((out / "shards").glob("*.tar"))
    }
    assert dropped["samples"] == {name: keys for name, keys in expected.items() if keys}
    assert any(name.startswith("mixed") for name in dropped["samples"])
    assert call("verify", tmp_path / "new" / "bank")[0] == 0
    code, listed, _ = call("bank", "query", tmp_path / "new" / "bank", "--concept", "cat", "-k", 99, "--json")
    assert code == 0
    assert not any(image in listed for image in gone)

    code, printed, said = call(
        "bank", "drop", out / "bank", "--images", images, "--out", tmp_path / "other", "--shards", out / "shards"
    )
    assert code == 0
    assert "not in the bank (1): nobody.jpg" in printed
    assert all(key in printed for keys in expected.values() for key in keys)
    assert "run again" in said


@pytest.mark.parametrize(
    ("images", "shards", "word"),
    [("nobody.jpg\n", None, "nothing is to be taken out"), (None, None, "images.txt"), ("a\n", "bank", "no shards")],
)
def test_bank_drop_that_cannot_be_done(call, out, tmp_path, images, shards, word):
    if images is not None:
        (tmp_path / "images.txt").write_text(images)
    where = ["--shards", out / shards] if shards else []
    code, printed, said = call(
        "bank", "drop", out / "bank", "--images", tmp_path / "images.txt", "--out", tmp_path / "new", *where
    )
    assert (code, printed) == (2, "")
    assert word in said
    assert not (tmp_path / "new").exists()


def test_bank_merge(answer, call, out, tmp_path):
    code, printed, said = call("bank", "merge", out / "bank", out / "bank", "--out", tmp_path / "merged")
    assert (code, printed) == (0, "")
    assert "120 of 240 regions, 120 not used (120 near_duplicate)" in said
    assert call("verify", tmp_path / "merged")[0] == 0
    code, _, said = call("bank", "merge", out / "bank", "--out", tmp_path / "one")
    assert code == 2
    assert "two banks" in said


def test_bank_query_as_a_page(call, out, tmp_path):
    page = tmp_path / "hits.html"
    code, printed, said = call("bank", "query", out / "bank", "--concept", "kite", "-k", 3, "--html", page)
    assert (code, printed) == (0, "")
    assert "3 patches" in said
    assert page.read_text().count("data:image/jpeg") == 3


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--concept", "kites"], ["'kites'", "Near: kite"]),
        (["--concept", "zebra"], ["'zebra'", "bank stats"]),
        (["--concept", "dog", "--context", "cats"], ["'cats'", "Near: cat"]),
        (["--like", "none-000"], ["'none-000'"]),
        (["--like", "no/photo.jpg"], ["no/photo.jpg: no such file"]),
        ([], ["concept"]),
    ],
)
def test_bank_query_for_what_there_is_not(call, out, arguments, words):
    code, printed, said = call("bank", "query", out / "bank", *arguments, "--json")
    assert code == 2
    assert printed == ""
    assert all(word in said for word in words)


def test_a_folder_that_is_no_bank(call, out):
    code, printed, said = call("bank", "stats", out / "tagged")
    assert (code, printed) == (2, "")
    assert "expected a bank" in said


@pytest.fixture(scope="module")
def trained(small_run, tmp_path_factory) -> Path:
    """A run of three steps."""
    run_folder = tmp_path_factory.mktemp("trained") / "run"
    assignments = [part for text in [*TINY, f"out={small_run.folder / 'out'}"] for part in ("--set", text)]
    assert main(["train", str(small_run.write_config()), "--out", str(run_folder), *assignments]) == 0
    return run_folder


def test_train_writes_a_line_a_step(trained):
    lines = [json.loads(line) for line in (trained / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3]
    assert (trained / "pipeline.yaml").exists()


def test_train_refuses_a_finished_run_without_resume(call, small_run, trained):
    assignments = [part for text in [*TINY, f"out={small_run.folder / 'out'}"] for part in ("--set", text)]
    code, _, said = call("train", small_run.write_config(), "--out", trained, *assignments)
    assert code in (1, 2)
    assert "--resume" in said


def test_run_trains_too_where_the_config_says_so(small_run, tmp_path, call):
    out = Path(shutil.copytree(small_run.folder / "out", tmp_path / "out"))
    assignments = [part for text in TINY for part in ("--set", text)]
    assert run(small_run.write_config(), out, *assignments) == 0
    assert (out / "run" / "log.jsonl").exists()
    assert call("verify", out)[0] == 0


@pytest.fixture
def pairs(small_run, tmp_path) -> Path:
    """Eight pairs: half of the photos beside the list, half in images/ there, and one of them nowhere."""
    (tmp_path / "images").mkdir()
    lines = []
    for number in range(8):
        name = f"{number:04d}.jpg"
        if number != 5:
            shutil.copy(small_run.photos / name, tmp_path / "images" / name if number % 2 else tmp_path / name)
        lines.append(json.dumps({"image": name, "captions": ["a dog and a cat", f"kites on day {number}"]}))
    path = tmp_path / "pairs.jsonl"
    path.write_text("\n".join([*lines, ""]) + "\n")
    return path


def test_eval_retrieval(answer, small_run, trained, pairs):
    config = small_run.write_config()
    report = answer("eval", "retrieval", "--run", trained, "--images", pairs, "--config", config)
    assert (report["images"], report["captions"]) == (7, 14)
    [(name, reason)] = report["skipped"].items()
    assert name.endswith("0005.jpg")
    assert reason.startswith("unreadable_file")
    for score in report["scores"]:
        assert all(0 <= entry["value"] <= 100 for entry in score["recall"].values())


def test_eval_retrieval_with_the_config_of_the_run(call, small_run, trained, pairs, monkeypatch):
    # The detector is found in the working folder.
    monkeypatch.chdir(small_run.folder)
    code, table, said = call("eval", "retrieval", "--run", trained, "--images", pairs)
    assert code == 0
    assert "7 images, 14 captions" in table
    assert "not used: " in said
    assert "0005.jpg" in said


@pytest.mark.parametrize(
    "line", ["{", "5", '{"image": "0000.jpg"}', '{"captions": ["a dog"]}', '{"image": 5, "captions": ["a dog"]}',
             '{"image": "0000.jpg", "captions": [7]}', '{"image": "0000.jpg", "captions": 7}'],
)  # fmt: skip
def test_eval_of_a_list_with_a_line_that_is_wrong(call, small_run, trained, pairs, line):
    pairs.write_text(pairs.read_text().rstrip("\n") + f"\n{line}\n")
    config = small_run.write_config()
    code, printed, said = call("eval", "retrieval", "--run", trained, "--images", pairs, "--config", config)
    assert (code, printed) == (2, "")
    assert "line 9" in said
    assert "Traceback" not in said


def test_eval_of_lists_that_are_no_use(call, small_run, trained, tmp_path):
    config = small_run.write_config()
    (tmp_path / "empty.jsonl").write_text("\n")
    (tmp_path / "gone.jsonl").write_text('{"image": "none.jpg", "captions": ["a dog"]}\n')
    for name, expected in (("none.jsonl", 2), ("empty.jsonl", 2), ("gone.jsonl", 1)):
        arguments = ["--run", trained, "--images", tmp_path / name, "--config", config]
        code, printed, said = call("eval", "retrieval", *arguments)
        assert (code, printed) == (expected, ""), name
        assert name in said


def test_eval_of_a_folder_that_is_no_run(call, pairs, tmp_path):
    code, _, said = call("eval", "retrieval", "--run", tmp_path / "none", "--images", pairs)
    assert code == 2
    assert "pipeline.yaml" in said
