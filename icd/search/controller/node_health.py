"""Which places get no more trials: a GPU or a node where attempts end badly while others go well elsewhere.

A pure rule over what was seen. Nothing is ever settled: a trial that later fails on another place too was at fault
itself, and the place that was blamed for it is used again.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import takewhile

QUARANTINED = "quarantined"  # attribute of a study: the sentences of its driver's run

_CUDA_ERRORS = 2  # on one GPU, of whichever trials
_DEATHS = 3  # of different trials on one place, none elsewhere
_SHORT_STAYS = 5  # in a row: trials that had to leave a place before any had done an epoch there
_LAST_ENDS = 8  # of a place that count
_AT_ONCE_S = 1.0  # trials that share a process die together: one event
_LEAVING_S = 30.0  # trials of one node leave it within this time: one event

BLAMED = ("gpu", "killed", "hang")  # what may be a place's fault


@dataclass(frozen=True, slots=True, kw_only=True)
class Location:
    """Where an attempt runs.

    Attributes:
        host: Name of the machine.
        gpu: The GPUs it was given there, as CUDA_VISIBLE_DEVICES takes them; empty for none.
        node: Ray's name of the node; empty without Ray.
    """

    host: str
    gpu: str = ""
    node: str = ""

    def __str__(self) -> str:
        host = f"host {self.host}" + (f" (node {self.node[:8]})" if self.node else "")
        return f"GPU {self.gpu} of {host}" if self.gpu else host


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """How an attempt ended at a place; ``time`` in seconds, ``kind`` as an ``Outcome`` has it."""

    place: Location
    trial: int
    kind: str
    time: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What was seen of all places.

    Attributes:
        ends: Of attempts, the earliest first.
        epochs: For each place, when an epoch was last told from there.
    """

    ends: tuple[End, ...] = ()
    epochs: Mapping[Location, float] = field(default_factory=dict)

    def with_end(self, end: End) -> "Seen":
        """Add how an attempt ended."""
        own = [old for old in self.ends if old.place == end.place]
        forgotten = own[0] if len(own) >= _LAST_ENDS else None
        return replace(self, ends=(*(old for old in self.ends if old is not forgotten), end))

    def with_epoch(self, place: Location, time: float) -> "Seen":
        """Add that an epoch was told."""
        return replace(self, epochs={**self.epochs, place: time})


@dataclass(frozen=True, slots=True, kw_only=True)
class Complaint:
    """Why a place is not to be used.

    Attributes:
        words: For people.
        ends: What it is based on.
    """

    words: str
    ends: tuple[End, ...]


def sick_places(seen: Seen, before: Mapping[Location, Complaint]) -> dict[Location, Complaint]:
    """Say which places are not to be used now.

    Args:
        seen: What was seen.
        before: Which were not to be used so far; each stays so while its trials do not fail elsewhere too.
    """
    found = {}
    for place in dict.fromkeys([*before, *(end.place for end in seen.ends if end.kind in (*BLAMED, "preempted"))]):
        complaint = before.get(place)
        if complaint is None or _is_cleared(seen, place, complaint):
            complaint = _complaint(seen, place)
        if complaint is not None:
            found[place] = complaint
    return found


def sentence(place: Location, complaint: Complaint) -> str:
    """Say it to people."""
    return f"{place}: {complaint.words}; it gets no more trials until the next 'icd resume'"


def _complaint(seen: Seen, place: Location) -> Complaint | None:
    ends = tuple(end for end in seen.ends if end.place == place)
    blamed = _blamed(seen, place, ends)
    errors = tuple(end for end in blamed if end.kind == "gpu" and place.gpu)
    if len(errors) >= _CUDA_ERRORS:
        return Complaint(words=f"{len(errors)} errors of CUDA", ends=errors)
    dead = tuple({end.trial: end for end in reversed(blamed)}.values())  # the first of each trial
    if _apart(dead) >= _DEATHS and _goes_well_elsewhere(seen, place, min(end.time for end in dead)):
        return Complaint(words=f"{len(dead)} different trials died there, none elsewhere", ends=dead)
    stays = _short_stays(ends, seen.epochs.get(place, float("-inf")))
    times = max([_apart(stays, _LEAVING_S), *Counter(end.trial for end in stays).values()])
    if times >= _SHORT_STAYS:
        words = f"{times} times in a row trials had to leave it before any had done an epoch there"
        return Complaint(words=words, ends=stays)
    return None


def _blamed(seen: Seen, place: Location, ends: Iterable[End]) -> tuple[End, ...]:
    """The faults among these that are not their trial's own."""
    fell_elsewhere = {end.trial for end in seen.ends if end.place != place and end.kind in BLAMED}
    return tuple(end for end in ends if end.kind in BLAMED and end.trial not in fell_elsewhere)


def _is_cleared(seen: Seen, place: Location, complaint: Complaint) -> bool:
    faults = [end for end in complaint.ends if end.kind in BLAMED]
    return len(_blamed(seen, place, faults)) < len(faults)


def _goes_well_elsewhere(seen: Seen, place: Location, since: float) -> bool:
    if any(end.place != place and end.kind in BLAMED and end.time >= since for end in seen.ends):
        return False
    return any(other != place and time >= since for other, time in seen.epochs.items())


def _short_stays(ends: Sequence[End], epoch: float) -> tuple[End, ...]:
    """The ends of trials that had to leave since the place's last epoch and its last other end."""
    return tuple(takewhile(lambda end: end.kind == "preempted" and end.time >= epoch, reversed(ends)))


def _apart(ends: Iterable[End], seconds: float = _AT_ONCE_S) -> int:
    """Count ends, those within so many seconds once."""
    count, last = 0, float("-inf")
    for time in sorted(end.time for end in ends):
        if time - last > seconds:
            count, last = count + 1, time
    return count
