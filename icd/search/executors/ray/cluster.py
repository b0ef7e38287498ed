"""A Ray cluster: started on this machine for one sweep, or joined; never one that happens to run here.

A cluster of our own listens on loopback, and has a fresh token in a folder that only this user can read, whatever
``RAY_AUTH_MODE`` says. ``ray stop`` is never called: it would end every Ray on the host.

This file is longer than 300 lines because what starts a Ray must end it, and both need the same settings of Ray.
"""

import contextlib
import logging
import os
import shutil
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError

from icd.config.sweep import Resources
from icd.errors import SetupError
from icd.search.core.device_usage import matches
from icd.search.core.machine import usable_cpus
from icd.search.executors.ray.address import ADVICE, check_address, refuse_other_forms
from icd.search.executors.ray.internals import bound_to_loopback, draining_nodes, forget_token, print_instead
from icd.search.executors.ray.security import exposed, refuse_open, write_token
from icd.search.executors.ray.sockets import family, listeners
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
    "TUNE_MAX_PENDING_TRIALS_PG": "10000",  # the searcher gives no more than fit
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}
_TYPE = "ray.io/accelerator-type"  # a label that Ray itself gives to nodes with GPUs
_OBJECT_STORE_BYTES = 100 << 20
_ANSWER_S = 2.0
_NODES_EVERY_S = 3.0
_LONGEST_TEMP = 16  # Ray puts sockets below its folder; their paths may have 107 characters, 91 of them below this
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


class Cluster:
    """A connection to Ray, and what a trial takes there.

    Args:
        resources: What a trial is given.
        address: ``local`` starts a Ray of our own; ``auto``, or host:port, joins one.
        announce: Told which cluster it is.

    Raises:
        SetupError: If it cannot be started or joined, or no trial would ever fit.
    """

    def __init__(self, resources: Resources, address: str, announce: Callable[[str], None]) -> None:
        self._limit, self.cpus = resources.max_concurrent, resources.cpus_per_trial
        self._device = resources.device
        self.local = address == LOCAL and not ray.is_initialized()
        self._folder: Path | None = None
        self._changed: dict[str, str | None] = {}
        self._asked, self._fitting = float("-inf"), 0
        self._ours = not ray.is_initialized()
        self._printer = print_instead(_to_log)
        for name, value in _ENVIRONMENT.items():
            self._set(name, os.environ.get(name, value))
        try:
            with signals_kept():
                if self.local:
                    self._start()
                elif self._ours:
                    join(address)
            total = ray.cluster_resources()
            gpus = total.get("GPU", 0.0)
            self.gpus = float(resources.gpus_of_a_trial(bool(gpus)))
            nodes = sum(bool(node["Alive"]) for node in ray.nodes())
            size = f"{nodes} node{'s' * (nodes != 1)}, {total.get('CPU', 0.0):g} CPUs, {gpus:g} GPUs"
            if not self.capacity():
                device = f" of type {self._device!r}" if self._device else ""
                raise SetupError(
                    f"no trial fits: it needs {self.cpus:g} CPUs and {self.gpus:g} GPUs{device} on one node, "
                    f"but the cluster has {size}; change resources"
                )
            self.labels = self._label_selector()
        except BaseException:
            self.close()
            raise
        how = "started on this machine" if self.local else f"joined at {ray.get_runtime_context().gcs_address}"
        announce(f"ray {ray.__version__} {how}: {size}; {self.capacity()} trials at a time")

    def capacity(self, held: int = 0) -> int:
        """How many trials may run at a time; nodes come and go.

        Args:
            held: Places that are kept from trials.
        """
        if time.monotonic() - self._asked > _NODES_EVERY_S:
            leaving = self.leaving()
            staying = [node for node in ray.nodes() if node["Alive"] and node["NodeID"] not in leaving]
            self._fitting, self._asked = sum(self._fits(node) for node in staying), time.monotonic()
        free = max(0, self._fitting - held)
        return min(free, self._limit or free)

    def leaving(self) -> Mapping[str, float]:
        """Nodes that are taken back, and until when: seconds since 1970; 0 for no limit. They start nothing new."""
        return {node: 0.001 * deadline for node, deadline in draining_nodes().items()}

    def alive(self, node_id: str) -> bool:
        """Whether a node is part of the cluster and answers: Ray itself takes 14 s to call one dead, or a minute."""
        found = next((node for node in ray.nodes() if node["NodeID"] == node_id and node["Alive"]), None)
        if found is None:
            return False
        try:
            where = (str(found["NodeManagerAddress"]), int(found["NodeManagerPort"]))
            socket.create_connection(where, timeout=_ANSWER_S).close()
        except OSError:
            return False
        return True

    def hosts(self) -> dict[str, str]:
        """Give the nodes that may run a trial: Ray's name of each, and its host's."""
        return {
            node["NodeID"]: str(node.get("NodeManagerHostname") or node.get("NodeManagerAddress"))
            for node in ray.nodes()
            if node["Alive"] and self._fits(node)
        }

    def bundle(self) -> dict[str, float]:
        """What a process asks of Ray."""
        return {"CPU": self.cpus, **({"GPU": self.gpus} if self.gpus else {})}

    def _label_selector(self) -> dict[str, str]:
        """Which nodes a trial may come to, as Ray says it; empty for any."""
        if self._device is None or not self.gpus:  # where a node has no GPU, its worker says what it is
            return {}
        types = {_type_of(node) for node in ray.nodes() if node["Alive"]}
        return {_TYPE: f"in({', '.join(sorted(name for name in types if name and matches(self._device, name)))})"}

    def _fits(self, node: Mapping[str, Any]) -> int:
        """How many processes fit on a node at all."""
        if self._device is not None and self.gpus and not matches(self._device, _type_of(node)):
            return 0
        have = node["Resources"]
        return fitting(have.get("CPU", 0), have.get("GPU", 0), self.cpus, self.gpus)

    def close(self) -> None:
        """Leave the cluster; a Ray of our own ends with that."""
        if self._ours:
            with signals_kept():
                ray.shutdown()
        print_instead(self._printer)
        for name, value in self._changed.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        self._changed.clear()
        if self._folder is not None:
            forget_token()
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def _start(self) -> None:
        base = tempfile.gettempdir() if len(tempfile.gettempdir()) <= _LONGEST_TEMP else "/tmp"
        _sweep_out(Path(base))
        self._folder = Path(tempfile.mkdtemp(prefix=f"icd-ray-{os.getpid()}-", dir=base))  # mode 0700
        if os.environ.get("RAY_AUTH_MODE") != "token":  # the mode of a cluster to be joined is none of ours
            self._set("RAY_AUTH_MODE", "token")
            self._set("RAY_AUTH_TOKEN_PATH", str(write_token(self._folder)))
            self._unset("RAY_AUTH_TOKEN")  # or Ray would take it in place of the file
        forget_token()
        gpus = visible_gpus()
        self._set(VISIBLE, ",".join(gpus))  # Ray takes -1 for a GPU, and knows no instances of a divided one
        before = listeners(family(os.getpid()))
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
                    _temp_dir=str(self._folder / "r"),  # Ray opens its folder to everybody; the one above stays shut
                )
        except Exception as error:  # a node that is slow to start is a bare one
            raise SetupError(f"Ray cannot be started in {self._folder}: {_first_line(error)}") from error
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        if found := exposed(before):
            raise SetupError(
                f"this Ray {ray.__version__} listens on {found[0].address}:{found[0].port}, where others can reach it, "
                "though it was told to stay on loopback; use the version in constraints.txt, or --executor process"
            )

    def _unset(self, name: str) -> None:
        self._changed.setdefault(name, os.environ.get(name))
        os.environ.pop(name, None)

    def _set(self, name: str, value: str) -> None:
        self._changed.setdefault(name, os.environ.get(name))
        os.environ[name] = value


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
        raise SetupError(f"the Ray cluster at {address} cannot be joined: {_first_line(error)}; {ADVICE}") from error
    refuse_open(ray.get_runtime_context().gcs_address)


