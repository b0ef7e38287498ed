"""Connects this process to a Ray: started on this machine for one sweep, or joined; never one that happens to run here.

A cluster of our own listens on loopback, and has a fresh token in a folder that only this user can read, whatever
``RAY_AUTH_MODE`` says. ``ray stop`` is never called: it would end every Ray on the host.
"""

import contextlib
import fcntl
import logging
import os
import queue
import shutil
import signal
import socket
import tempfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError

from icd.errors import SetupError
from icd.machine import usable_cpus
from icd.search.executors.ray.internals import bound_to_loopback, forget_token, nodes_of, print_instead
from icd.search.executors.ray.security import exposed, listeners, refuse_open, write_token
from icd.worker.gpus import VISIBLE, visible_gpus

logger = logging.getLogger(__name__)

LOCAL = "local"

# Set where the user has not: nothing printed, nothing sent, no retries or log files of Tune's own.
_ENVIRONMENT = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_TRAIN_COUNT_PREEMPTION_AS_FAILURE": "1",  # or Tune would start a preempted trial again by itself
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",  # 15 otherwise: trials would starve on a shared machine
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",  # its snapshots are never read
    "TUNE_MAX_PENDING_TRIALS_PG": "10000",  # the searcher gives no more than may run
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}
_OBJECT_STORE_BYTES = 100 << 20
_WITHIN_S = 15.0  # an address must answer; Ray itself would try for a quarter of an hour
_LONGEST_TEMP = 16  # Ray puts sockets below its folder; their paths may have 107 characters, 91 of them below this
_OWNER = "owner"  # file in the folder of a Ray of our own, locked by its driver
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
_ADVICE = (
    "check the address (HOST:PORT of the head's GCS, 6379 where 'ray start' chose it; a dashboard takes --submit "
    "http://HOST:8265), that this machine runs a node of that cluster, and its token (RAY_AUTH_MODE=token and "
    "RAY_AUTH_TOKEN_PATH=FILE, the same as on the cluster)"
)


@contextlib.contextmanager
def connected(address: str) -> Iterator[None]:
    """Start a Ray of our own (``local``), or join one, and leave it at the block's end; one of our own ends then.

    A Ray that this process is connected to already is used, and stays.

    Raises:
        SetupError: If it cannot be started or joined, or is open to everybody.
    """
    with contextlib.ExitStack() as leaving:
        leaving.callback(print_instead, print_instead(_to_log))
        leaving.enter_context(environment({name: os.environ.get(name, new) for name, new in _ENVIRONMENT.items()}))
        if not ray.is_initialized():
            leaving.callback(forget_token)
            folder = leaving.enter_context(_own_folder()) if address == LOCAL else None
            leaving.callback(_shut_down)
            with signals_kept():
                join(address) if folder is None else _start(folder)
        yield


def join(address: str) -> None:
    """Connect this process to a cluster that others started.

    Raises:
        SetupError: If it cannot be joined, or is open to everybody.
    """
    refuse_other_forms(address)
    if address != "auto":
        check_address(address)
    forget_token()
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (RayError, ConnectionError, RuntimeError, ValueError, OSError) as error:
        raise SetupError(f"the Ray cluster at {address} cannot be joined: {_first_line(error)}; {_ADVICE}") from error
    refuse_open(ray.get_runtime_context().gcs_address)


def refuse_other_forms(address: str) -> None:
    """Refuse a URL, which is no address of a cluster to drive a sweep on, before anything is asked.

    Raises:
        SetupError: With the form that would be right.
    """
    scheme, separator, _ = address.partition("://")
    if separator:
        what = "is an address of Ray Client, which cannot drive a sweep" if scheme == "ray" else "is a URL"
        raise SetupError(
            f"--address must be local, auto or HOST:PORT of the cluster's GCS, but {address} {what}; a dashboard takes "
            f"--submit {address if scheme != 'ray' else 'http://HOST:8265'}"
        )


def check_address(address: str) -> None:
    """Find out within 15 s whether a Ray cluster answers at HOST:PORT.

    Raises:
        SetupError: If not.
    """
    host, _, port = address.rpartition(":")
    answers: queue.Queue[str] = queue.Queue()
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_WITHIN_S).close()
        forget_token()
        # Ray's own time limit does not hold where another service answers.
        threading.Thread(target=lambda: answers.put(nodes_of(address, _WITHIN_S)), daemon=True).start()
        problem = answers.get(timeout=_WITHIN_S)
    except queue.Empty:
        problem = f"what listens there does not list a cluster's nodes within {_WITHIN_S:.0f} s"
    except (OSError, ValueError) as error:
        problem = str(error)
    if problem:
        raise SetupError(f"no Ray cluster answers at {address} ({problem}); {_ADVICE}")


