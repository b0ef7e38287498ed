"""Which devices a driver's trials run on, and how long an epoch takes on each type; types are never mixed."""

import statistics
from collections import defaultdict, deque
from collections.abc import Sequence

_KEPT = 50


class EpochTimes:
    """The last epochs of a driver's run, by the name of the device; and by trial the devices it has seen."""

    def __init__(self) -> None:
        self._seconds: dict[str, deque[float]] = defaultdict(lambda: deque(maxlen=_KEPT))
        self._devices: dict[int, list[str]] = {}

    def take_up(self, number: int, devices: Sequence[str]) -> None:
        """Go on from what the ledger has of a trial."""
        self._devices[number] = list(devices)

    def add(self, number: int, device: str, seconds: float) -> bool:
        """Note an epoch, which has no device where it is only told again; whether its trial came to another device."""
        if seconds > 0:
            self._seconds[device].append(seconds)
        seen = self._devices.setdefault(number, [])
        if device and device not in seen:
            seen.append(device)
            return len(seen) > 1
        return False

    def devices(self, number: int) -> list[str]:
        """The devices that a trial has seen, in their order."""
        return list(self._devices.get(number, ()))

    @property
    def slowest(self) -> float:
        """Median seconds of an epoch on the slowest type, since nobody knows where the next attempt will run."""
        return max((statistics.median(seconds) for seconds in self._seconds.values()), default=0.0)
