"""``icd confirm``: finalists and named baselines on fresh shared seeds, and what that shows."""

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

from icd.config.sweep import Baseline, SweepConfig
from icd.config.trial import TrialConfig
from icd.errors import StateError, UsageError, did_you_mean
from icd.methods import PAPER_ROWS
from icd.results.arm_runs import note_arms
from icd.results.confirmation import Confirmation, confirmation_of
from icd.results.plan import (
    FailedRuns,
    Plan,
    PlannedArm,
    begin_plan,
    fresh_seeds,
    planned_arm,
    stored_plans,
)
from icd.results.race import distinct_arms, in_race_order, run_race, seedless, seeds_of
from icd.search import default_root
from icd.search.core.records import TrialRecord, in_order
from icd.search.session import written_report
from icd.search.settings import Settings
from icd.search.study.ledger import Ledger
from icd.search.study.sweep_index import find, pasted
from icd.search.suggest.search_space import SearchSpace
from icd.search.suggest.warm_start import stored_starts
from icd.search.trial_list import run_stage
from icd.text import runs_wait
from icd.training.checkpoints import write_durably

USUAL_BASELINES = ("KD", "SD-KD", "iCD-KD")
_TOP, _SEEDS = 3, 5


def run_confirmation(
    name: str,
    settings: Settings,
    *,
    top: int | None = None,
    seeds: int | None = None,
    against: Sequence[str] = (),
    train_on: Literal["train", "train+val"] | None = None,
    alpha: float | None = None,
    adaptive: bool | None = None,
    failed_runs: FailedRuns | None = None,
    race: int | None = None,
    anew: bool = False,
    overrides: Sequence[str] = (),
) -> Confirmation:
    """Confirm a sweep, or go on with it: a plan that was begun stays as it is, and what it leaves open is not asked.

    Args:
        name: Of the sweep.
        settings: How and where.
        top: Finalists; 3.
        seeds: At most; 5.
        against: See ``make_plan``.
        train_on: ``train+val`` by default.
        alpha: Chance of any false difference in the confirmation; 0.05.
        adaptive: Whether an arm ends after three seeds where the others would hardly show a difference; True.
        failed_runs: What a run counts that diverged; ``left-out``.
        race: Give so many of the best trials two further seeds on validation images first; see ``icd.results.race``.
        anew: Begin another confirmation, on seeds of its own.
        overrides: Changes of the sweep's resources.

    Raises:
        StateError: If another driver has the sweep, no trial is complete, or a different confirmation was begun.
        Interrupted: If a signal stopped it; the same call goes on.
    """
    given: dict[str, Any] = {"top": top, "seeds": seeds, "train_on": train_on, "alpha": alpha, "adaptive": adaptive}
    given |= {"failed_runs": failed_runs, "race": race}
    asked: dict[str, Any] = {key: value for key, value in given.items() if value is not None}

    def listed(ledger: Ledger, sweep: SweepConfig) -> Plan:
        plans = stored_plans(ledger, "confirm")
        if plans and not anew and not asked and not against:
            return plans[-1]
        return begin_plan(
            ledger,
            make_plan(ledger, sweep, root=settings.root, **{"top": _TOP, "seeds": _SEEDS, "against": against, **asked}),
            anew=anew,
        )

    if race is not None:
        run_race(name, settings, race, overrides)
    done = run_stage(name, listed, settings, overrides, partial(tell_confirmation, settings))
    if done.pending:
        settings.announce(f"{runs_wait(done.pending)} for MLflow: '{pasted(settings.root, 'sync', name)}'")
    found = confirmation_of(find(settings.root, name))
    if found is None:
        raise StateError(f"sweep {name!r} lost its confirmation while it ran")
    return found


def tell_confirmation(settings: Settings, ledger: Ledger, folder: Path) -> None:
    """Keep what was found beside the sweep, and for MLflow."""
    found = confirmation_of(ledger)
    if found is None:
        return
    write_durably(folder / "confirmation.json", (json.dumps(found.to_data(), indent=1) + "\n").encode())
    note_arms(ledger, "confirm", found, winner=found.winner or "", test_evaluations=found.test_evaluations)
    written_report(ledger.name, folder, settings)


def make_plan(
    ledger: Ledger,
    sweep: SweepConfig,
    *,
    top: int,
    seeds: int,
    against: Sequence[str] = (),
    train_on: Literal["train", "train+val"] = "train+val",
    alpha: float = 0.05,
    adaptive: bool = True,
    failed_runs: FailedRuns = "left-out",
    race: int = 0,
    root: Path | None = None,
) -> Plan:
    """Choose the finalists of a sweep and its baselines.

    Args:
        ledger: Its study.
        sweep: Its configuration.
        top: Finalists: the best complete trials that are no baselines themselves, by the first objective, or over
            several pairs by rank.
        seeds: At most.
        against: Rows of the paper, labels of the sweep's own baselines, or ``trial N``; by default the sweep's own, and
            KD, SD-KD and iCD-KD where it has none.
        train_on: What is trained on.
        alpha: Chance of any false difference in the confirmation.
        adaptive: Whether an arm ends after three seeds where the others would hardly show a difference.
        failed_runs: What a run counts that diverged.
        race: How many of the best trials have raced; finalists are then the best of these.
        root: Folder of results, for commands that a message names.

    Raises:
        StateError: If no trial is complete.
        UsageError: For a baseline that is none, or fewer than two seeds.
    """
    if top < 1 or seeds < 2:
        raise UsageError(f"--top must be 1 or more and --seeds 2 or more, but got {top} and {seeds}")
    space, records = SearchSpace(sweep, stored_starts(ledger)), ledger.records()
    labels = against or [baseline.label for baseline in sweep.enqueue] or USUAL_BASELINES
    baselines = [_baseline(label, sweep, space, records) for label in dict.fromkeys(labels)]
    ordered = in_order(records, maximize=sweep.objectives[0].direction == "maximize")
    if race:
        ordered = in_race_order(ledger, ordered, race)
    finalists = distinct_arms(space, ordered, top, [configs for _, configs in baselines])
    if not finalists:
        raise StateError(
            f"sweep {ledger.name!r} has no finalist: no trial has run all its epochs that is not one of "
            f"{', '.join(labels)}; see '{pasted(root or default_root(), 'trials', ledger.name)}'"
        )
    return Plan(
        stage="confirm",
        arms=(*finalists, *(arm for arm, _ in baselines)),
        seeds=fresh_seeds(ledger, seeds_of(space, records), seeds),
        first=min(3, seeds),
        alpha=alpha,
        adaptive=adaptive,
        train_on=train_on,
        failed_runs=failed_runs,
        raced=race,
    )


def _baseline(
    label: str, sweep: SweepConfig, space: SearchSpace, records: Sequence[TrialRecord]
) -> tuple[PlannedArm, dict[str, TrialConfig]]:
    own = {baseline.label: baseline for baseline in sweep.enqueue}
    trials = {f"trial {record.number}": record for record in records if record.state == "complete"}
    if label in own or label in PAPER_ROWS:
        baseline = own.get(label) or Baseline(label=label, changes={"method": label})
        configs = seedless(space, space.baseline(baseline))
        return planned_arm(label, "baseline", configs), configs
    if label in trials:
        configs = seedless(space, space.tried(trials[label]))
        return planned_arm(label, "baseline", configs, found=trials[label]), configs
    known = [*own, *PAPER_ROWS, *list(trials)[:3]]
    raise UsageError(f"--against must name rows, baselines or trials, but got {label!r}; {did_you_mean(label, known)}")
