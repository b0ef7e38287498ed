"""The runs of a trial: one, or in a sweep over several pairs one for each pair, trained one after another."""

import hashlib
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from icd.config.trial import TrialConfig
from icd.search.core.attempts import trial_folder


@dataclass(frozen=True, slots=True, kw_only=True)
class PairRun:
    """One run of a trial."""

    config: TrialConfig  # what is trained
    name: str = ""  # of the pair, and of the run's folder below the trial's; empty for the only run of a trial
    before: int = 0  # epochs of the runs before it. A trial's epochs are counted on from run to run.

    @property
    def last(self) -> int:
        """Its last epoch, as the trial counts."""
        return self.before + self.config.training.epochs

    def folder(self, sweep: Path, number: int) -> Path:
        """Give its folder, by the sweep's."""
        return trial_folder(sweep, number, self.name)

    def result(self, sweep: Path, number: int) -> dict[str, Any]:
        """Read its result."""
        found: dict[str, Any] = json.loads((self.folder(sweep, number) / "result.json").read_text())
        return found


def pair_runs_of(configs: Mapping[str, TrialConfig]) -> tuple[PairRun, ...]:
    """Give the runs of a trial in the order in which they are trained."""
    found: list[PairRun] = []
    for name, config in configs.items():
        found.append(PairRun(config=config, name=name, before=found[-1].last if found else 0))
    return tuple(found)


def key_of(members: Sequence[PairRun]) -> str:
    """Give a trial's key: that of its only run, or a digest of the keys of all."""
    if len(members) == 1:
        return members[0].config.key()
    text = json.dumps({member.name: member.config.key() for member in members}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def epochs_before(sweep: Path, number: int, pairs: Sequence[str]) -> list[tuple[str, int]]:
    """Give the name of each run of a trial, and how many epochs are before it, from the results that are there.

    It is also asked of trials whose configuration is gone.
    """
    found, before = [(pairs[0], 0)], 0
    for name, following in itertools.pairwise(pairs):
        path = trial_folder(sweep, number, name) / "result.json"
        before += json.loads(path.read_text())["epochs"] if path.exists() else 0
        found.append((following, before))
    return found
