"""Workers of sweeps in this process, forked from one that has imported torch: 4 s of CPU less for each."""

import multiprocessing
import os
from collections.abc import Mapping
from multiprocessing.connection import Connection
from pathlib import Path

from icd.worker.main import serve_pipe

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["icd.worker.run_trial", "icd.worker.preflight", "icd.worker.trial_probe"])


class ForkedWorker:
    """A worker that the server has forked; a ``Child`` of ``icd/search/executors/local/worker_process.py``."""

    def __init__(self, pipe: Connection, environment: dict[str, str], log: Path) -> None:
        self._process = SERVER.Process(target=_serve, args=(pipe, environment, log, Path.cwd()))
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    def poll(self) -> int | None:
        return self._process.exitcode


def launch_forked(pipe: int, environment: Mapping[str, str], log: Path) -> ForkedWorker:
    """Start a worker as ``launch_python`` does, but with everything imported."""
    return ForkedWorker(Connection(os.dup(pipe)), {**os.environ, **environment}, log)


def _serve(pipe: Connection, environment: dict[str, str], log: Path, folder: Path) -> None:
    os.setsid()
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    serve_pipe(pipe)
