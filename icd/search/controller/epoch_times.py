"""How long an epoch takes on each type of device; types are never mixed."""

import statistics
from collections import defaultdict, deque

_KEPT = 50


class EpochTimes:
    """The last epochs of a driver's run, by the name of the device."""

    def __init__(self) -> None:
        self._seconds: dict[str, deque[float]] = defaultdict(lambda: deque(maxlen=_KEPT))

    def add(self, device: str, seconds: float) -> None:
        """Note an epoch."""
        if seconds > 0:
            self._seconds[device].append(seconds)

    @property
    def slowest(self) -> float:
        """Median seconds of an epoch on the slowest type, since nobody knows where the next attempt will run."""
        return max((statistics.median(seconds) for seconds in self._seconds.values()), default=0.0)
