"""A sweep whose root is a bucket, on one machine after another."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from icd.storage.bucket import Bucket, local_root
from tests.crash.harness import table
from tests.crash.served import HARNESS, Harness
from tests.integration.s3_server import S3Server
from tests.tiny import unpruned

EPOCHS = 8


CHANGES = unpruned(EPOCHS, trials=2, resources={"max_concurrent": 1, "hang_seconds": 60, "retries": 3})


class Site:
    """A bucket, a database that outlives machines, and one machine after another."""

    def __init__(self, server: S3Server, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.url = server.make_bucket(folder.name.replace("_", "-")) + "/some/prefix"
        self.bucket = Bucket(self.url)
        self.environment: dict[str, str] = {
            **server.environment,
            "ICD_STORAGE_URL": f"sqlite:///{folder / 'study.db'}",
            "MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}",
        }
        self.harness = Harness(HARNESS, **self.environment)
        for name, value in self.environment.items():
            monkeypatch.setenv(name, value)
        for name in ("study.db", "mlflow.db"):
            shutil.copy(self.harness.fresh / name, folder)
        self._monkeypatch = monkeypatch

    def machine(self, name: str) -> Path:
        """Start on a machine with an empty disk; gives its copy of the root."""
        cache = str(self.folder / name)
        self._monkeypatch.setenv("ICD_CACHE", cache)
        self.harness.environment["ICD_CACHE"] = cache
        return local_root(self.url)

    def rows_published(self, number: int) -> int:
        content = self.bucket.read(f"sweeps/crash/trials/{number:04d}/a1/metrics.jsonl") or b""
        return content.count(b"\n")


def table_of(root: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Read a root that is a folder, with its study in it."""
    with monkeypatch.context() as patch:
        patch.delenv("ICD_STORAGE_URL")
        return table(root)
