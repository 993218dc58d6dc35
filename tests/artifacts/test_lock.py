"""One run at a time: who else is refused, and what a kill leaves behind."""

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import uuid
from contextlib import contextmanager

import pytest

from vlmixer.artifacts import files
from vlmixer.artifacts.errors import UserError, WriteError
from vlmixer.artifacts.lock import held_together, in_turn, locked

HOLD = """
import sys, time
from vlmixer.artifacts.lock import {0}
with {0}(sys.argv[1]):
    print("held", flush=True)
    time.sleep(600)
"""


@contextmanager
def holding(how, folder):
    """Another process that holds a lock; its number."""
    holder = subprocess.Popen([sys.executable, "-c", HOLD.format(how), str(folder)], stdout=subprocess.PIPE)
    assert holder.stdout
    assert holder.stdout.readline() == b"held\n"
    try:
        yield holder.pid
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.communicate()


@pytest.fixture(params=["local", "memory"])
def folder(request, tmp_path):
    return str(tmp_path / "logs") if request.param == "local" else f"memory://{uuid.uuid4().hex}"


def test_a_lock_is_held_and_given_back(folder):
    with locked(folder):
        assert files.exists(files.join(folder, "lock"))
        with pytest.raises(UserError, match=rf"another run .* \(process {os.getpid()} on ") as refused, locked(folder):
            pass
        assert "give another --out" in str(refused.value)
        assert not isinstance(refused.value, WriteError)
    assert files.list_files(folder) == []
    with locked(folder):
        pass


def test_an_exception_gives_it_back(folder):
    with pytest.raises(ZeroDivisionError), locked(folder):
        raise ZeroDivisionError
    with locked(folder):
        pass


def test_another_process_holds_it_until_it_is_killed(tmp_path):
    with (
        holding("locked", tmp_path) as pid,
        pytest.raises(UserError, match=rf"process {pid} on {socket.gethostname()}"),
        locked(str(tmp_path)),
    ):
        pass
    with locked(str(tmp_path)):
        pass


def test_several_hold_it_together_and_nobody_alone_meanwhile(tmp_path):
    with holding("held_together", tmp_path):
        with held_together(str(tmp_path)):
            pass
        with pytest.raises(UserError, match="another run"), locked(str(tmp_path)):
            pass
    with locked(str(tmp_path)), pytest.raises(UserError, match="another run"), held_together(str(tmp_path)):
        pass
    assert os.listdir(tmp_path) == []


def test_the_turn_comes_when_the_process_before_has_ended(tmp_path, caplog):
    caplog.set_level("INFO", logger="vlmixer")
    with holding("in_turn", tmp_path) as pid:
        ending = threading.Timer(0.5, os.kill, (pid, signal.SIGKILL))
        ending.start()
        with in_turn(str(tmp_path)):
            assert not ending.is_alive()
            assert "turn: waiting for the process that prepares the work" in caplog.text
    assert os.listdir(tmp_path) == []


def left_behind(folder, **changes):
    """A lock in an object store as a killed run leaves it."""
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    holder = {"host": socket.gethostname(), "pid": gone.pid, "since": "2026-01-01 00:00:00", "started": "12"}
    files.publish_bytes(files.join(folder, "lock"), json.dumps(holder | changes).encode())


def test_in_an_object_store_the_lock_of_a_process_that_is_gone_is_taken_over():
    folder = f"memory://{uuid.uuid4().hex}"
    left_behind(folder)
    with locked(folder):
        assert json.loads(files.read_bytes(files.join(folder, "lock")))["pid"] == os.getpid()
    assert files.list_files(folder) == []


@pytest.mark.parametrize("content", [{"host": "elsewhere"}, {"pid": "?"}, {"started": ""}])
def test_in_an_object_store_a_lock_of_which_nothing_is_known_is_left(content):
    folder = f"memory://{uuid.uuid4().hex}"
    left_behind(folder, **content)
    with pytest.raises(UserError, match=f"If it was killed on another machine, remove {folder}/lock"), locked(folder):
        pass
    assert files.exists(files.join(folder, "lock"))


def test_a_lock_that_is_not_valid_json_is_refused_all_the_same():
    folder = f"memory://{uuid.uuid4().hex}"
    files.publish_bytes(files.join(folder, "lock"), b"?")
    with pytest.raises(UserError, match="the lock does not say which"), locked(folder):
        pass


def test_where_nothing_can_be_written_the_error_names_the_place(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with (
        pytest.raises(WriteError, match=r"file/logs/lock: cannot be written: (Not a directory|File exists)"),
        locked(str(tmp_path / "file" / "logs")),
    ):
        pass


@pytest.mark.parametrize("held", [True, False])
def test_a_pipe_in_its_place_is_an_error_and_not_waited_for(tmp_path, held):
    os.mkfifo(tmp_path / "lock")
    other = os.open(tmp_path / "lock", os.O_RDWR)
    if held:
        fcntl.flock(other, fcntl.LOCK_EX)
    before = os.listdir("/dev/fd")
    with pytest.raises(WriteError, match="lock: cannot be written: it is not a regular file"), locked(str(tmp_path)):
        pass
    assert os.listdir("/dev/fd") == before
    os.close(other)
    assert (tmp_path / "lock").is_fifo()
