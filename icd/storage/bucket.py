"""A bucket as root: whole objects under names, and the folder in which each node keeps its own copies.

``s3://bucket/prefix``, ``gs://bucket/prefix``, or any other URL that ``pyarrow.fs`` opens. Credentials come from where
the stores' own libraries look (environment, profiles, roles of machines) and stand in no URL. An object is written in
one piece and is there whole or not at all; what was written is seen by the next reader and by the next listing, as S3,
GCS and MinIO promise.
"""

import functools
import hashlib
import logging
import os
import re
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from icd.errors import SetupError, UsageError
from icd.redact import hide
from icd.storage.durable import place

logger = logging.getLogger(__name__)

T = TypeVar("T")

MARKER_NAME = "bucket.url"  # in a copy's folder: whose copy it is
_PATIENCE_S = 120.0  # how long a store may be away; shorter than the time after which a trial is taken to hang
_LONGEST_WAIT_S = 8.0
_URL = re.compile(r"(?P<scheme>[a-z][a-z0-9+]+):/+(?P<rest>.+)")  # a Path has made one slash of two
# sqlite:///PATH is read by SQLAlchemy, and filled in by Optuna; the last are bytes that are no UTF-8
_NO_PART_OF_ADDRESSES = re.compile(r"[?%{}\x00-\x1f\ud800-\udfff]")
_OPTIONS = ("endpoint_override", "region", "scheme")

# What no patience mends, by what stores call it, and what to do.
_ADVICE = {
    "NO_SUCH_BUCKET": "there is no such bucket: make it, or mend --root",
    "ACCESS_DENIED": "the credentials may not do that, or there are none: see AWS_ACCESS_KEY_ID or AWS_PROFILE",
    "PERMISSION_DENIED": "the credentials may not do that, or there are none: see GOOGLE_APPLICATION_CREDENTIALS",
    "INVALID_ACCESS_KEY_ID": "the store does not know this key: see AWS_ACCESS_KEY_ID or AWS_PROFILE",
    "UNRECOGNIZED_CLIENT": "the store does not know this key: see AWS_ACCESS_KEY_ID or AWS_PROFILE",
    "SIGNATURE_DOES_NOT_MATCH": "the key's secret is wrong: see AWS_SECRET_ACCESS_KEY or AWS_PROFILE",
    "EXPIREDTOKEN": "the credentials have expired: get new ones",
    "TOOSKEWED": "this machine's clock is wrong: set it (chronyc makestep, or timedatectl set-ntp true)",
    "TOO_SKEWED": "this machine's clock is wrong: set it (chronyc makestep, or timedatectl set-ntp true)",
    "REQUEST_EXPIRED": "this machine's clock is wrong: set it (chronyc makestep, or timedatectl set-ntp true)",
    "HTTP STATUS 400": "the store refuses the request: see credentials, which may have expired, region and endpoint",
}


class Stored(NamedTuple):
    """An object as a listing shows it: bytes, and nanoseconds since 1970."""

    size: int
    written_ns: int


@dataclass(frozen=True, slots=True)
class Bucket:
    """The objects below a URL, by names relative to it.

    Every method tries for a while where the store does not answer.

    Raises:
        SetupError: If it stays away, or refuses; what to do is said, and no secret.
    """

    url: str
    patience_s: float = _PATIENCE_S

    def read(self, name: str) -> bytes | None:
        """Give an object's content, None where there is none, or an empty one."""

        def act() -> bytes | None:
            files, base = _opened(self.url)
            try:
                with files.open_input_stream(f"{base}/{name}") as stream:
                    return bytes(stream.read()) or None
            except FileNotFoundError:
                return None

        return self._patiently(act)

    def write(self, name: str, content: bytes) -> None:
        """Write an object whole, in place of what had its name."""

        def act() -> None:
            files, base = _opened(self.url)
            target = f"{base}/{name}"
            if files.type_name != "local":
                with files.open_output_stream(target) as stream:
                    stream.write(content)  # at once: a store keeps what came before an error in between
                return
            files.create_dir(target.rpartition("/")[0], recursive=True)
            aside = f"{target}.{os.getpid()}.{threading.get_native_id()}.tmp"
            with files.open_output_stream(aside) as stream:
                stream.write(content)
            files.move(aside, target)

        self._patiently(act)

    def upload(self, name: str, path: Path) -> None:
        """Write an object from a file."""
        self.write(name, path.read_bytes())

    def download(self, name: str, path: Path) -> bool:
        """Put an object's content into a file, whole; False where there is no such object."""
        content = self.read(name)
        if content is None:
            return False
        place(path, content)
        return True

    def list(self, prefix: str = "") -> dict[str, Stored]:
        """Give every object below a prefix, which ends where a part of a name does: ``sweeps/x``."""

        def act() -> dict[str, Stored]:
            from pyarrow import fs

            files, base = _opened(self.url)
            folder = f"{base}/{prefix}".rstrip("/")
            found = files.get_file_info(fs.FileSelector(folder, allow_not_found=True, recursive=True))
            return {
                info.path.removeprefix(f"{base}/"): Stored(info.size, info.mtime_ns or 0)
                for info in found
                if info.type == fs.FileType.File and info.size and not info.path.endswith(".tmp")
            }

        return self._patiently(act)

    def forget(self, name: str) -> None:
        """Leave an empty object, which counts as none: deleting is not the same thing in all stores."""
        self.write(name, b"")

    def check(self) -> None:
        """Write, read and list an object, as a sweep will."""
        name, word = f"probes/{socket.gethostname()}", os.urandom(16)
        self.write(name, word)
        if self.read(name) is None or name not in self.list("probes"):  # of two at a time one has the last word
            raise SetupError(f"bucket {self.url} does not give back what was written: choose another --root")

    def _patiently(self, act: Callable[[], T]) -> T:
        started, wait_s, said = time.monotonic(), 0.2, False
        while True:
            try:
                return act()
            except (OSError, ValueError, NotImplementedError) as error:  # pyarrow's errors are among these
                reason = _reason(error)
                advice = next((text for word, text in _ADVICE.items() if word in reason.upper()), None)
                if advice is not None or not isinstance(error, OSError):
                    raise SetupError(f"bucket {self.url}: {advice or 'cannot be used'} ({reason})") from error
                if time.monotonic() - started >= self.patience_s:
                    raise SetupError(
                        f"bucket {self.url} does not answer for {self.patience_s:.0f} s ({reason}): "
                        "see that it runs and that this machine reaches it"
                    ) from error
                if not said:
                    logger.warning("bucket %s does not answer (%s); trying on", self.url, reason)
                    said = True
                time.sleep(wait_s)
                wait_s = min(2 * wait_s, _LONGEST_WAIT_S)