@contextlib.contextmanager
def signals_kept() -> Iterator[None]:
    """Undo what Ray does to signals within this block: the command's own handlers stop a sweep politely."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    try:
        yield
    finally:
        restore_signals(before)


def restore_signals(handlers: Mapping[signal.Signals, Any]) -> None:
    """Install handlers again, also where Python thinks they are: Ray's C++ part sets its own below Python's."""
    if threading.current_thread() is threading.main_thread():
        for number, handler in handlers.items():
            if handler is not None:
                signal.signal(number, handler)


class Handlers:
    """The handlers of signals as they are now, to be installed again once."""

    def __init__(self) -> None:
        self._kept: Mapping[signal.Signals, Any] = {number: signal.getsignal(number) for number in _SIGNALS}

    def restore(self) -> None:
        """Install them again, the first time it is asked for."""
        restore_signals(self._kept)
        self._kept = {}


def _type_of(node: Mapping[str, Any]) -> str:
    """What Ray calls a node's GPUs, such as A100; empty where it has none that Ray knows."""
    return str(node.get("Labels", {}).get(_TYPE, ""))


def fitting(cpus: float, gpus: float, cpus_per_trial: float, gpus_per_trial: float) -> int:
    """How many trials fit on one node; a trial's share of a GPU is on one GPU."""
    by_cpus = int(cpus / cpus_per_trial + 1e-9)
    if gpus_per_trial == 0:
        return by_cpus
    return min(by_cpus, int(gpus) * int(1 / gpus_per_trial + 1e-9))


def _to_log(data: Mapping[str, Any], *_: Any, **__: Any) -> None:
    """Log what Ray would print on stdout, where ``--json`` writes; the ledger says the same of every lost worker."""
    for line in data["lines"]:
        logger.info("%s: %s", data.get("pid", "ray"), line)


def _sweep_out(base: Path) -> None:
    """Remove folders of drivers that were killed."""
    for folder in base.glob("icd-ray-*-*"):
        with contextlib.suppress(OSError, ValueError):
            owner = int(folder.name.split("-")[2])
            if folder.stat().st_uid == os.getuid() and not Path(f"/proc/{owner}").exists():
                shutil.rmtree(folder, ignore_errors=True)


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
