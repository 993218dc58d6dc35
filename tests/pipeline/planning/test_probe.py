"""Plans of real inputs, measured by the stages themselves: what is counted must be right, what is timed only there."""

import gzip
import json
import shutil
import tarfile

import pytest
from tests.pipeline.jobs.small_corpus import PHOTOS, make_corpus

from vlmixer.artifacts.stages import STAGES
from vlmixer.pipeline.commands.main import main
from vlmixer.pipeline.config import load_config
from vlmixer.pipeline.planning.plan_run import done_before
from vlmixer.pipeline.planning.probe import LAUNCHER_PER_UNIT
from vlmixer.pipeline.planning.sampling import take_sample
from vlmixer.pipeline.planning.stage_plan import PassPlan, StagePlan
from vlmixer.pipeline.units.timing import read_times


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return make_corpus(tmp_path_factory.mktemp("corpus"))


def plan(capsys, config, *arguments):
    code = main(["plan", str(config), "--seconds", "0.2", *map(str, arguments)])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_a_plan_agrees_with_what_a_run_then_writes(corpus, small_run, tmp_path, capsys):
    out = tmp_path / "out"
    options = ["--out", out, "--workers", 3, "--price", 1, "--seconds", 20, "--json"]
    code, said, _ = plan(capsys, corpus.write_config(), *options)
    found = json.loads(said)
    assert code == 0
    assert not out.exists(), "nothing is written there"
    assert (found["corpus"]["sentences"], found["corpus"]["images"]) == (300, PHOTOS)
    assert found["corpus"]["sentence_bytes"] == corpus.captions.stat().st_size
    assert found["corpus"]["image_bytes"] == sum(path.stat().st_size for path in corpus.photos.iterdir())
    stages = {stage["stage"]: stage for stage in found["stages"]}
    assert list(stages) == ["tag", "detect", "index", "mix"]
    assert {"1", "3"} <= set(found["seconds"])
    for stage in stages.values():
        assert stage["done"] == 0
        assert all(seconds > 0 for seconds in stage["seconds"].values())
        assert stage["memory_bytes"] > 10_000_000
    assert [each["units"] for each in stages["detect"]["passes"]] == [1, 1, 1, 3, 1]
    assert found["cost"]["3"] == pytest.approx(3 * found["seconds"]["3"] / 3600)
    # All of so small a corpus was in the sample.
    written = {}
    for stage, folder in [(each.name, each.folder) for each in STAGES]:
        manifest = json.loads((small_run.folder / "out" / folder / "manifest.json").read_text())
        written[stage] = sum(entry["bytes"] for entry in manifest["outputs"] if not entry["name"].endswith("json"))
        counts = manifest["counts"]
    assert stages["mix"]["items"] == {"views": counts["views"]["read"], "image samples": counts["images"]["read"]}
    assert stages["index"]["items"]["regions"] == 491
    for stage in ("detect", "index", "mix"):
        assert stages[stage]["output_bytes"] == pytest.approx(written[stage], rel=0.2)


def test_what_is_done_is_left_out(small_run, tmp_path, capsys):
    out = tmp_path / "out"
    shutil.copytree(small_run.folder / "out", out)
    shutil.rmtree(out / "shards")
    code, said, _ = plan(capsys, small_run.write_config(), "--out", out)
    lines = said.splitlines()
    assert code == 0
    assert [line.split()[-1] for line in lines[1:4]] == ["done", "done", "done"]
    assert lines[4].startswith("mix ")
    assert not lines[4].endswith("done")
    (out / "work" / "mix").mkdir(parents=True)
    (out / "work" / "mix" / "mixed-000000.json").write_text("{}")
    units = {"tag": 5, "mix": 4}
    plans = [StagePlan(stage, (PassPlan("work", count, 1.0),), 0.0, {}, 0, 0, 0) for stage, count in units.items()]

    assert done_before(str(out), plans) == {"tag": 1.0, "mix": 0.25}


def test_other_sizes(corpus, tmp_path, capsys):
    config = corpus.write_config(
        train={"steps": 500, "batch_size": 16, "device": "cpu", "workers": 0},
        model={"layers": 1, "hidden_size": 32, "heads": 2, "feed_forward_size": 64},
    )
    _, said, _ = plan(capsys, config, "--out", tmp_path / "out", "--images", 64_000_000, "--json")
    found = json.loads(said)
    train = found["stages"][-1]
    assert (train["stage"], train["items"]) == ("train", {"steps": 500})
    assert set(train["seconds"].values()) == {train["seconds"]["1"]} != {0}, "whatever the workers"
    assert (found["corpus"]["sentences"], found["corpus"]["images"]) == (300, 64_000_000)
    assert found["stages"][1]["items"] == {"images": 64_000_000}
    detect = found["stages"][1]
    units = sum(each["units"] for each in detect["passes"])
    assert LAUNCHER_PER_UNIT * units < detect["launcher_seconds"] < LAUNCHER_PER_UNIT * units + 10
    assert "the launching process needs 11.5 GB more for the names of so many image files" in str(found["assumptions"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--scale", "2", "--images", "5"], "contradict"),
        (["--set", 'text.inputs=["nothing/*.txt"]'], "nothing matches"),
        (["--set", "images.inputs=[]"], "images.inputs: empty"),
        (["--set", "images.detector=quadrants:None_of_these"], "has no class"),
    ],
)
def test_errors_are_those_of_a_run(corpus, tmp_path, capsys, arguments, message):
    code, said, errors = plan(capsys, corpus.write_config(), "--out", tmp_path / "out", *arguments)
    assert (code, said) == (2, "")
    assert message in errors
    assert not (tmp_path / "out").exists()


def test_packed_text_and_images_in_tars_are_counted_by_their_bytes(corpus, tmp_path):
    lines = [f"a dog and a kite on day {number}" for number in range(100_000)]
    with gzip.open(tmp_path / "lines.txt.gz", "wt") as file:
        file.writelines(f"{line}\n" for line in lines)
    (tmp_path / "more.txt").write_text("".join(f"{line}\n" for line in lines))
    with tarfile.open(tmp_path / "photos.tar", "w") as tar:
        for path in sorted(corpus.photos.iterdir()):
            tar.add(path, path.name)
    config = corpus.write_config(
        "packed.yaml", text={"inputs": [str(tmp_path / "*")]}, images={"inputs": [str(tmp_path / "photos.tar")]}
    )
    text = load_config(str(config), [f'text.inputs=["{tmp_path}/lines.txt.gz", "{tmp_path}/more.txt"]'])
    sample = take_sample(text)
    assert sample.corpus.sentences == pytest.approx(200_000, rel=0.1)
    assert len(set(sample.sentences)) > 30_000
    assert sample.corpus.images == pytest.approx(PHOTOS, rel=0.02)
    assert len(sample.images) == PHOTOS
    assert sample == take_sample(text), "the sample is stable"


def test_times_of_units_are_kept_in_the_logs(small_run):
    times = list(read_times(str(small_run.folder / "out")))
    assert {each.stage for each in times} == {"tag", "detect", "index", "mix"}
    assert {"part-00000", "part-00001", "part-00002", "survey-00000"} <= {
        each.unit for each in times if each.stage == "detect"
    }
    assert all(each.seconds >= 0 and each.load >= 0 and each.cpu > 0 for each in times)