def local_root(root: str | Path) -> Path:
    """Give the folder that stands for a root on this machine: itself, or for a URL the cache of that bucket.

    Raises:
        UsageError: If the URL holds credentials, or options that no store has, or the folder's name cannot be part of
            the addresses of databases.
        SetupError: If the cache cannot be made.
    """
    url = normal_url(str(root))
    if url is None:
        _refuse_name(str(Path(root).absolute()))
        return Path(root)
    readable = re.sub(r"[^A-Za-z0-9.-]+", "-", url.partition("?")[0]).strip("-")[-40:]
    folder = _cache() / f"{readable}-{hashlib.sha256(url.encode()).hexdigest()[:12]}"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        marker = folder / MARKER_NAME
        if not marker.exists():
            place(marker, url.encode())
    except OSError as error:
        raise SetupError(f"{folder} cannot be made: {error.strerror}; choose ICD_CACHE") from error
    return folder


def _refuse_name(path: str) -> None:
    if found := _NO_PART_OF_ADDRESSES.search(path):
        raise UsageError(
            f"the root's path must be UTF-8 without any of ? % {{ }} and control characters, but got {found[0]!r} in "
            f"{path!r}; choose another --root"
        )


def bucket_of(root: Path) -> Bucket | None:
    """Give the bucket that a folder holds copies of, None where the folder is a root itself."""
    try:
        return Bucket((root / MARKER_NAME).read_text().strip())
    except OSError:
        return None


def url_of(root: Path) -> str:
    """Give the URL of the bucket that a folder holds copies of; empty where it is a root itself."""
    bucket = bucket_of(root)
    return bucket.url if bucket is not None else ""


def normal_url(url: str) -> str | None:
    """Write a URL in one way, so that one bucket has one cache; None where a root is a folder.

    Raises:
        UsageError: If it holds credentials, or options that no store has.
    """
    match = _URL.fullmatch(url)
    if match is None:
        return None
    lead = "///" if match["scheme"] == "file" else "://"
    parts = urlsplit(f"{match['scheme']}{':' if lead == '///' else ''}{lead}{match['rest']}")
    if "@" in parts.netloc:
        raise UsageError("--root: a URL must hold no credentials: set AWS_ACCESS_KEY_ID and the like instead")
    options = dict(parse_qsl(parts.query))
    unknown = sorted(set(options) - set(_OPTIONS))
    if unknown or parts.fragment:
        raise UsageError(f"--root: a URL may have the options {', '.join(_OPTIONS)}, but got {', '.join(unknown)}")
    query = f"?{urlencode(sorted(options.items()))}" if options else ""
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}{query}"


def _cache() -> Path:
    chosen = os.environ.get("ICD_CACHE")
    if chosen:
        return Path(chosen).expanduser().absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "icd"


@functools.lru_cache(maxsize=8)
def _opened(url: str) -> tuple[Any, str]:
    """Open a store; one object of pyarrow's for all threads of the process."""
    from pyarrow import fs

    parts = urlsplit(url)
    if parts.scheme == "s3":
        return _s3(parts.netloc, dict(parse_qsl(parts.query))), f"{parts.netloc}{unquote(parts.path)}"
    files, base = fs.FileSystem.from_uri(url)
    return files, str(base).rstrip("/")


def _s3(bucket: str, options: dict[str, str]) -> Any:
    """Open S3 or a store that speaks like it, at the endpoint that the URL or the environment names."""
    from pyarrow import fs

    endpoint = options.get("endpoint_override") or os.environ.get("AWS_ENDPOINT_URL_S3")
    scheme, _, where = (endpoint or os.environ.get("AWS_ENDPOINT_URL") or "").rpartition("://")
    region = options.get("region") or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    if where:
        # Checksums that are sent after the content: not every store but Amazon's takes them.
        os.environ.setdefault("AWS_REQUEST_CHECKSUM_CALCULATION", "when_required")
        os.environ.setdefault("AWS_RESPONSE_CHECKSUM_VALIDATION", "when_required")
    return fs.S3FileSystem(
        endpoint_override=where.rstrip("/") or None,
        scheme=options.get("scheme") or scheme or "https",
        region=region or ("us-east-1" if where else fs.resolve_s3_region(bucket)),
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=1),  # we try again ourselves
        connect_timeout=10,
        request_timeout=30,
        allow_delayed_open=True,  # a small object takes one request
        check_directory_existence_before_creation=True,  # no marker beside what was deleted where others are left
    )


def _reason(error: Exception) -> str:
    """Write an error on one line, without secrets."""
    return hide(" ".join(str(error).split()) or type(error).__name__)[:300]
