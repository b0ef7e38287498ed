"""Executor: Ray Tune places attempts on the CPUs and GPUs of a cluster; the policy decides everything else.

Every attempt is a Tune trial of its own. Tune's own retries, loggers, snapshots and signal handlers are off: what was
tried and what came of it is in the ledger alone, and each start of a driver is a fresh Tune experiment.
"""

import contextlib
import logging
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.exceptions import RayError

from icd.config.sweep import Resources
from icd.errors import Interrupted, SetupError
from icd.search.core.attempts import PREPARE_RETRIES, Attempt, Policy
from icd.search.core.messages import Heartbeat, Line, Order, Prepare, Prepared, Refused
from icd.search.core.preparation import PreflightRequest, PreflightResult
from icd.search.executors.ray.cluster import Cluster
from icd.search.executors.ray.connection import signals_kept
from icd.search.executors.ray.control import ControlOwner
from icd.search.executors.ray.exit_reasons import ExitClassifier, last_line
from icd.search.executors.ray.internals import keep_credentials, trials_end_alone
from icd.search.executors.ray.nodes import check_storage
from icd.search.executors.ray.trial_tracker import TrialTracker
from icd.search.executors.ray.tune_adapter import Quiet, TrackerScheduler, TrackerSearcher, trial_name
from icd.search.executors.ray.worker import PREPARE, HeedsSigterm, Preparer, run_in_tune
from icd.worker.main import AttemptFunction

_TICK_S = 0.2


class RayExecutor:
    """Runs attempts in Ray Tune.

    Raises:
        SetupError: If there is no such cluster, or no trial fits on it.
    """

    def __init__(
        self,
        resources: Resources,
        folder: Path,
        *,
        address: str = "local",
        announce: Callable[[str], None],
        attempt: AttemptFunction | None = None,
    ) -> None:
        self.folder, self._attempt = folder, attempt
        self.cluster = Cluster(resources, address, announce)
        self.control = ControlOwner()
        self.tracker: TrialTracker | None = None

    def prepare(
        self, request: PreflightRequest, say: Callable[[str], None], stop: Callable[[], bool]
    ) -> PreflightResult:
        if not self.cluster.local:
            check_storage(self.cluster.hosts(), self.folder)
        exits, deaths = ExitClassifier(self.cluster), 0
        while True:
            try:
                message = self._prepare_once(request, say, stop)
                break
            except RayError as error:
                deaths += 1
                reason = f"the worker died while preparing: {exits.classify_exit(None, 0, str(error))[1]}"
                if deaths > PREPARE_RETRIES:
                    raise SetupError(reason) from error
                say(f"{reason}; retry {deaths}/{PREPARE_RETRIES}")
                while exits.resting and not stop():
                    time.sleep(_TICK_S)
        if isinstance(message, Refused):
            raise message.error
        return message.result

    def _prepare_once(
        self, request: PreflightRequest, say: Callable[[str], None], stop: Callable[[], bool]
    ) -> Prepared | Refused:
        remote: Any = ray.remote(Preparer)
        preparer = remote.options(
            num_cpus=self.cluster.cpus,
            num_gpus=self.cluster.gpus,
            label_selector=self.cluster.labels or None,
            max_restarts=0,
        ).remote()
        done, begun = preparer.prepare.remote(self.control.name, Prepare(request)), False
        try:
            while True:
                self.control.put({PREPARE: Order.STOP if stop() else None})
                ready, _ = ray.wait([done], timeout=_TICK_S)
                for _, message in self.control.take(wait=bool(ready)):
                    begun = True
                    if isinstance(message, Line):
                        say(message.text)
                if ready:
                    answer: Prepared | Refused = ray.get(done)
                    return answer
                if stop() and not begun:
                    raise Interrupted("stopped while waiting for a place on the cluster")
        finally:
            with contextlib.suppress(RayError):
                ray.kill(preparer)

    def run(self, policy: Policy, tick: Callable[[], None]) -> None:
        logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
        keep_credentials()
        with signals_kept():
            while not policy.done:
                self.tracker = tracker = TrialTracker(policy, tick, self.cluster, self.control)
                try:
                    with trials_end_alone():
                        self._tuner(tracker).fit()
                except Exception as error:
                    if tracker.failure is not None:
                        raise tracker.failure from None
                    raise SetupError(f"Ray Tune failed: {last_line(error)}; continue with 'icd resume'") from error
                if tracker.failure is not None:
                    raise tracker.failure
                tracker.give_up("Ray Tune ended before the trial")

    def _tuner(self, tracker: TrialTracker) -> tune.Tuner:
        """Make a fresh experiment, in which every trial of Tune's does what the tracker gives."""
        labels = self.cluster.labels
        placed: dict[str, Any] = {"bundle_label_selector": [labels]} if labels else {}
        shutil.rmtree(self.folder / "tune", ignore_errors=True)  # what earlier ones left, which nothing reads
        room = tune.PlacementGroupFactory([{"CPU": self.cluster.cpus, "GPU": self.cluster.gpus}], **placed)
        return tune.Tuner(
            tune.with_resources(_trainable(self._attempt), room),
            tune_config=tune.TuneConfig(
                search_alg=TrackerSearcher(tracker),
                scheduler=TrackerScheduler(tracker),
                num_samples=-1,
                reuse_actors=True,
                trial_name_creator=trial_name,
                trial_dirname_creator=trial_name,
            ),
            run_config=tune.RunConfig(
                name=str(time.time_ns()),
                storage_path=str(self.folder.absolute() / "tune"),
                verbose=0,
                callbacks=[Quiet()],
                failure_config=tune.FailureConfig(max_failures=0),
            ),
        )

    def close(self) -> None:
        self.control.close()
        self.cluster.close()

    def progress(self) -> Mapping[int, Heartbeat]:
        return self.tracker.progress() if self.tracker is not None else {}


def _trainable(attempt: AttemptFunction | None) -> Callable[[dict[str, Any]], None]:
    """What runs as a trial of Tune's: one attempt."""

    def trial(config: dict[str, Any]) -> None:
        run_in_tune(config["control"], Attempt.from_text(config["attempt"]), attempt)

    trial.__mixins__ = (HeedsSigterm,)  # type: ignore[attr-defined] # Tune makes it a base of its trainable
    return trial
