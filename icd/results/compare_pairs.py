"""One setting for several pairs beside the best setting of each: what the common setting costs on every pair."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from icd.config.trial import TrialConfig
from icd.errors import StateError, UsageError
from icd.results.searched import Searched
from icd.search.core.records import TrialRecord
from icd.search.session import stored_sweep
from icd.search.study.ledger import Ledger
from icd.search.study.sweep_index import find, pasted, refuse_several_pairs


def specialists(root: Path, name: str, others: Sequence[str]) -> dict[str, Any]:
    """Put the winner of a sweep over several pairs beside the best trial of a sweep for each pair.

    A sweep belongs to the pair with the networks, teacher weights and images of its best trial. Of several sweeps for
    one pair the better one is taken.

    Returns:
        Plain data: ``name`` of the sweep, ``trial`` that won by rank, ``trials`` that it is the best of, the first
        objective's ``metric`` and ``direction``, and ``rows``. A row has a ``pair``, what the winner reaches on it
        (``generalist``), and of the pair's own sweep its name (``sweep``), its best ``trial``, the count of complete
        ``trials``, what that reaches (``specialist``) and the ``difference``: generalist minus specialist.

    Raises:
        UsageError: If the first is not over several pairs or another is, one belongs to no pair, or the objectives
            differ.
        StateError: If there is none of a name, or one has no complete trial.
    """
    ledger = find(root, name)
    if not ledger.ranked:
        raise UsageError(f"sweep {name!r} is not over several pairs; name such a sweep first, then one for each pair")
    objective = stored_sweep(ledger).objectives[0]
    winner, searched = _best(ledger, root)
    configs, found = searched.configs(winner), dict[str, dict[str, Any]]()
    better = max if objective.direction == "maximize" else min
    for other in others:
        own = find(root, other)
        refuse_several_pairs(own, "it is no specialist")
        first = stored_sweep(own).objectives[0]
        if (first.metric, first.direction) != (objective.metric, objective.direction):
            raise UsageError(f"sweep {other!r} must have the objective {objective.metric} too, but got {first.metric}")
        record, special = _best(own, root)
        pair, value = _pair_of(own, special.configs(record)[""], configs, ledger), record.values[0]
        counted = {"sweep": other, "trial": record.number, "trials": len(special.ordered)}
        row: dict[str, Any] = {**counted, "specialist": value}
        found[pair] = better([found.get(pair, row), row], key=lambda row: row["specialist"])
    none: dict[str, Any] = {"sweep": None, "trial": None, "trials": 0, "specialist": None}
    rows: list[dict[str, Any]] = [
        {"pair": pair, "generalist": winner.members[pair], **found.get(pair, none)} for pair in configs
    ]
    for row in rows:
        row["difference"] = None if row["specialist"] is None else row["generalist"] - row["specialist"]
    said = {"metric": objective.metric, "direction": objective.direction}
    return {"name": name, "trial": winner.number, "trials": len(searched.ordered), **said, "rows": rows}


def _best(ledger: Ledger, root: Path) -> tuple[TrialRecord, Searched]:
    searched = Searched.of(ledger, stored_sweep(ledger))
    if not searched.ordered:
        see = pasted(root, "trials", ledger.name)
        raise StateError(f"no trial of sweep {ledger.name!r} has run all its epochs yet; see '{see}'")
    return searched.ordered[0], searched


def _pair_of(own: Ledger, config: TrialConfig, runs: Mapping[str, TrialConfig], ours: Ledger) -> str:
    """Name the pair that a specialist has: the same networks, teacher weights and images."""
    same_images = ours.attributes["data_digest"] == own.attributes["data_digest"]
    for pair, run in runs.items():
        if same_images and run.student == config.student and _teacher(run) == _teacher(config):
            return pair
    why = "its networks are those of no pair" if same_images else "its images are others"
    raise UsageError(f"sweep {own.name!r} belongs to no pair of {ours.name!r} ({', '.join(runs)}): {why}")


def _teacher(config: TrialConfig) -> str:
    return json.dumps(config.to_data().get("teacher"), sort_keys=True)
