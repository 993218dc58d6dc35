"""Ctrl-C and `| head`: one line or none, no traceback, and the exit codes that shells give."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.pipeline.jobs.small_corpus import Corpus, make_corpus, run

COMMAND = [sys.executable, "-m", "vlmixer"]


@pytest.mark.parametrize("workers", [1, 2])
def test_an_interrupt_in_the_work(tmp_path: Path, workers: int) -> None:
    """Ctrl-C goes to all processes of the group, as a terminal sends it."""
    corpus = make_corpus(tmp_path)
    options = {"delay": 0.05, "log": str(tmp_path)}
    config = corpus.write_config(images={"detector_options": options})
    process = subprocess.Popen(
        [*COMMAND, "detect", config, "--out", tmp_path / "out", "--workers", str(workers)],
        stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        while not (tmp_path / "calls").exists() and process.poll() is None:
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert "Traceback" not in said
    assert said.splitlines()[-1] == "interrupted. Rerun the same command to resume."
    assert run(corpus.write_config(images={"detector_options": options}), tmp_path / "out", command="detect") == 0


def test_an_interrupt_of_a_short_command_has_nothing_to_resume() -> None:
    program = """
import signal, sys
from vlmixer.pipeline.commands import bank
from vlmixer.pipeline.commands.main import main
bank.open_bank = lambda folder: signal.raise_signal(signal.SIGINT)
sys.exit(main(["bank", "stats", "x"]))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted.\n")


@pytest.mark.parametrize("entry", ['runpy.run_module("vlmixer", run_name="__main__")', "import vlmixer.__main__"])
def test_an_interrupt_before_the_first_import(entry: str) -> None:
    program = f"""
import os, runpy, signal, sys
class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == "signal" or name.startswith("vlmixer.") and name != "vlmixer.__main__":
            signal.raise_signal(signal.SIGINT)
sys.meta_path.insert(0, Interrupting())
{entry}
vlmixer.__main__.main()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted.\n")


def test_a_command_ends_at_once_with_its_code_and_what_was_to_be_done_at_the_end() -> None:
    program = """
import atexit, sys
import vlmixer.__main__ as entry, vlmixer.pipeline.commands.main as command
class Kept:
    def __del__(self): print("taken apart")
kept = Kept()
def work():
    atexit.register(print, "called")
    print("worked")
    return 3
command.main = work
sys.exit(entry.main())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (3, "worked\ncalled\n", "")


def test_child_processes_keep_their_own_handlers() -> None:
    program = "import multiprocessing, signal, vlmixer.__main__\nprint(signal.getsignal(signal.SIGINT).__name__)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "default_int_handler\n"


@pytest.mark.parametrize("arguments", [["bank", "query", "bank", "--concept", "dog"], ["bank", "stats", "bank"],
                                       ["show", ".", "--json"], ["verify", "tagged", "--json"]])  # fmt: skip
def test_nobody_reads_stdout(small_run: Corpus, arguments: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            [*COMMAND, *arguments], cwd=small_run.folder / "out", stdout=writing, stderr=subprocess.PIPE, text=True
        )
    finally:
        os.close(writing)
    assert done.returncode == 141
    assert "Traceback" not in done.stderr
    assert "Error" not in done.stderr
