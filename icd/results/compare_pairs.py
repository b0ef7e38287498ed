"""One setting for several pairs beside the best setting of each: what the common setting costs on every pair."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from icd.config.trial import TrialConfig
from icd.errors import StateError, UsageError
from icd.search.core.records import TrialRecord, best
from icd.search.run_sweep import stored_sweep
from icd.search.study.ledger import Ledger
from icd.search.study.sweep_index import find, pasted, refuse_several_pairs
from icd.search.suggest.search_space import SearchSpace
from icd.search.suggest.warm_start import stored_starts


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One pair.

    Attributes:
        pair: Its name.
        generalist: What the winner of the sweep over all pairs reaches on it.
        sweep: The sweep of this pair alone; None where none was named.
        trial: The best trial of that sweep.
        trials: Complete trials that it is the best of.
        specialist: What it reaches.
        difference: Generalist minus specialist.
    """

    pair: str
    generalist: float
    sweep: str | None = None
    trial: int | None = None
    trials: int = 0
    specialist: float | None = None
    difference: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A generalist beside specialists.

    Attributes:
        name: The sweep over several pairs.
        trial: Its winner, by rank.
        trials: Complete trials that it is the best of.
        metric: What is compared, after the last epoch of one seed each.
        direction: Which way is better.
        rows: In the order of the pairs.
    """

    name: str
    trial: int
    trials: int
    metric: str
    direction: str
    rows: tuple[Row, ...]

    def to_data(self) -> dict[str, Any]:
        """Write it for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Specialist:
    name: str
    record: TrialRecord
    trials: int
    config: TrialConfig


def specialists(root: Path, name: str, others: Sequence[str]) -> Comparison:
    """Put the winner of a sweep over several pairs beside the best trial of a sweep for each pair.

    A sweep belongs to the pair with the networks, teacher weights and images of its best trial. Of several sweeps for
    one pair the better one is taken.

    Raises:
        UsageError: If the first is not over several pairs or another is, one belongs to no pair, or the objectives
            differ.
        StateError: If there is none of a name, or one has no complete trial.
    """
    ledger = find(root, name)
    if not ledger.ranked:
        raise UsageError(f"sweep {name!r} is not over several pairs; name such a sweep first, then one for each pair")
    sweep = stored_sweep(ledger)
    objective = sweep.objectives[0]
    maximize = objective.direction == "maximize"
    records = ledger.records()
    winner = _best(ledger, records, root, maximize=maximize)
    space = SearchSpace(sweep)
    runs = {member.name: member.config for member in space.members(space.tried(winner))}
    found: dict[str, _Specialist] = {}
    for other in others:
        special = _specialist(find(root, other), objective.metric, root, maximize=maximize)
        pair = _pair_of(special, runs, ledger, find(root, other))
        before = found.get(pair)
        if before is None or best([before.record, special.record], maximize=maximize) is special.record:
            found[pair] = special
    return Comparison(
        name=name,
        trial=winner.number,
        trials=_complete(records),
        metric=objective.metric,
        direction=objective.direction,
        rows=tuple(_row(pair, winner.members[pair], found.get(pair)) for pair in runs),
    )


def _row(pair: str, value: float, special: _Specialist | None) -> Row:
    if special is None:
        return Row(pair=pair, generalist=value)
    own = special.record.values[0]
    return Row(
        pair=pair,
        generalist=value,
        sweep=special.name,
        trial=special.record.number,
        trials=special.trials,
        specialist=own,
        difference=value - own,
    )


def _specialist(ledger: Ledger, metric: str, root: Path, *, maximize: bool) -> _Specialist:
    refuse_several_pairs(ledger, "it is no specialist")
    sweep, records = stored_sweep(ledger), ledger.records()
    first = sweep.objectives[0]
    if (first.metric, first.direction == "maximize") != (metric, maximize):
        raise UsageError(f"sweep {ledger.name!r} must have the objective {metric} too, but got {first.metric}")
    record = _best(ledger, records, root, maximize=maximize)
    space = SearchSpace(sweep, stored_starts(ledger))
    config = space.read(space.tried(record))
    return _Specialist(name=ledger.name, record=record, trials=_complete(records), config=config)


def _pair_of(special: _Specialist, runs: dict[str, TrialConfig], ours: Ledger, theirs: Ledger) -> str:
    """Name the pair that a specialist has: the same networks, teacher weights and images."""
    same_images = ours.attributes["data_digest"] == theirs.attributes["data_digest"]
    for pair, config in runs.items():
        networks = config.student == special.config.student and _teacher(config) == _teacher(special.config)
        if networks and same_images:
            return pair
    why = "its networks are those of no pair" if same_images else "its images are others"
    listed = ", ".join(runs)
    raise UsageError(f"sweep {special.name!r} belongs to no pair of {ours.name!r} ({listed}): {why}")


def _teacher(config: TrialConfig) -> str:
    return json.dumps(config.to_data().get("teacher"), sort_keys=True)


def _best(ledger: Ledger, records: Sequence[TrialRecord], root: Path, *, maximize: bool) -> TrialRecord:
    found = best(records, maximize=maximize)
    if found is None:
        see = pasted(root, "trials", ledger.name)
        raise StateError(f"no trial of sweep {ledger.name!r} has run all its epochs yet; see '{see}'")
    return found


def _complete(records: Sequence[TrialRecord]) -> int:
    return sum(record.state == "complete" for record in records)
