"""Processes that are forked from this one and never come back into it."""

import contextlib
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from icd.errors import IcdError


def forked(act: Callable[[], int]) -> int:
    """Run something in a fork; its process number."""
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return pid
    code = 70
    try:
        code = act()
    except IcdError as error:
        sys.stderr.write(f"{error.code}: {error}\n")
        code = error.exit_code
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def close_all_but(keep: set[int]) -> None:
    """Give up what a fork has inherited, as an interpreter that is started from nothing would not have it.

    The numbers stay taken, by the null device: Python objects that still believe in them would otherwise close, when
    they are collected, whatever got the number since.
    """
    nowhere = os.open(os.devnull, os.O_RDWR)
    for entry in list(Path("/proc/self/fd").iterdir()):
        number = int(entry.name)
        if number not in keep and number != nowhere:
            with contextlib.suppress(OSError):
                os.fstat(number)  # the listing's own descriptor is gone by now
                os.dup2(nowhere, number)


class Fork:
    """A worker that was forked instead of started from nothing."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.code: int | None = None

    def poll(self) -> int | None:
        if self.code is None:
            done, status = os.waitpid(self.pid, os.WNOHANG)
            self.code = os.waitstatus_to_exitcode(status) if done else None
        return self.code
