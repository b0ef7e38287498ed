"""Output that cannot be written (a full disk, a reader that has ended, a closed terminal), and what signals do."""

import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from icd.cli.console import STOPPED_BY, stop_requested, stopping_politely

_SHOW = "import sys; from icd.cli.main import main; sys.exit(main(['--help']))"
# As a driver does: it works, prints much with Rich, and gives its own exit code.
_WORK = """
import sys
from rich.console import Console
from rich.live import Live
from icd.cli.console import lasting_streams
with lasting_streams():
    console = Console(file=sys.stderr)
    with Live(console=console, transient=True, auto_refresh=False) as live:
        for number in range(2000):
            console.print("line", number)
            live.update("shown", refresh=True)
    print("x" * 100000)
sys.exit(7)
"""


@contextmanager
def sink(kind: str) -> Iterator[int]:
    """Give a file descriptor that cannot be written."""
    if kind == "full disk":
        number = os.open("/dev/full", os.O_WRONLY)
    else:
        reading, number = os.pipe() if kind == "pipe" else pty.openpty()
        os.close(reading)
    try:
        yield number
    finally:
        os.close(number)


@pytest.mark.parametrize("kind", ["full disk", "pipe", "terminal"])
def test_work_goes_on_where_nothing_can_be_printed(kind: str) -> None:
    with sink(kind) as number:
        done = subprocess.run([sys.executable, "-c", _WORK], stdout=number, stderr=number, check=False)
    assert done.returncode == 7


@pytest.mark.parametrize(("kind", "code"), [("full disk", 3), ("pipe", 0), ("terminal", 3)])
def test_a_verb_that_only_prints_says_whether_it_could(kind: str, code: int) -> None:
    with sink(kind) as number:
        done = subprocess.run(
            [sys.executable, "-c", _SHOW], stdout=number, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == code, done.stderr
    assert done.stderr.count("\n") == (code == 3)
    assert "stdout cannot be written" in done.stderr or code == 0


@pytest.mark.parametrize("closed", [1, 2])
def test_a_stream_may_be_closed(closed: int) -> None:
    done = subprocess.run(
        ["sh", "-c", f'"$@" {closed}>&-', "sh", sys.executable, "-c", _SHOW], capture_output=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert bool(done.stdout) == (closed == 2)


# Signals

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
        "import os, signal; from icd.cli.console import stopping_politely\n"
        "with stopping_politely('--resume'):\n    [os.kill(os.getpid(), signal.SIGINT) for _ in range(2)]"
    )
    done = subprocess.run([sys.executable, "-c", work], capture_output=True, text=True, check=False)
    assert done.returncode == 130
    assert done.stderr.endswith("stopped before the epoch's end; continue with --resume\n")
