"""A notice that a process has to go, and what an attempt makes of it."""

import os
import signal
import subprocess
import sys
import time

import pytest

from icd.worker.preemption import PreemptionNotice


def test_the_first_notice_counts() -> None:
    notice = PreemptionNotice()
    assert not notice.given
    assert not notice.over(0.0)
    notice.give("SIGTERM")
    notice.give("node b is taken back", 1000.0)
    assert notice.given
    assert notice.reason == "SIGTERM"
    assert not notice.over(60.0)
    time.sleep(0.01)
    assert notice.over(0.0)


@pytest.mark.parametrize(("seconds", "over"), [(0.0, True), (60.0, False), (float("inf"), False), (None, True)])
def test_who_gives_it_may_say_how_long_there_is(seconds: float | None, over: bool) -> None:
    notice = PreemptionNotice()
    notice.give("node b is taken back", seconds)
    time.sleep(0.01)
    assert notice.over(0.0) is over


def test_a_sigterm_is_a_notice_even_where_it_was_blocked() -> None:
    program = (
        "import signal, sys, time; signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM});"
        "from icd.worker.preemption import NOTICE, heed_sigterm; heed_sigterm(); print('ready', flush=True);"
        "[time.sleep(0.01) for _ in range(3000) if not NOTICE.given]; print(NOTICE.reason)"
    )
    child = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    os.kill(child.pid, signal.SIGTERM)
    output, _ = child.communicate(timeout=240)
    assert (output, child.returncode) == ("SIGTERM\n", 0)
