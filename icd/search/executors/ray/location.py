"""Where a process that Tune has is, and which of Tune's trials only keep a place from others."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from icd.search.core.attempts import Policy
from icd.search.core.location import Location, is_quarantined


@dataclass(kw_only=True)
class Spot:
    """A process as the driver knows it.

    Attributes:
        node: Ray's name of the node it runs on; empty until it does.
        host: Of the process.
        pid: Of the process.
        gpu: The GPUs it was given.
        noticed: Whether it was told that its node is taken back.
        heard: When it last said something, was seen to get on, or was given an attempt.
        killed_for: Why we killed it.
    """

    node: str = ""
    host: str = ""
    pid: int = 0
    gpu: str = ""
    noticed: bool = False
    heard: float = field(default_factory=time.monotonic)
    killed_for: str = ""

    @property
    def location(self) -> Location | None:
        """Where it runs; None until it does."""
        return Location(host=self.host, gpu=self.gpu, node=self.node) if self.node else None

    def locate(self, message: Mapping[str, Any]) -> None:
        """Take what it says of itself when it begins."""
        self.node, self.host, self.pid, self.gpu = (message[name] for name in ("node", "host", "pid", "gpu"))


class Holding:
    """Trials of Tune's that train nothing: Ray cannot leave out a GPU, so they keep quarantined ones from others."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._places: dict[str, Location] = {}

    def __len__(self) -> int:
        return len(self._places)

    def keep(self, trial_id: str, place: Location) -> None:
        """Let a trial that came to a quarantined place hold it."""
        self._places[trial_id] = place

    def forget(self, trial_id: str) -> None:
        """Take no more notice of a trial."""
        self._places.pop(trial_id, None)

    def goes_on(self, trial_id: str) -> bool:
        """Whether a trial is to hold its place any longer."""
        wanted = is_quarantined(self._places.get(trial_id), self._policy.quarantined)
        if not wanted or self._policy.done or self._policy.stopping:
            self.forget(trial_id)
            return False
        return True
