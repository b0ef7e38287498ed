"""Output that cannot be written: a full disk, a reader that has ended, a closed terminal."""

import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

_SHOW = "import sys; from icd.cli.main import main; sys.exit(main(['--help']))"
# As a driver does: it works, prints much with Rich, and gives its own exit code.
_WORK = """
import sys
from rich.console import Console
from rich.live import Live
from icd.streams import lasting_streams
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
