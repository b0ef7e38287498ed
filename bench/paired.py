"""Times arms that take turns, so that all meet the same weather."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence


def take_turns(arms: Mapping[str, Callable[[], object]], rounds: int, *, times: int = 1) -> dict[str, list[float]]:
    """CPU seconds of one call of each arm, for every round; ``times`` calls are timed together.

    Each arm is called once before, untimed. Every round begins with the next arm, so that no arm always has the same
    neighbour.
    """
    for arm in arms.values():
        arm()
    taken: dict[str, list[float]] = {name: [] for name in arms}
    names = list(arms)
    for number in range(rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            began = time.process_time()
            for _ in range(times):
                arms[name]()
            taken[name].append((time.process_time() - began) / times)
    return taken


def ratio(over: Sequence[float], under: Sequence[float]) -> float:
    """Median of the ratios, round by round."""
    return statistics.median(a / b for a, b in zip(over, under, strict=True))
