"""A short sweep whose trials train two pairs, and what is read from its root."""

from pathlib import Path
from typing import Any

from icd.results.outcome import Outcome
from icd.results.read_outcome import outcome_of
from icd.search.study import sweep_index
from tests.crash import harness as bare

EPOCHS = 4
TEACHER = bare.SWEEP["teacher"]
PAIRS = [
    {"name": "small", "teacher": TEACHER, "student": {"arch": "resnet8", "stem": "conv7x7_s2"}},
    {"name": "large", "teacher": TEACHER, "student": {"arch": "resnet14", "stem": "conv7x7_s2"}},
]
PROTOCOL = {**bare.SWEEP["training"], "epochs": EPOCHS}
ONE: dict[str, Any] = {"training": PROTOCOL, "pruner": None}
ASKED: dict[str, Any] = {"top": 1, "seeds": 2, "against": ["KD"]}
BOTH: dict[str, Any] = {**ONE, "teacher": None, "student": None, "pairs": PAIRS}


def held(root: Path) -> Outcome:
    found = outcome_of(sweep_index.find(root, "crash"), "confirm")
    assert found is not None
    return found
