"""Asks Ray's autoscaler for room, since a sweep starts no more trials than fit and would never make a node start.

A cluster keeps one such request, and whoever asks last is heard: two sweeps that ask on one cluster take each other's
room away, and so does ``jobs/room.py``.
"""

import time
from collections.abc import Mapping

from ray.autoscaler.sdk import request_resources
from ray.autoscaler.v2.utils import is_autoscaler_v2

_AGAIN_S = 60.0  # a head node that was replaced has forgotten


class AutoscalerRequest:
    """What a sweep asks for; nothing unless it is asked to.

    Args:
        bundle: What a trial takes.
        labels: Which nodes it may come to.
        most: Trials at a time; 0 never asks.
    """

    def __init__(self, bundle: Mapping[str, float], labels: Mapping[str, str], most: int) -> None:
        self._bundle, self._labels = dict(bundle), dict(labels)
        self._most, self._asked, self._at = most, 0, float("-inf")
        if most:
            is_autoscaler_v2(fetch_from_server=True)  # Ray remembers the answer of the first cluster of a process

    def ask(self, trials: int) -> None:
        """Ask for room for so many trials at a time, or the most there may be."""
        wanted, now = min(trials, self._most), time.monotonic()
        if wanted != self._asked or (wanted and now - self._at > _AGAIN_S):
            labels = [self._labels] * wanted if self._labels else None
            request_resources(bundles=[self._bundle] * wanted, bundle_label_selectors=labels)
            self._asked, self._at = wanted, now
