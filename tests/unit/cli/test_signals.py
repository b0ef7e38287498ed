"""The first signal asks to stop, the second ends the process."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from icd.cli.signals import STOPPED_BY, stop_requested, stopping_politely

NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.fixture(autouse=True)
def handlers_as_they_were() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in NUMBERS}
    yield
    STOPPED_BY.clear()
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", NUMBERS)
def test_the_first_signal_is_remembered_and_the_second_ends_the_process(
    number: int, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    ended: list[int] = []
    monkeypatch.setattr(os, "_exit", ended.append)
    before = signal.getsignal(number)
    with stopping_politely():
        assert not stop_requested()
        os.kill(os.getpid(), number)
        assert stop_requested()
        assert (list(STOPPED_BY), ended) == ([number], [])
        assert "icd: stopping after the current epoch" in capfd.readouterr().err
        os.kill(os.getpid(), signal.SIGTERM)
        assert ended == [128 + signal.SIGTERM]
    assert signal.getsignal(number) is before


@pytest.mark.parametrize("number", NUMBERS)
def test_a_signal_that_was_ignored_stays_ignored(number: int) -> None:
    signal.signal(number, signal.SIG_IGN)
    with stopping_politely():
        os.kill(os.getpid(), number)
        assert not stop_requested()
    assert signal.getsignal(number) is signal.SIG_IGN


def test_the_second_signal_says_how_to_go_on() -> None:
    work = (
        "import os, signal; from icd.cli.signals import stopping_politely\n"
        "with stopping_politely('--resume'):\n    [os.kill(os.getpid(), signal.SIGINT) for _ in range(2)]"
    )
    done = subprocess.run([sys.executable, "-c", work], capture_output=True, text=True, check=False)
    assert done.returncode == 130
    assert done.stderr.endswith("stopped before the epoch's end; continue with --resume\n")