def _start(folder: Path) -> None:
    gpus = visible_gpus()
    before = listeners(os.getpid())
    # Our children inherit the mask: a SIGTERM to the whole job (timeout, Slurm, systemd), or the SIGHUP of a
    # closed terminal, is the driver's to obey.
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGHUP})
    try:
        with bound_to_loopback():
            ray.init(
                address="local",
                num_cpus=usable_cpus(),
                num_gpus=len(gpus),
                include_dashboard=False,
                object_store_memory=_OBJECT_STORE_BYTES,
                log_to_driver=False,
                logging_level=logging.ERROR,
                _temp_dir=str(folder / "r"),  # Ray opens its folder to everybody; the one above stays shut
            )
    except Exception as error:  # a node that is slow to start is a bare one
        raise SetupError(f"Ray cannot be started in {folder}: {_first_line(error)}") from error
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    if found := exposed(before):
        raise SetupError(
            f"this Ray {ray.__version__} listens on {found[0].address}:{found[0].port}, where others can reach it, "
            "though it was told to stay on loopback; use the version in constraints.txt, or --executor process"
        )


@contextlib.contextmanager
def _own_folder() -> Iterator[Path]:
    """Make the folder of a Ray of our own, and let Ray take its token from there."""
    base = Path(tempfile.gettempdir() if len(tempfile.gettempdir()) <= _LONGEST_TEMP else "/tmp")
    _remove_left(base)
    folder = Path(tempfile.mkdtemp(prefix=f"icd-ray-{os.getpid()}-", dir=base))  # mode 0700
    owner = (folder / "new").open("w")
    fcntl.flock(owner, fcntl.LOCK_EX)
    (folder / "new").rename(folder / _OWNER)  # it has its name once it is locked
    settings: dict[str, str | None] = {VISIBLE: ",".join(visible_gpus())}  # Ray takes -1 for a GPU
    if os.environ.get("RAY_AUTH_MODE") != "token":  # the mode of a cluster to be joined is none of ours
        settings |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(write_token(folder))}
        settings |= {"RAY_AUTH_TOKEN": None}  # or Ray would take it in place of the file
    try:
        with environment(settings):
            forget_token()
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        owner.close()


def _remove_left(base: Path) -> None:
    """Remove the folders of drivers that were killed; a lock tells, since containers that share /tmp number alike."""
    for left in base.glob("icd-ray-*-*"):
        with contextlib.suppress(OSError), (left / _OWNER).open() as owner:
            fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if left.stat().st_uid == os.getuid():
                shutil.rmtree(left, ignore_errors=True)


@contextlib.contextmanager
def environment(changes: Mapping[str, str | None]) -> Iterator[None]:
    """Have these variables in the environment within the block; None takes one away."""
    before = {name: os.environ.pop(name, None) for name in changes}
    os.environ.update({name: value for name, value in changes.items() if value is not None})
    try:
        yield
    finally:
        for name in changes:
            os.environ.pop(name, None)
        os.environ.update({name: value for name, value in before.items() if value is not None})


def _shut_down() -> None:
    with signals_kept():
        ray.shutdown()


def signal_handlers() -> Mapping[signal.Signals, Any]:
    """Give the handlers of signals as they are now, in the thread that alone may set them; elsewhere none."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    return {number: signal.getsignal(number) for number in _SIGNALS}


def restore_signals(handlers: Mapping[signal.Signals, Any]) -> None:
    """Install handlers again, also where Python thinks they are: Ray's C++ part sets its own below Python's."""
    for number, handler in handlers.items():
        if handler is not None:
            signal.signal(number, handler)


@contextlib.contextmanager
def signals_kept() -> Iterator[None]:
    """Undo what Ray does to signals within this block: the command's own handlers stop a sweep politely."""
    before = signal_handlers()
    try:
        yield
    finally:
        restore_signals(before)


def _to_log(data: Mapping[str, Any], *_: Any, **__: Any) -> None:
    """Log what Ray would print on stdout, where ``--json`` writes; the ledger says the same of every lost worker."""
    for line in data["lines"]:
        logger.info("%s: %s", data.get("pid", "ray"), line)


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
