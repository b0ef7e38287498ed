"""A worker that trains nothing: the real one with an attempt that answers at once."""

import sys
from multiprocessing.connection import Connection
from typing import Any

from no_op import no_op

from icd.search.core.attempts import Attempt, AttemptResult
from icd.worker.main import serve_pipe


def run(attempt: Attempt, send: Any, *, progress: Any) -> AttemptResult:
    """Do an attempt."""
    return no_op(attempt, send)


if __name__ == "__main__":
    serve_pipe(Connection(int(sys.argv[1])), run)
