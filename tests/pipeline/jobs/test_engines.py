"""Engines other than the local one: the same bytes and equally clear errors.

Here Beam's portable path is tried, with a job server and a pool of workers as processes of their own. docs/engines.md
says what was tried with Prism and Flink.
"""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.runner import PipelineResult
from examples import own_pipeline
from tests.pipeline.jobs.small_corpus import contents, make_corpus, run

from vlmixer.pipeline.jobs.engine import Engine, how_to_cancel
from vlmixer.pipeline.jobs.proxies import not_proxied

ROOT = Path(__file__).parents[3]
RUNNER = "--runner=PortableRunner"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]


def wait_for(port: int) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("localhost", port)) == 0:
                return
        time.sleep(0.05)
    raise AssertionError(f"nothing listens at port {port}")


@dataclass(frozen=True)
class Portable:
    """A job server and a worker pool, and the arguments that lead to them."""

    jobs: int
    pool: int

    @property
    def arguments(self) -> list[str]:
        return [
            "--", RUNNER, f"--job_endpoint=localhost:{self.jobs}", "--environment_type=EXTERNAL",
            f"--environment_config=localhost:{self.pool}",
        ]  # fmt: skip


@pytest.fixture(scope="module")
def portable(tmp_path_factory) -> Iterator[Portable]:
    engine = Portable(free_port(), free_port())
    # The pool is somewhere else than the command, as on another machine.
    elsewhere = tmp_path_factory.mktemp("pool")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    python = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT / "src")}
    calls = [
        ("runners.portability.local_job_service_main", "--port", str(engine.jobs)),
        ("runners.worker.worker_pool_main", "--service_port", str(engine.pool)),
    ]
    started = []
    for module, *arguments in calls:
        with (elsewhere / module).open("w") as log:
            started.append(
                subprocess.Popen(
                    [sys.executable, "-m", f"apache_beam.{module}", *arguments],
                    cwd=elsewhere, env=python, stdout=log, stderr=log, start_new_session=True,
                )
            )  # fmt: skip
    try:
        wait_for(engine.jobs)
        wait_for(engine.pool)
        yield engine
    finally:
        for process in started:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait()


def test_the_portable_runner_gives_the_bytes_of_the_local_one(portable, tmp_path, monkeypatch):
    corpus = make_corpus(tmp_path)
    monkeypatch.chdir(tmp_path)
    # Relative paths, which the workers must find though their own folder is another.
    config = corpus.write_config(
        text={"inputs": ["captions.txt"]}, images={"inputs": ["photos/*"]}, mix={"samples_per_shard": 200}
    )
    assert run(config, Path("local")) == 0
    assert run(config, Path("portable"), *portable.arguments) == 0
    assert contents(tmp_path / "portable") == contents(tmp_path / "local")


def test_a_pipeline_of_ones_own_gives_equal_bytes_on_both(portable, tmp_path, monkeypatch):
    """examples/own_pipeline.py, which is written for people to copy."""
    corpus = make_corpus(tmp_path)
    captions = corpus.captions.read_text().splitlines()
    pq.write_table(pa.table({"id": range(len(captions)), "caption": captions}), tmp_path / "captions.parquet")
    monkeypatch.chdir(tmp_path)
    call = [
        "--captions",
        f"{tmp_path}/captions.parquet",
        "--photos",
        f"{corpus.photos}/*.jpg",
        "--detector",
        "quadrants:Quadrants",
    ]
    for name, arguments in (("local", []), ("portable", portable.arguments[1:])):
        own_pipeline.main([*call, "--out", str(tmp_path / name), *arguments])
    local, other = (contents(tmp_path / name) for name in ("local", "portable"))
    assert {"bank/index.faiss", "shards/mixed-000000.tar", "shards/images-000000.tar"} <= local.keys()
    assert other == local


@pytest.fixture
def dead_proxies(monkeypatch):
    """Proxies that nobody answers, as far as loopback is concerned the same as a company's."""
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "grpc_proxy"):
        monkeypatch.setenv(name, f"http://localhost:{free_port()}")
    for name in ("no_proxy", "NO_PROXY", "no_grpc_proxy"):
        monkeypatch.setenv(name, "intranet.example")


