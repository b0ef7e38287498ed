"""What a driver asks of an executor, whichever it is."""

from collections.abc import Callable, Mapping
from typing import Protocol

from icd.search.core.attempts import Policy
from icd.search.core.messages import Heartbeat
from icd.search.core.preparation import PreflightRequest, PreflightResult


class Executor(Protocol):
    """Where attempts run: plain processes or Ray Tune."""

    def prepare(
        self, request: PreflightRequest, say: Callable[[str], None], stop: Callable[[], bool]
    ) -> PreflightResult:
        """Make ready in a worker that has what a trial has.

        Raises:
            SetupError: If the worker died again and again, or a node does not share the sweep's folder.
            IcdError: What ``run_preflight`` raised there.
            Interrupted: If ``stop`` said so.
        """
        ...

    def run(self, policy: Policy, tick: Callable[[], None]) -> None:
        """Start what the policy gives and tell it what happens, until it is finished.

        Raises:
            SetupError: If no location is left for a trial, or Tune itself failed.
        """
        ...

    def progress(self) -> Mapping[int, Heartbeat]:
        """Give the last step of every trial under way, as far as it is known."""
        ...

    def close(self) -> None:
        """End all workers, and a Ray that is our own."""
        ...
