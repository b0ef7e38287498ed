"""Executor: Ray Tune places attempts on the CPUs and GPUs of a cluster; the policy decides everything else.

Every attempt is a Tune trial of its own. Tune's own retries, loggers, snapshots and signal handlers are off: what was
tried and what came of it is in the ledger alone, and each start of a driver is a fresh Tune experiment.
"""

import contextlib
import faulthandler
import json
import logging
import os
import shutil
import signal
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import ray
from ray import tune
from ray.exceptions import RayError
from ray.tune import TuneError
from ray.tune.experiment import Trial
from ray.tune.progress_reporter import TrialProgressCallback
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from icd.config.sweep import Resources
from icd.errors import Interrupted, SetupError
from icd.search.prepare import Preparation, Prepared
from icd.search.processes import oom_kills, refusal
from icd.search.ray_cluster import Cluster, restore_signals, signals_kept
from icd.search.task import Epoch, Outcome, OutcomeKind, Policy, Task
from icd.search.worker import serve_preparation

# As ``icd.search.work.attempt``.
Attempt = Callable[..., Outcome]

_TICK_S = 0.2
_STEP_EVERY_S = 1.0  # how often a worker says which step it is at, and its watchdog is wound up
_LOOK_EVERY_S = 1.0
_LATE_S = 30.0  # so long after its own watchdog should have ended it, a worker is killed from here
_NODE_LOSS_S = 2.0  # how long a lost node may look alive
_OUT_OF_MEMORY = ("low on memory", "memory usage threshold", "OutOfMemoryError")
_UNCLEAN = ("gpu", "memory")  # after these a process is not used again: an error of CUDA stays with it


class RayExecutor:
    """Runs attempts in Ray Tune.

    Args:
        resources: What a trial is given, and how many run at a time.
        folder: The sweep's; on a cluster every node must see it.
        address: ``local`` starts a Ray of our own; ``auto``, or host:port, joins one.
        announce: Told which cluster it is.
        attempt: For tests, in place of ``icd.search.work.attempt``.

    Raises:
        SetupError: If there is no such cluster, or no trial fits on it.
    """

    name = "ray"

    def __init__(
        self,
        resources: Resources,
        folder: Path,
        *,
        address: str = "local",
        announce: Callable[[str], None],
        attempt: Attempt | None = None,
    ) -> None:
        self.folder, self.announce, self._attempt = folder, announce, attempt
        self.cluster = Cluster(resources, address, announce)
        self._bridge: Bridge | None = None

    def prepare(self, request: Preparation, say: Callable[[str], None], stop: Callable[[], bool]) -> Prepared:
        """Make ready in a process that has what a trial has.

        Raises:
            IcdError: What ``make_ready`` raised there.
            Interrupted: If ``stop`` said so.
        """
        remote: Any = ray.remote(_Preparer)
        preparer = remote.options(
            num_cpus=self.cluster.cpus, num_gpus=self.cluster.gpus, max_concurrency=2, max_restarts=0
        ).remote()
        try:
            done = preparer.prepare.remote(asdict(request))
            message, lines, heard = None, None, False
            while message is None:
                lines = lines or preparer.lines.remote(stop())
                ready, _ = ray.wait([done, lines], num_returns=1, timeout=_TICK_S)
                if lines in ready:
                    for text in ray.get(lines):
                        say(text)
                    lines, heard = None, True
                    ready, _ = ray.wait([done], timeout=_TICK_S)
                if done in ready:
                    message = ray.get(done)
                elif stop() and not heard:
                    raise Interrupted("stopped while waiting for a place on the cluster")
            for text in ray.get(preparer.lines.remote(False)):
                say(text)
        except RayError as error:
            raise SetupError(f"the worker died while preparing: {_last_line(error)}") from error
        finally:
            with contextlib.suppress(RayError):
                ray.kill(preparer)
        if message["said"] == "refused":
            raise refusal(message)
        return Prepared(**message["prepared"])

    def run(self, policy: Policy, tick: Callable[[], None]) -> None:
        """Start what the policy gives and tell it what happens, until it is finished.

        Raises:
            SetupError: If Tune itself failed.
        """
        attempt, places = self._attempt, {"cpu": self.cluster.cpus, "gpu": self.cluster.gpus}

        def trial(config: dict[str, Any]) -> None:
            _run_attempt(Task(**json.loads(config["task"])), attempt)

        logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
        with signals_kept():
            while not policy.finished:
                bridge = self._bridge = Bridge(policy, tick, self.cluster, self.announce)
                tuner = tune.Tuner(
                    tune.with_resources(trial, places),
                    tune_config=tune.TuneConfig(
                        search_alg=_Searcher(bridge),
                        scheduler=_Scheduler(bridge),
                        num_samples=-1,
                        reuse_actors=True,
                        trial_name_creator=_trial_name,
                        trial_dirname_creator=_trial_name,
                    ),
                    run_config=tune.RunConfig(
                        name=self._fresh_experiment(),
                        storage_path=str(self.folder.absolute() / "tune"),
                        verbose=0,
                        callbacks=[_Quiet()],
                        failure_config=tune.FailureConfig(max_failures=0),
                    ),
                )
                try:
                    tuner.fit()
                except (TuneError, RayError) as error:
                    if bridge.failure is not None:
                        raise bridge.failure from None
                    raise SetupError(f"Ray Tune failed: {_last_line(error)}; continue with 'icd resume'") from error
                if bridge.failure is not None:
                    raise bridge.failure
                bridge.give_up("Ray Tune ended before the trial")

    def close(self) -> None:
        """Leave the cluster, and end it where it is our own."""
        self.cluster.close()

    def progress(self) -> Mapping[int, Mapping[str, int]]:
        """Epoch, step and steps of every trial under way, as far as they are known."""
        running = self._bridge.running.values() if self._bridge is not None else ()
        return {under_way.task.number: under_way.where for under_way in running}

    def _fresh_experiment(self) -> str:
        """Name an experiment that nobody has used; what earlier ones left is removed, since nothing reads it."""
        parent = self.folder / "tune"
        used = [int(path.name) for path in parent.glob("*") if path.name.isdecimal()]
        for number in used:
            shutil.rmtree(parent / str(number), ignore_errors=True)
        name = str(max(used, default=0) + 1)
        (parent / name).mkdir(parents=True)
        return name


