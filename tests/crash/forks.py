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
    """Close what a fork has inherited, as an interpreter that is started from nothing would not have it."""
    for entry in list(Path("/proc/self/fd").iterdir()):
        if int(entry.name) not in keep:
            with contextlib.suppress(OSError):
                os.close(int(entry.name))


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
