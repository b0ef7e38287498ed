"""What trials took on each type of device, so that costs of different types are never taken for one."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from statistics import median
from typing import Any, Literal

from icd.search.core.records import TrialRecord

COST = "cost/seconds"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceUse:
    """Complete trials of one type of device."""

    device: str  # its name; several names where trials went from one to another
    trials: int  # how many
    seconds_per_epoch: float  # median over these trials of their mean


def device_hours(records: Iterable[TrialRecord], what: Literal["cpus", "gpus"], otherwise: float) -> float:
    """Sum the hours of training of trials, each times the CPUs or GPUs that it held.

    A trial holds what the driver gave it under which it ended. One that does not say, because an earlier version of icd
    wrote it, held ``otherwise``.
    """
    known = [record.attributes for record in records]
    return sum(float(own.get("seconds", 0.0)) * float(own.get(what, otherwise)) for own in known) / 3600


def uses(records: Sequence[TrialRecord]) -> list[DeviceUse]:
    """Say what complete trials took, by type of device, the most used first."""
    paces: dict[str, list[float]] = {}
    for record in records:
        known = record.attributes
        if record.state == "complete" and known.get("device") and known.get("epochs"):
            pace = float(known.get("seconds", 0.0)) / float(known["epochs"])
            paces.setdefault(_name(known), []).append(pace)
    found = [DeviceUse(device=name, trials=len(own), seconds_per_epoch=median(own)) for name, own in paces.items()]
    return sorted(found, key=lambda use: (-use.trials, use.device))


def mixed_cost(metrics: Sequence[str], found: Sequence[DeviceUse]) -> str:
    """Warn where an objective compares seconds of different devices; empty where none does."""
    if COST not in metrics or len(found) < 2:
        return ""
    shares = ", ".join(f"{use.trials} on {use.device} ({use.seconds_per_epoch:.3g} s an epoch)" for use in found)
    return (
        f"{COST} compares trials of different devices, which says nothing of the trials: {shares}; "
        "keep a sweep on one type with resources.device"
    )


def matches(pattern: str, device: str) -> bool:
    """Whether a device is of the type that is asked for: the pattern is part of its name, whatever the case."""
    return fnmatchcase(device.casefold(), f"*{pattern.casefold()}*")


def _name(known: Mapping[str, Any]) -> str:
    return " + ".join(dict.fromkeys([*known.get("devices", ()), known["device"]]))