# Between Tune and the policy


@dataclass(slots=True, kw_only=True)
class UnderWay:
    """An attempt that Tune has.

    Attributes:
        node: Ray's name of the node it runs on; empty until it does.
        host: Of the process.
        pid: Of the process.
        heard: When a message came or a step was seen.
        where: Epoch, step and steps.
        killed_for: Why we killed its process.
    """

    task: Task
    node: str = ""
    host: str = ""
    pid: int = 0
    heard: float = field(default_factory=time.monotonic)
    where: Mapping[str, int] = field(default_factory=dict)
    killed_for: str = ""


class Bridge:
    """Carries what Tune says to the policy: every attempt ends exactly once, and all on Tune's thread."""

    def __init__(
        self, policy: Policy, tick: Callable[[], None], cluster: Cluster, announce: Callable[[str], None]
    ) -> None:
        self.policy, self.tick, self.cluster, self.announce = policy, tick, cluster, announce
        self.running: dict[str, UnderWay] = {}
        self.failure: BaseException | None = None
        self._looked = 0.0
        self._oom_seen = oom_kills()
        self._handlers: dict[signal.Signals, Any] | None = {
            number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
        }

    def __reduce__(self) -> NoReturn:
        raise TypeError("the policy stays with its driver")

    def step(self, stop_trial: Callable[[str], None]) -> None:
        """Do what is due several times a second."""
        if self._handlers is not None:  # Tune has just installed its own
            restore_signals(self._handlers)
            self._handlers = None
        if self.failure is not None:
            raise self.failure
        self.tick()
        now = time.monotonic()
        if now - self._looked > max(_LOOK_EVERY_S, 0.02 * len(self.running)):
            self._looked = now
            for under_way in self.running.values():
                self._look(under_way, now)
        if self.policy.stopping:
            for trial_id, under_way in list(self.running.items()):
                if not under_way.node:  # still waits for a place, and has nothing to save
                    stop_trial(trial_id)

    def next(self, trial_id: str) -> Task | None:
        """Give a task, if one fits and there is one."""
        if len(self.running) >= self.cluster.places():
            return None
        task = self.policy.next()
        if task is not None:
            self.running[trial_id] = UnderWay(task=task)
        return task

    def hear(self, trial_id: str, message: Mapping[str, Any]) -> bool:
        """Take what a worker says; False stops the trial."""
        under_way = self.running.get(trial_id)
        if under_way is None:
            return bool(message["said"] == "outcome")  # let an unclean process end itself
        under_way.heard, said = time.monotonic(), str(message["said"])
        if said == "began":
            under_way.node, under_way.host, under_way.pid = message["node"], message["host"], message["pid"]
            return True
        if said == "epoch":
            go = self.policy.epoch(Epoch(**message["epoch"]))
            return go or bool(message["last"])  # after the last epoch nothing is left to stop
        outcome = Outcome(**message["outcome"])
        self.end(trial_id, outcome.kind, outcome)
        return outcome.kind in _UNCLEAN  # it will raise, and its process is not used again

    def end(self, trial_id: str, kind: OutcomeKind, outcome: Outcome | None = None, reason: str = "") -> None:
        """Tell the policy that an attempt has ended, if it has not been told."""
        under_way = self.running.pop(trial_id, None)
        if under_way is not None:
            task = under_way.task
            ended = outcome or Outcome(number=task.number, attempt=task.attempt, kind=kind, reason=reason)
            self.policy.end(ended)

    def fault(self, trial_id: str, text: str) -> None:
        """Find out why a worker is gone."""
        under_way = self.running.get(trial_id)
        if under_way is not None:
            kind, reason = self._classify(under_way, text)
            self.end(trial_id, kind, reason=reason)

    def give_up(self, reason: str) -> None:
        """End what Tune left."""
        for trial_id in list(self.running):
            self.end(trial_id, "lost", reason=reason)

    def _classify(self, under_way: UnderWay, text: str) -> tuple[OutcomeKind, str]:
        """Read why a worker is gone in what Ray says, since Tune keeps no more than that."""
        stack = stack_path(under_way.task)
        if _has_text(stack) or under_way.killed_for:
            what = under_way.killed_for or f"no progress for {under_way.task.hang_seconds:.0f} s"
            return "hang", f"{what}; stack in {stack}" if _has_text(stack) else what
        if any(words in text for words in _OUT_OF_MEMORY):
            return "memory", f"killed for memory by Ray on {under_way.host or 'a node'}"
        if not text.startswith("The actor ") or "raised in its creation task" in text:
            return "error", _last_line(text)  # Tune itself failed there, for instance without the shared folder
        if under_way.node and self._lost(under_way.node, text):
            return "lost", f"node {under_way.host} ({under_way.node[:8]}) lost"
        seen, self._oom_seen = self._oom_seen, oom_kills()
        if self.cluster.local and self._oom_seen > seen:
            return "memory", "process killed for memory by the kernel"
        return "killed", f"process killed ({_how_it_died(text)})"

    def _lost(self, node: str, text: str) -> bool:
        """Whether a node is gone; it may take Ray a moment to know."""
        if "node has died" in text or "node was terminated" in text or "node is dead" in text:
            return True
        deadline = time.monotonic() + (_NODE_LOSS_S if "unavailable" in text else 0.0)
        while self.cluster.alive(node):
            if time.monotonic() >= deadline:
                return False
            time.sleep(_TICK_S)
        return True

    def _look(self, under_way: UnderWay, now: float) -> None:
        """Read which step a trial is at; end a process that is so stuck that its own watchdog cannot."""
        with contextlib.suppress(OSError, ValueError):
            where = json.loads(progress_path(under_way.task).read_text())
            if where.pop("attempt") == under_way.task.attempt and where != under_way.where:
                under_way.where, under_way.heard = where, now
        silent = now - under_way.heard
        if under_way.node and not under_way.killed_for and silent > under_way.task.hang_seconds + _LATE_S:
            under_way.killed_for = f"no progress for {silent:.0f} s, its process does not answer"
            if under_way.host == socket.gethostname():
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(under_way.pid, signal.SIGKILL)


