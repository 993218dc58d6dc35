"""Signals that are noted: the first one waits for the work, the next one does not."""

import signal
import subprocess
import sys

import pytest

from vlmixer.artifacts import interrupts


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_is_noted_and_sent_twice_it_is_the_same(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with interrupts.noted(repeated=1000) as stop:
        assert stop.number == 0
        signal.raise_signal(number)
        signal.raise_signal(number)
        assert stop.number == number
    assert signal.getsignal(number) is before


def test_a_later_one_ends_the_work_at_once() -> None:
    with interrupts.noted(repeated=-1):
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_a_signal_waits_for_processes_to_be_started(capfd: pytest.CaptureFixture[str]) -> None:
    """Also in those that begin from nothing, and before they can say what they do with it."""
    started = "import signal; [signal.raise_signal(number) for number in (2, 15)]; print('here')"

    def work() -> None:
        with interrupts.held():
            signal.raise_signal(signal.SIGINT)
            subprocess.run([sys.executable, "-S", "-c", started], check=True)

    with pytest.raises(KeyboardInterrupt):
        work()
    assert capfd.readouterr() == ("here\n", "")


def test_another_process_of_the_work_says_it(capsys: pytest.CaptureFixture[str]) -> None:
    before = signal.getsignal(signal.SIGINT)
    try:
        assert interrupts.report(interrupts.Interrupted("saved.", signal.SIGTERM), "hint", quiet=True) == 143
        assert capsys.readouterr().err == ""
        assert interrupts.report(interrupts.Interrupted("saved.", signal.SIGTERM), "hint") == 143
        assert capsys.readouterr().err == "interrupted: saved. hint\n"
    finally:
        signal.signal(signal.SIGINT, before)
