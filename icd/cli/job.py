"""A verb as a job, on the cluster's side: ``python -m icd.cli.job VERSION VERB ...``, sent by ``--submit``.

Ray keeps what a job writes in one log, so each line of the verb's stdout is marked; whoever follows takes them apart
again. A file that came with the job is written to a folder of its own and named as the verb's last word.
"""

import base64
import io
import json
import os
import sys
import tempfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from icd import __version__
from icd.cli.main import main

MARK = "icd-out: "
FILE_VARIABLE = "ICD_JOB_FILE"


class Marked(io.RawIOBase):
    """Bytes for a file descriptor, each line with the mark before it and written as a whole."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self._number, self._begun = number, b""

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._number

    def write(self, data: Any, /) -> int:
        *lines, self._begun = (self._begun + bytes(data)).split(b"\n")
        for line in lines:
            _write_all(self._number, MARK.encode() + line + b"\n")
        return len(data)

    def close(self) -> None:
        """Write what has no newline yet."""
        if self._begun:
            self.write(b"\n")
        super().close()


def _write_all(number: int, data: bytes) -> None:
    while data:
        data = data[os.write(number, data) :]


def pack(name: str, text: str) -> str:
    """Put a file into one word that any shell, JSON and environment carries unchanged."""
    return base64.b64encode(zlib.compress(json.dumps([name, text]).encode(), 9)).decode()


def unpack(word: str) -> tuple[str, str]:
    """Give name and text of a packed file."""
    name, text = json.loads(zlib.decompress(base64.b64decode(word)))
    return str(name), str(text)


def run(words: Sequence[str]) -> int:
    """Run the verb; returns its exit code.

    Args:
        words: The sender's version, then the verb's words.
    """
    sender, *verb = words
    if sender != __version__:
        sys.stderr.write(f"icd: sent by icd {sender}, run by icd {__version__}: defaults and options may differ\n")
    os.environ.pop("ICD_SUBMIT", None)  # a cluster whose own jobs went to a cluster would never get anything done
    packed = os.environ.pop(FILE_VARIABLE, None)
    if packed is None:
        return main(verb)
    with tempfile.TemporaryDirectory(prefix="icd-job-") as folder:
        name, text = unpack(packed)
        path = Path(folder) / Path(name).name
        path.write_text(text, encoding="utf-8")
        return main([*verb, "--", str(path)])


if __name__ == "__main__":
    with io.TextIOWrapper(io.BufferedWriter(Marked(1)), encoding="utf-8", line_buffering=True) as stdout:
        sys.stdout = stdout
        code = run(sys.argv[1:])
    sys.stdout = sys.__stdout__
    sys.exit(code)