class _Searcher(Searcher):
    """Gives Tune what the policy gives."""

    def __init__(self, bridge: Bridge) -> None:
        super().__init__()
        self.bridge = bridge

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its searcher: no study and no password may go with it

    def suggest(self, trial_id: str) -> Any:
        try:
            task = self.bridge.next(trial_id)
            if task is None:
                self.bridge.tick()  # Tune asks once a second where nothing runs, and does nothing else
                return Searcher.FINISHED if self.bridge.policy.finished else None
        except BaseException as error:
            self.bridge.failure = error
            raise
        return {"task": json.dumps(task.to_json())}  # text: Tune reads a meaning into nested names

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Nothing: the scheduler has heard it."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the ledger has it."""


class _Scheduler(FIFOScheduler):
    """Tells the policy what Tune hears."""

    def __init__(self, bridge: Bridge) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bridge = bridge

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def choose_trial_to_run(self, controller: Any) -> Trial | None:
        def stop_trial(trial_id: str) -> None:
            for trial in controller.get_live_trials():
                if trial.trial_id == trial_id and trial.status == Trial.PENDING:
                    controller.stop_trial(trial)
                    return

        with self._failing():
            self.bridge.step(stop_trial)
        return super().choose_trial_to_run(controller)

    def on_trial_result(self, controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        with self._failing():
            go = self.bridge.hear(trial.trial_id, json.loads(result["message"]))
            return str(TrialScheduler.CONTINUE if go else TrialScheduler.STOP)

    def on_trial_complete(self, controller: Any, trial: Trial, result: dict[str, Any]) -> None:
        with self._failing():
            self.bridge.end(trial.trial_id, "stopped", reason="stopped by the driver")

    def on_trial_remove(self, controller: Any, trial: Trial) -> None:
        with self._failing():
            self.bridge.end(trial.trial_id, "stopped", reason="stopped before it began")

    def on_trial_error(self, controller: Any, trial: Trial) -> None:
        with self._failing():
            self.bridge.fault(trial.trial_id, _error_text(trial))

    @contextlib.contextmanager
    def _failing(self) -> Any:
        """Keep what the policy raises; Tune would wrap it or swallow it."""
        try:
            yield
        except BaseException as error:
            self.bridge.failure = self.bridge.failure or error
            raise


class _Quiet(TrialProgressCallback):
    """In place of Tune's own, which prints on a terminal and draws in a notebook."""

    def log_result(self, trial: Trial, result: dict[str, Any], error: bool = False) -> None:
        """Nothing: the command shows how a sweep goes."""

    def _print(self, msg: str) -> None:
        """Nothing."""


def _trial_name(trial: Trial) -> str:
    task = json.loads(trial.config["task"])
    return f"{task['number']:04d}-{task['attempt']}"


# In a worker

_KEPT: dict[str, Any] = {}  # of this process: its Bench, and whether its log is set up


def _run_attempt(task: Task, attempt: Attempt | None) -> None:
    """Run an attempt in a process of Tune's; ``_tell`` does not return where the driver stops it."""
    _tell("began", node=ray.get_runtime_context().get_node_id(), host=socket.gethostname(), pid=os.getpid())
    with _Watchdog(task) as watchdog:
        from icd.search import work

        bench = _KEPT.setdefault("bench", work.Bench())
        _keep_log(Path(task.sweep) / "logs")
        epochs = task.config.get("protocol", {}).get("epochs")

        def send(epoch: Epoch) -> bool:
            watchdog.rest()  # the driver may be busy
            _tell("epoch", epoch=asdict(epoch), last=epoch.epoch == epochs)
            watchdog.wind()
            return True

        outcome = (attempt or work.attempt)(task, bench, send, progress=watchdog.step)
    if outcome.kind in _UNCLEAN:
        _KEPT.clear()
    _tell("outcome", outcome=asdict(outcome))
    raise RuntimeError(f"this process is not used again: {outcome.reason}")


def _tell(said: str, **more: Any) -> None:
    tune.report({"message": json.dumps({"said": said, **more})})


def _keep_log(folder: Path) -> None:
    """Send warnings to a file of the sweep: Ray's own logs go with its session."""
    if "log" not in _KEPT:
        _KEPT["log"] = True
        folder.mkdir(parents=True, exist_ok=True)
        handler = logging.FileHandler(folder / f"ray-{socket.gethostname()}-{os.getpid()}.log", delay=True)
        handler.setLevel(logging.WARNING)
        handler.setFormatter(logging.Formatter("%(asctime)s %(name)s: %(message)s"))
        logging.getLogger("icd").addHandler(handler)


class _Watchdog:
    """Ends this process, after writing where every thread is, when no step was made for too long."""

    def __init__(self, task: Task) -> None:
        self._seconds, self._attempt = task.hang_seconds, task.attempt
        self._stack, self._progress = stack_path(task), progress_path(task)
        self._wound = 0.0
        task.folder.mkdir(parents=True, exist_ok=True)
        self._file = self._stack.open("w")

    def __enter__(self) -> "_Watchdog":
        self.wind()
        return self

    def __exit__(self, *_: object) -> None:
        self.rest()
        self._file.close()
        for path in (self._stack, self._progress):
            path.unlink(missing_ok=True)

    def wind(self) -> None:
        """Begin to count again."""
        self._wound = time.monotonic()
        faulthandler.dump_traceback_later(self._seconds, exit=True, file=self._file)

    def rest(self) -> None:
        """Stop counting."""
        faulthandler.cancel_dump_traceback_later()

    def step(self, epoch: int, step: int, steps: int) -> None:
        """Called after every step of training."""
        if time.monotonic() - self._wound > _STEP_EVERY_S:
            self.wind()
            where = {"attempt": self._attempt, "epoch": epoch, "step": step, "steps": steps}
            with contextlib.suppress(OSError):
                self._progress.write_text(json.dumps(where))


class _Preparer:
    """An actor that makes ready; ``lines`` is called while ``prepare`` runs."""

    def __init__(self) -> None:
        self.stop = False
        self._lines: list[str] = []
        self._answer: dict[str, Any] = {}

    def prepare(self, request: dict[str, Any]) -> dict[str, Any]:
        serve_preparation(request, self)
        return self._answer

    def lines(self, stop: bool) -> list[str]:
        self.stop = self.stop or stop
        said, self._lines = self._lines, []
        return said

    def say(self, said: str, **more: Any) -> None:
        if said == "line":
            self._lines.append(more["text"])
        else:
            self._answer = {"said": said, **more}

    def alive(self, epoch: int, step: int, steps: int) -> None:
        """Nothing: Ray knows whether this process lives."""


# Small things


def stack_path(task: Task) -> Path:
    """Where a worker that hangs writes its stack."""
    return task.folder / f"stack-{task.attempt}.txt"


def progress_path(task: Task) -> Path:
    """Where a worker says which step it is at."""
    return task.folder / "progress.json"


def _has_text(path: Path) -> bool:
    try:
        return path.stat().st_size > 0
    except OSError:
        return False


def _error_text(trial: Trial) -> str:
    """Read what Tune wrote about the error; the first line only counts it."""
    try:
        return Path(trial.error_file).read_text().partition("\n")[2].strip()
    except (OSError, TypeError):
        return ""


def _last_line(error: object) -> str:
    """The line of Ray's text that names the exception below it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:400] if lines else "Ray gave no reason"


def _how_it_died(text: str) -> str:
    """Ray does not know the signal; it says how the connection ended."""
    for line in text.splitlines():
        if "exit detail" in line or "exit code" in line:
            return line.split(".")[0].strip()[:200]
    return "its connection closed"
