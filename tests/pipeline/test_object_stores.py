"""A whole run on S3, against a real server: the bytes of a local run, whatever interrupts it; errors that say what to
do; and how many requests it takes."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import fsspec
import pytest
from fsspec.registry import _registry
from tests.object_store import BUCKET, Store, serving
from tests.pipeline.jobs.small_corpus import Corpus, contents, make_corpus, run

from vlmixer.artifacts import files
from vlmixer.artifacts.errors import CallError, UserError
from vlmixer.artifacts.extras import install_command
from vlmixer.pipeline.commands.main import main

ROOT = Path(__file__).parents[2]
FOLDERS = ("tagged/", "regions/", "bank/", "shards/", "rejects/")


@pytest.fixture(scope="module")
def store():
    """A server, and the environment by which this process and those it starts find it."""
    with serving() as running, pytest.MonkeyPatch.context() as patch:
        for name, value in running.env.items():
            patch.setenv(name, value)
        yield running


@pytest.fixture(scope="module")
def corpus(store: Store, tmp_path_factory) -> Corpus:
    """The small corpus, its photos and captions in the bucket."""
    made = make_corpus(tmp_path_factory.mktemp("store"))
    store.put_folder(made.photos, "in/photos")
    store.client.upload_file(str(made.captions), BUCKET, "in/captions.txt")
    return made


def config_of(corpus: Corpus) -> Path:
    inputs = {
        "text": {"inputs": [f"s3://{BUCKET}/in/captions.txt"]},
        "images": {"inputs": [f"s3://{BUCKET}/in/photos/*"]},
    }
    return corpus.write_config(**inputs)


def results(store: Store, out: str) -> dict[str, bytes]:
    """What a run left, but for config and logs."""
    found = store.contents(out).items()
    return {name: data for name, data in found if name.startswith(FOLDERS) or name == "contents.json"}


@pytest.fixture(scope="module")
def finished(store: Store, corpus: Corpus) -> dict[str, bytes]:
    """The files of a whole run with inputs in the bucket and output in a local folder."""
    out = corpus.folder / "local"
    assert run(config_of(corpus), out) == 0
    return contents(out)


@pytest.fixture(scope="module")
def stored(store: Store, corpus: Corpus) -> dict[str, Counter]:
    """The same run with its output in the bucket, under `out`, and its config, too; the requests of each stage."""
    store.client.upload_file(str(config_of(corpus)), BUCKET, "my.yaml")
    requests = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(corpus.folder))
        for stage in ("tag", "detect", "index", "mix"):
            store.requests.clear()
            assert main([stage, f"s3://{BUCKET}/my.yaml", "--out", f"s3://{BUCKET}/out", "--workers", "1"]) == 0
            requests[stage] = Counter(kind(method, path) for method, path in store.requests)
    return requests


def kind(method: str, path: str) -> str:
    return "LIST" if "list-type=" in path else method


def test_the_bytes_are_those_of_a_local_run(store, stored, finished):
    assert results(store, "out") == finished


def test_nothing_else_is_left_in_the_bucket(store, stored, finished):
    reports = {f"reports/{name}.{ending}" for name in ("tagging", "mixing") for ending in ("html", "json")}
    inputs = {f"work/{stage}-inputs.parquet" for stage in ("tag", "detect")}
    assert set(store.contents("out")) == {*finished, *reports, "config.yaml", *inputs}


def test_no_request_is_made_in_vain(stored, finished):
    """Upper bounds for what each file and unit needs; a look at the folder every few seconds comes on top."""
    written = {
        stage: sum(name.startswith(f"{folder}/") for name in finished)
        for stage, folder in (("detect", "regions"), ("mix", "shards"))
    }
    # Every photo is read once for its digest and once for its regions; HEADs are for the survey, the record
    # and the last unit.
    assert stored["detect"]["GET"] <= 2 * 150 + 12 * written["detect"]
    assert stored["detect"]["HEAD"] <= 50
    assert stored["mix"]["PUT"] <= 4 * written["mix"]
    assert all(requests["LIST"] <= 60 for requests in stored.values())


def test_the_other_commands_read_from_the_bucket(store, stored, tmp_path, capsys):
    out = f"s3://{BUCKET}/out"
    assert main(["verify", out]) == 0
    assert capsys.readouterr().out.startswith("sound: ")
    assert main(["show", out, "--html", str(tmp_path / "samples.html")]) == 0
    assert (tmp_path / "samples.html").stat().st_size > 10_000
    capsys.readouterr()
    assert main(["bank", "query", f"{out}/bank", "--concept", "dog", "-k", "3"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 3


def test_damage_in_the_bucket_is_found(store, stored, capsys):
    key = "out/shards/mixed-000001.tar"
    whole = store.client.get_object(Bucket=BUCKET, Key=key)["Body"].read()
    flipped = bytearray(whole)
    flipped[2000] ^= 1
    store.client.put_object(Bucket=BUCKET, Key=key, Body=bytes(flipped))
    try:
        assert main(["verify", f"s3://{BUCKET}/out"]) == 1
        assert "mixed-000001.tar: its bytes changed" in capsys.readouterr().out
    finally:
        store.client.put_object(Bucket=BUCKET, Key=key, Body=whole)


def test_training_reads_the_shards_from_the_bucket(store, stored, corpus, tmp_path):
    config = corpus.write_config(
        "train.yaml",
        train={"shards": f"s3://{BUCKET}/out/shards", "steps": 3, "batch_size": 8, "workers": 0, "log_every": 1},
        model={"layers": 1, "hidden_size": 16, "heads": 2, "feed_forward_size": 32, "vocabulary_size": 200},
    )
    assert main(["train", str(config), "--out", str(tmp_path / "run")]) == 0
    assert (tmp_path / "run" / "model.safetensors").exists()


def test_training_into_a_bucket_is_refused_before_anything_is_done(store, corpus, capsys):
    config = corpus.write_config("trains.yaml", train={"steps": 3})
    for command in ("run", "train"):
        arguments = [command, str(config), "--out", f"s3://{BUCKET}/trained"]
        assert main(arguments) == 2
        assert "training writes checkpoints, which needs a local folder" in capsys.readouterr().err
    assert store.contents("trained") == {}


def test_killed_at_any_moment_it_resumes_to_the_same_bytes(store, corpus, finished):
    config = config_of(corpus)
    command = [
        sys.executable,
        "-m",
        "vlmixer.pipeline.commands.main",
        "run",
        str(config),
        "--out",
        f"s3://{BUCKET}/killed",
        "--workers",
        "1",
    ]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}/src{os.pathsep}{corpus.folder}"}
    for wanted in ("killed/work/tag/part", "killed/work/detect/part", "killed/work/mix/mixed"):
        process = subprocess.Popen(command, env=environment, start_new_session=True, stderr=subprocess.DEVNULL)
        seen = len(store.requests)
        while process.poll() is None and not any(
            wanted in path for method, path in store.requests[seen:] if method == "PUT"
        ):
            time.sleep(0.02)
        assert process.poll() is None, f"ended before it wrote {wanted}"
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert run(config, f"s3://{BUCKET}/killed") == 0
    assert results(store, "killed") == finished


def test_a_failing_upload_leaves_nothing(store):
    url = f"s3://{BUCKET}/half/file"

    def write() -> None:
        with files.publishing(url) as file:
            file.write(b"half")
            raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        write()
    assert not files.exists(url)


def test_what_others_write_is_seen_at_once(store):
    folder = f"s3://{BUCKET}/seen"
    assert files.list_files(folder) == []
    assert not files.exists(f"{folder}/a")
    assert not files.has_file(f"{folder}/a")
    store.client.put_object(Bucket=BUCKET, Key="seen/a", Body=b"abc")
    assert files.list_files(folder) == ["a"]
    assert files.exists(f"{folder}/a")
    assert files.has_file(f"{folder}/a")
    assert files.size(f"{folder}/a") == 3
    store.client.put_object(Bucket=BUCKET, Key="seen/a", Body=b"")
    assert (files.size(f"{folder}/a"), files.read_bytes(f"{folder}/a"), files.has_file(f"{folder}/a")) == (0, b"", True)
    files.remove(folder)
    files.remove(folder)
    assert not files.exists(f"{folder}/a")


def test_an_upload_is_one_request_and_not_read_back(store):
    store.requests.clear()
    files.publish_bytes(f"s3://{BUCKET}/one/file", b"abc")
    assert files.fingerprint(f"s3://{BUCKET}/one/file")[0] == 3
    assert [method for method, _ in store.requests] == ["PUT"]
    store.requests.clear()
    assert files.read_bytes(f"s3://{BUCKET}/one/file") == b"abc"
    assert files.has_file(f"s3://{BUCKET}/one/file")
    assert [method for method, _ in store.requests] == ["GET", "GET"]


def test_large_files_are_put_and_read_in_parts(store):
    data = os.urandom((3 << 20) + 17)
    url = f"s3://{BUCKET}/large/file"
    files.publish_bytes(url, data)
    assert files.read_bytes(url) == files.read_bytes(url, 1 << 20) == data
    assert files.read_start(url, 100) == data[:100]
    assert files.read_ranges(url, [(5, 9), (1 << 20, (1 << 20) + 3)]) == [data[5:9], data[1 << 20 : (1 << 20) + 3]]
    with files.fetched(url) as local:
        assert Path(local).read_bytes() == data


def test_a_bucket_that_is_not_there_is_told(store, corpus, capsys):
    config = corpus.write_config("none.yaml", text={"inputs": ["s3://no-such-bucket/*.txt"]})
    assert run(config, corpus.folder / "none", command="tag") == 2
    assert "s3://no-such-bucket/*.txt: there is no such bucket" in capsys.readouterr().err
    assert run(config_of(corpus), "s3://no-such-bucket/out", command="tag") == 2
    assert "there is no such bucket. Create it, or correct the URL." in capsys.readouterr().err


def test_missing_credentials_are_told_with_what_to_set(store, tmp_path):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    environment |= {
        "AWS_ENDPOINT_URL": store.url, "AWS_EC2_METADATA_DISABLED": "true",
        "HOME": str(tmp_path), "PYTHONPATH": str(ROOT / "src"),
    }  # fmt: skip
    command = [sys.executable, "-m", "vlmixer", "verify", f"s3://{BUCKET}/out"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: s3://{BUCKET}/out")
    assert "no credentials were found" in done.stderr
    assert "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("ask", [files.exists, files.list_files, lambda url: files.publish_bytes(url, b"")])
def test_a_right_that_is_missing_is_told(store, monkeypatch, ask):
    monkeypatch.setattr(store, "refusing", True)
    with pytest.raises(CallError, match=rf"s3://{BUCKET}/secret: not allowed to (read|list files|write) here"):
        ask(f"s3://{BUCKET}/secret")


@pytest.mark.parametrize(("url", "extra"), [("s3://b/f", "s3"), ("gs://b/f", "gcp")])
def test_a_driver_that_is_not_installed_is_told_with_the_extra(monkeypatch, url, extra):
    monkeypatch.setitem(sys.modules, "s3fs", None)
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    for name in ("s3", "gs"):
        monkeypatch.delitem(_registry, name, raising=False)  # what was imported before
    with pytest.raises(CallError, match=f"{url}: .* needs a package that is not installed: ") as raised:
        files.read_bytes(url)
    assert f"Run `{install_command(extra)}`." in str(raised.value)


def test_a_store_that_cannot_be_reached_is_told(monkeypatch):
    for name, value in Store("http://127.0.0.1:1").env.items():
        monkeypatch.setenv(name, value)
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    try:
        with pytest.raises(UserError, match="s3://b/f: cannot be reached"):
            files.read_bytes("s3://b/f")
    finally:
        fsspec.get_filesystem_class("s3").clear_instance_cache()
