"""A machine that seems to run out of memory: a process and all below it read a ``/proc/meminfo`` of ours.

Ray's memory monitor and the driver read that file anew each time. So the monitor is the real one, and what it kills is,
but a test takes no memory from others and theirs does not disturb it.
"""

import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

_ENTER = 'mount --bind "$1" /proc/meminfo && shift && exec "$@"'


class Memory:
    """The memory that a process believes in.

    Args:
        path: Where the file is written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        text = Path("/proc/meminfo").read_text()
        self._total = int(re.findall(r"MemTotal: +(\d+)", text)[0])
        path.write_text(re.sub(r"(MemTotal|MemAvailable): +\d+", lambda match: f"{match[1]}: {self._total:15d}", text))

    def leave(self, share: float) -> None:
        """Let so much of it be free."""
        text = self.path.read_text()
        at = text.index("MemAvailable: ") + len("MemAvailable: ")
        with self.path.open("r+") as file:  # in place: what is mounted is this file
            file.seek(at)
            file.write(f"{int(share * self._total):15d}")

    @property
    def enter(self) -> Sequence[str]:
        """Words before a command; needs the right to mount."""
        return ("unshare", "--mount", "sh", "-c", _ENTER, "sh", str(self.path))

    @property
    def can_be_entered(self) -> bool:
        """Whether this machine lets us."""
        done = subprocess.run([*self.enter, "true"], capture_output=True, check=False)
        return done.returncode == 0
