"""What Tune calls: its searcher, its scheduler and its display, each only a way to the tracker of attempts."""

import contextlib
from collections.abc import Iterator
from functools import partial
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.progress_reporter import TrialProgressCallback
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from icd.search.core.messages import Finished, Up
from icd.search.executors.ray.internals import drop_waiting, error_text
from icd.search.executors.ray.trial_tracker import TrialTracker


class TrackerSearcher(Searcher):
    """Gives Tune what the policy gives."""

    def __init__(self, tracker: TrialTracker) -> None:
        super().__init__()
        self.tracker = tracker

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its searcher: no study and no password may go with it

    def suggest(self, trial_id: str) -> Any:
        try:
            attempt = self.tracker.next()
            if attempt is None:
                self.tracker.tick()  # Tune asks once a second where nothing runs, and does nothing else
                return Searcher.FINISHED if self.tracker.policy.done else None
        except BaseException as error:
            self.tracker.failure = error
            raise
        # Text: Tune reads a meaning into nested names.
        return {
            "name": attempt.name,
            "control": self.tracker.control.name,
            "attempt": attempt.to_text(),
        }

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Nothing: the scheduler has heard it."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the ledger has it."""


class TrackerScheduler(FIFOScheduler):
    """Tells the policy what Tune hears."""

    def __init__(self, tracker: TrialTracker) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.tracker = tracker

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def choose_trial_to_run(self, controller: Any) -> Trial | None:
        with self._failing():
            self.tracker.step(partial(drop_waiting, controller))
        return super().choose_trial_to_run(controller)

    def on_trial_result(self, controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        message: Up = result["message"]
        with self._failing():
            go = self.tracker.hear(trial_name(trial), message)
            if isinstance(message, Finished):
                go = message.result.unclean  # then its process ends itself, and is not used again
            return str(TrialScheduler.CONTINUE if go else TrialScheduler.STOP)

    def on_trial_complete(self, controller: Any, trial: Trial, result: dict[str, Any]) -> None:
        with self._failing():
            self.tracker.stopped(trial_name(trial), "stopped by the driver")

    def on_trial_remove(self, controller: Any, trial: Trial) -> None:
        with self._failing():
            self.tracker.stopped(trial_name(trial), "stopped before it began")

    def on_trial_error(self, controller: Any, trial: Trial) -> None:
        with self._failing():
            self.tracker.fault(trial_name(trial), error_text(trial))

    @contextlib.contextmanager
    def _failing(self) -> Iterator[None]:
        """Keep what the policy raises; Tune would wrap it or swallow it."""
        try:
            yield
        except BaseException as error:
            self.tracker.failure = self.tracker.failure or error
            raise


class Quiet(TrialProgressCallback):
    """In place of Tune's own, which prints on a terminal and draws in a notebook."""

    def log_result(self, trial: Trial, result: dict[str, Any], error: bool = False) -> None:
        """Nothing: the command shows how a sweep goes."""

    def _print(self, msg: str) -> None:
        """Nothing."""


def trial_name(trial: Trial) -> str:
    """Give the attempt's name; Tune would put hyperparameters there."""
    return str(trial.config["name"])
