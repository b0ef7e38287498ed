"""A confirmation of nine runs that really trains, and what must be the same whatever happens to it."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from icd.results.read_outcome import outcome_of
from icd.search.study import sweep_index
from icd.training.checkpoints import weights_digest
from tests.confirming import outcome
from tests.crash import harness as bare
from tests.crash.served import Drive, Harness

# One scale has nothing to cluster, so that these two differ in a weight that multiplies nothing.
ALONE = {"scales": [1], "base_loss": "kd"}


SEARCH: dict[str, Any] = {
    "enqueue": [
        {"label": "one", "method": {**ALONE, "cluster_weight": 1}},
        {"label": "two", "method": {**ALONE, "cluster_weight": 2}},
    ],
    "pruner": "none",
    "budget": {"trials": 3},
}


ASKED: dict[str, Any] = {"top": 1, "seeds": 3, "against": ["one", "two"]}


RUNS = 9


def confirm(harness: Harness, root: Path, **more: Any) -> Drive:
    return harness.drive(root, changes=SEARCH, confirm=ASKED, **more)


def held(root: Path) -> Any:
    found = outcome_of(sweep_index.find(root, "crash"), "confirm")
    assert found is not None
    return found


def weights_of(root: Path, number: int) -> str:
    """Digest of a student's weights."""
    path = root / "sweeps" / "crash" / "trials" / f"{number:04d}" / "student.safetensors"
    return weights_digest(load_file(path))


def check(root: Path, expected: Path, kills: int) -> None:
    """A confirmation says what the undisturbed one says, and nothing was lost or done twice on the way."""
    assert bare.table(root, "confirm") == bare.table(expected, "confirm")
    assert outcome(held(root)) == outcome(held(expected))
    assert bare.tracking_faults(root, bare.table(root) + bare.table(root, "confirm")) == []
    # The answer to an epoch comes while the next is under way: a stop may give up one that reached its last step.
    assert sum(bare.repeated_epochs(root).values()) <= kills
    written = json.loads((root / "sweeps" / "crash" / "confirmation.json").read_text())
    written.pop("uid")
    assert written == json.loads(json.dumps(asdict(held(root))))