@pytest.mark.parametrize("local", [True, False])
def test_loopback_never_goes_through_a_proxy(portable, tmp_path, dead_proxies, local):
    config = make_corpus(tmp_path).write_config()
    arguments = [] if local else portable.arguments
    assert run(config, tmp_path / "out", *arguments, command="tag", workers=2) == 0


def test_hosts_without_a_proxy_keep_their_place():
    assert not_proxied({}) == "localhost,127.0.0.1,::1"
    assert not_proxied({"no_proxy": "a.example, localhost"}) == "a.example,localhost,127.0.0.1,::1"
    assert not_proxied({"no_proxy": "a.example", "no_grpc_proxy": "b.example"}) == "b.example,localhost,127.0.0.1,::1"


def test_what_a_unit_meets_on_another_engine_is_the_same_error(portable, tmp_path, capsys):
    corpus = make_corpus(tmp_path)
    broken = corpus.write_config(images={"detector_options": {"broken": "shape"}})
    said = []
    for name, arguments in (("local", []), ("portable", portable.arguments)):
        assert run(broken, tmp_path / name, *arguments, command="detect") == 1
        said.append(capsys.readouterr().err.splitlines()[-1])
    assert said[0].startswith("error: images.detector: Quadrants.detect gave boxes")
    assert said[1] == said[0]


def test_sigterm_cancels_the_job_and_says_so(portable, tmp_path):
    corpus = make_corpus(tmp_path)
    config = corpus.write_config(images={"detector_options": {"delay": 0.05, "log": str(tmp_path)}})
    process = subprocess.Popen(
        [sys.executable, "-m", "vlmixer", "detect", config, "--out", tmp_path / "out", *portable.arguments],
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        while not (tmp_path / "calls").exists() and process.poll() is None:
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=120)
    finally:
        process.kill()
    lines = said.splitlines()
    assert process.returncode == 143
    assert lines[-1] == "interrupted: the job was cancelled. Rerun the same command to resume."
    assert re.search(r"detect: job \S+\. If this command is killed, the job goes on; cancel it on the engine", said)
    assert "Traceback" not in said
    assert run(config, tmp_path / "out", command="detect") == 0


def test_dataflow_s_jobs_are_cancelled_by_its_own_command():
    class Submitted(PipelineResult):
        def job_id(self) -> str:
            return "2026-11-28_1"

    said = how_to_cancel("DataflowRunner", Submitted("RUNNING"), PipelineOptions(["--region=europe-west4"]))
    assert said.endswith("to cancel it: `gcloud dataflow jobs cancel 2026-11-28_1 --region=europe-west4`")


def test_workers_that_do_not_see_the_output_are_named(portable, tmp_path, capsys, monkeypatch):
    corpus = make_corpus(tmp_path)
    config = corpus.write_config(images={"inputs": ["photos/*"]})
    monkeypatch.chdir(tmp_path)
    out = "memory://only-in-this-process"
    assert run(config, out, *portable.arguments, command="tag") == 1
    said = capsys.readouterr().err
    assert said.splitlines()[-1].startswith(f"error: {out}/work/tag/plan.json: missing for the worker on ")
    assert "Traceback" not in said


def test_a_job_server_that_does_not_answer_is_named(tmp_path, capsys):
    config = make_corpus(tmp_path).write_config()
    dead = ["--", RUNNER, f"--job_endpoint=localhost:{free_port()}", "--job_server_timeout=1"]
    assert run(config, tmp_path / "out", *dead, command="tag") == 1
    said = capsys.readouterr().err
    assert "--runner=PortableRunner: no job server answered in time" in said
    assert "Traceback" not in said


def test_an_engine_that_beam_does_not_know_is_a_wrong_call(tmp_path, capsys):
    config = make_corpus(tmp_path).write_config()
    assert run(config, tmp_path / "out", "--", "--runner=NoRunner", command="tag") == 2
    assert "--runner=NoRunner: Beam knows no such runner" in capsys.readouterr().err


def test_only_arguments_that_name_a_runner_leave_the_local_one():
    assert Engine(2, ("--temp_location=/x",)).runner is None
    assert Engine(2, ("--runner=FlinkRunner", "--parallelism=2")).runner == "FlinkRunner"
    assert Engine(2, ("--runner", "FlinkRunner")).runner == "FlinkRunner"
