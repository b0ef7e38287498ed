"""Times arms that take turns, so that all meet the same weather."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence


def take_turns(arms: Mapping[str, Callable[[], object]], rounds: int, *, times: int = 1) -> dict[str, list[float]]:
    """CPU seconds of one call of each arm, for every round; ``times`` calls are timed together.

    Each arm is called once before, untimed.
    """
    for arm in arms.values():
        arm()
    taken: dict[str, list[float]] = {name: [] for name in arms}
    for _ in range(rounds):
        for name, arm in arms.items():
            began = time.process_time()
            for _ in range(times):
                arm()
            taken[name].append((time.process_time() - began) / times)
    return taken


def ratio(over: Sequence[float], under: Sequence[float]) -> float:
    """Median of the ratios, round by round."""
    return statistics.median(a / b for a, b in zip(over, under, strict=True))
