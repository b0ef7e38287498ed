"""A root that is a URL: what it is called, where its copies lie, and objects that are whole or absent."""

import stat
import time
from pathlib import Path

import pytest

from icd.errors import SetupError, UsageError
from icd.search.study.database import storage_url
from icd.storage import bucket as buckets
from icd.storage.bucket import Bucket, bucket_of, local_root, normal_url, url_of


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ICD_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def bucket(tmp_path: Path) -> Bucket:
    return Bucket(f"file://{tmp_path}/store", patience_s=0)


@pytest.mark.parametrize(
    ("given", "normal"),
    [
        ("s3://name", "s3://name"),
        ("s3://name/a/b/", "s3://name/a/b"),
        ("s3:/name/a", "s3://name/a"),  # what pathlib makes of it
        ("gs://name/a", "gs://name/a"),
        ("file:///a/b", "file:///a/b"),
        ("s3://name/a?region=eu-west-1", "s3://name/a?region=eu-west-1"),
    ],
)
def test_one_bucket_has_one_name(given: str, normal: str) -> None:
    assert normal_url(given) == normal == normal_url(normal)
    assert local_root(given) == local_root(normal)


def test_folders_are_no_urls(tmp_path: Path) -> None:
    for folder in ("runs", "/shared/runs", "a:b", "./s3", str(tmp_path)):
        assert local_root(folder) == Path(folder)
        assert normal_url(folder) is None
    assert bucket_of(tmp_path) is None
    assert url_of(tmp_path) == ""


@pytest.mark.parametrize("url", ["s3://key:secret@name/a", "s3://name/a?access_key=key", "s3://name/a#b"])
def test_a_url_holds_no_secrets(url: str) -> None:
    with pytest.raises(UsageError, match="--root: a URL") as caught:
        local_root(url)
    assert "secret" not in str(caught.value)


def test_copies_are_this_users_alone_and_know_their_bucket(cache: Path) -> None:
    folder = local_root("s3://name/a")
    assert folder.parent == cache
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert bucket_of(folder) == Bucket("s3://name/a")
    assert local_root("s3://name/b") != folder


def test_objects(bucket: Bucket, tmp_path: Path) -> None:
    assert bucket.read("a/b") is None
    assert bucket.list() == bucket.list("a") == {}
    bucket.write("a/b", b"one")
    bucket.write("a/c/d", b"four")
    bucket.write("ab/c", b"5")
    assert bucket.read("a/b") == b"one"
    assert {name: found.size for name, found in bucket.list("a").items()} == {"a/b": 3, "a/c/d": 4}
    bucket.write("a/b", b"other")
    assert bucket.download("a/b", tmp_path / "x" / "y")
    assert (tmp_path / "x" / "y").read_bytes() == b"other"
    bucket.forget("a/b")
    assert bucket.read("a/b") is None
    assert not bucket.download("a/b", tmp_path / "z")
    assert list(bucket.list("a")) == ["a/c/d"]
    bucket.check()


def test_what_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("a file")
    with pytest.raises(SetupError, match="does not answer for 0 s"):
        Bucket(f"file://{tmp_path}/store", patience_s=0).write("a/b", b"1")


def test_a_store_that_comes_back_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "store").write_text("a file")
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 3:
            (tmp_path / "store").unlink()

    monkeypatch.setattr(time, "sleep", sleep)
    found = Bucket(f"file://{tmp_path}/store", patience_s=60)
    found.write("a/b", b"1")
    assert found.read("a/b") == b"1"
    assert slept == [0.2, 0.4, 0.8]


@pytest.mark.parametrize(
    ("said", "advice"),
    [
        ("AWS Error NO_SUCH_BUCKET during PutObject", "there is no such bucket"),
        ("AWS Error ACCESS_DENIED during HeadObject", "credentials"),
        ("AWS Error UNKNOWN (HTTP status 403): RequestTimeTooSkewed", "clock is wrong"),
        ("AWS Error UNKNOWN (HTTP status 400) during PutObject operation: ExpiredToken", "have expired: get"),
        ("AWS Error UNKNOWN (HTTP status 400) during HeadObject operation: No response body.", "may have expired"),
        ("AWS Error SIGNATURE_DOES_NOT_MATCH for key-id with top/secret", "secret is wrong"),
    ],
)
def test_what_patience_does_not_mend_is_said_at_once(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch, said: str, advice: str
) -> None:
    def refuse(url: str) -> None:
        raise OSError(said)

    monkeypatch.setattr(buckets, "_opened", refuse)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "top/secret")
    monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail("it waited"))
    with pytest.raises(SetupError, match=advice) as caught:
        Bucket(bucket.url, patience_s=60).read("a")
    assert "secret with" not in str(caught.value)
    assert "top/secret" not in str(caught.value)


def test_a_bucket_holds_no_study(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ICD_STORAGE_URL", raising=False)
    root = local_root("s3://name/a")
    with pytest.raises(SetupError, match=r"s3://name/a is a bucket.*set ICD_STORAGE_URL"):
        storage_url(root)
    monkeypatch.setenv("ICD_STORAGE_URL", "sqlite:////somewhere/study.db")
    assert storage_url(root) == "sqlite:////somewhere/study.db"
