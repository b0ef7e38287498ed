"""Jobs of a Ray cluster from outside: one is sent, its log is followed, its exit code is found.

The dashboard's job API is spoken to by HTTP, so this machine needs neither a node of the cluster nor its folders. Ray
itself finds the token (RAY_AUTH_MODE, RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH) and sends it in a header; nothing here reads
it. The log is asked for again and again instead of kept open: an answer either comes in time or is asked for anew, and
no proxy or tunnel on the way needs to pass WebSockets.
"""

import contextlib
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from icd.errors import SetupError

logger = logging.getLogger(__name__)

_TIMEOUT_S = (5.0, 30.0)  # to connect, and to answer; Ray's own client waits for ever
_SHORTEST_S, _LONGEST_S = 0.5, 5.0
_BYTES_PER_S = 100_000  # of a log that is read again each time: the longer it is, the less often
_GIVE_UP_S = 600.0
_TOKEN = (
    "take the cluster's token: RAY_AUTH_MODE=token with RAY_AUTH_TOKEN_PATH=FILE (or RAY_AUTH_TOKEN), "
    "or, where the cluster wants none, unset them"
)
_NO_JOBS = (
    "it must be the dashboard of a Ray with its job API (pip install 'ray[default]' on the head, "
    "and --include-dashboard true)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What is sent.

    Attributes:
        id: Ray's submission id.
        entrypoint: Command line for the shell over there.
        metadata: Shown in lists of jobs.
        variables: Environment of the job and its workers.
    """

    id: str
    entrypoint: str
    metadata: Mapping[str, str]
    variables: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a job ended.

    Attributes:
        status: ``SUCCEEDED``, ``FAILED`` or ``STOPPED``.
        code: Exit code of the entry point; None if it never ran, or was stopped.
        message: Ray's own words.
    """

    status: str
    code: int | None
    message: str


class Jobs:
    """A cluster's job API.

    Args:
        url: ``http://HOST:8265`` or ``https://...``, of the cluster's dashboard.

    Attributes:
        ray_here: Version of Ray on this machine.
        ray_there: Version of Ray on the cluster, if it says so.

    Raises:
        SetupError: If it does not answer, is no job API, or refuses the token.
    """

    def __init__(self, url: str) -> None:
        self.url = checked(url)
        try:
            import ray
            from ray.job_submission import JobSubmissionClient
            from requests.exceptions import RequestException
        except ImportError as error:
            raise SetupError(f"jobs need Ray's client ({error}): pip install '.[cluster]' in icd's folder") from error
        for name in ("job.sdk", "dashboard_sdk"):  # which say on INFO what is said here
            logging.getLogger(f"ray.dashboard.modules.{name}").setLevel(logging.WARNING)

        class Patient(JobSubmissionClient):
            """Ray's client, which gives up waiting for an answer."""

            def _do_request(self, *words: Any, **options: Any) -> Any:
                return super()._do_request(*words, **{"timeout": _TIMEOUT_S, **options})

        self._broken: tuple[type[Exception], ...] = (RequestException, ConnectionError)
        self._failed: tuple[type[Exception], ...] = (*self._broken, RuntimeError)
        self._refused: type[Exception] = ray.exceptions.AuthenticationError
        with self._told("does not take jobs", _NO_JOBS), _only(self.url):
            self._client = Patient(self.url)
        self.ray_here: str = ray.__version__
        self.ray_there: str | None = getattr(self._client, "_server_ray_version", None)

    def submit(self, job: Job) -> None:
        """Send a job.

        Raises:
            SetupError: If it was not taken.
        """
        with self._told("did not take the job", f"'ray job status {job.id} --address {self.url}' says if it runs"):
            self._client.submit_job(
                entrypoint=job.entrypoint,
                submission_id=job.id,
                metadata=dict(job.metadata),
                runtime_env={"env_vars": dict(job.variables)} if job.variables else None,
            )

    def follow(self, job_id: str, write: Callable[[str], None]) -> Ended:
        """Hand on a job's log as it grows, until the job has ended; a broken connection is tried again.

        Raises:
            SetupError: If the cluster no longer knows the job, or has not answered for ten minutes.
        """
        seen, pause = 0, _SHORTEST_S
        while True:
            # Before the log: what a job that has ended wrote is in the log that is read afterwards.
            info = self._patiently(job_id, lambda: self._client.get_job_info(job_id))
            text: str = self._patiently(job_id, lambda: self._client.get_job_logs(job_id))
            write(text[seen:])
            pause = _SHORTEST_S if len(text) > seen else min(_LONGEST_S, 1.5 * pause)
            seen = max(seen, len(text))
            if info.status.is_terminal():
                return Ended(status=str(info.status), code=info.driver_exit_code, message=str(info.message or ""))
            time.sleep(max(pause, len(text) / _BYTES_PER_S))

    def _patiently(self, job_id: str, ask: Callable[[], Any]) -> Any:
        lost, pause = float("inf"), _SHORTEST_S
        while True:
            try:
                found = ask()
            except self._refused as error:
                raise SetupError(f"{self.url} refuses this machine: {_short(error)}; {_TOKEN}") from error
            except self._failed as error:
                if "status code 404" in str(error):
                    raise SetupError(
                        f"{self.url} no longer knows job {job_id}: its head was started anew; 'icd resume' goes on "
                        "with what the job drove"
                    ) from error
                if lost == float("inf"):
                    lost = time.monotonic()
                    logger.warning("%s does not answer; the job runs on, and is asked for again", self.url)
                elif time.monotonic() - lost > _GIVE_UP_S:
                    raise SetupError(
                        f"{self.url} has not answered for {_GIVE_UP_S / 60:.0f} minutes ({_short(error)}); "
                        f"job {job_id} runs on if its cluster does: try again later"
                    ) from error
                time.sleep(pause)
                pause = min(_LONGEST_S, 2 * pause)
            else:
                if lost < float("inf"):
                    logger.warning("%s answers again", self.url)
                return found

    @contextlib.contextmanager
    def _told(self, what: str, advice: str) -> Iterator[None]:
        """Turn what Ray's client raises into what to do about it."""
        try:
            yield
        except self._refused as error:
            raise SetupError(f"{self.url} refuses this machine: {_short(error)}; {_TOKEN}") from error
        except (RuntimeError, ValueError, KeyError, TypeError) as error:  # an answer that is no JSON is a ValueError
            raise SetupError(f"{self.url} {what}: {_short(error)}; {advice}") from error
        except self._broken as error:
            raise SetupError(_unreachable(self.url, error)) from error


def checked(url: str) -> str:
    """Give the address of a dashboard without its last slash.

    Raises:
        SetupError: If it is none, or has a password in it, which would be printed and kept.
    """
    try:
        parts = urlsplit(url)
        scheme, host, secret = parts.scheme, parts.hostname, parts.username or parts.password
    except ValueError:
        scheme, host, secret = "", None, None
    if secret:
        raise SetupError(f"--submit takes no user or password in its address; {_TOKEN}")
    if scheme not in ("http", "https") or not host:
        raise SetupError(
            f"--submit must be the http:// or https:// address of a Ray dashboard, such as http://127.0.0.1:8265, "
            f"but got {url!r}"
        )
    return url.rstrip("/")


def differs(here: str, there: str | None) -> bool:
    """Whether two versions of Ray differ in more than a patch."""
    return there is not None and here.split(".")[:2] != there.split(".")[:2]


@contextlib.contextmanager
def _only(url: str) -> Iterator[None]:
    """Keep Ray's client from going elsewhere: RAY_ADDRESS and RAY_API_SERVER_ADDRESS beat what it is called with."""
    name = "RAY_API_SERVER_ADDRESS"
    before = os.environ.get(name)
    os.environ[name] = url
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _unreachable(url: str, error: BaseException) -> str:
    while error.__context__ is not None:  # the first cause says it in the fewest words
        error = error.__context__
    cause = _short(error)
    if "SSL" in cause or "CERTIFICATE" in cause:
        return f"{url} cannot be reached by TLS ({cause}); try http://, or name its certificate by REQUESTS_CA_BUNDLE"
    return (
        f"no Ray dashboard answers at {url} ({cause}); check address and port (8265 unless chosen otherwise), that "
        "the head runs with its dashboard, and the tunnel to it, if there is one"
    )


def _short(error: BaseException) -> str:
    """Give the first paragraph of a message; Ray's own advice about tokens follows in another."""
    text = str(error).strip().partition("\n\n")[0]
    return " ".join(text.split())[:200] or type(error).__name__
