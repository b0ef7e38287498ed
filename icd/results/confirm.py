"""``icd confirm``: finalists and named baselines on fresh shared seeds, and what that shows."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from icd.config.sweep import Baseline, SweepConfig
from icd.config.trial import TrialConfig
from icd.errors import StateError, UsageError, did_you_mean
from icd.methods import PAPER_ROWS
from icd.results.outcome import FailedRuns, PlannedArm
from icd.results.plan import Plan
from icd.results.race import in_race_order
from icd.results.searched import Searched, planned_arm
from icd.search import default_root
from icd.search.study.ledger import Ledger
from icd.search.study.sweep_index import pasted

USUAL_BASELINES = ("KD", "SD-KD", "iCD-KD")


def make_plan(
    ledger: Ledger,
    sweep: SweepConfig,
    *,
    top: int = 3,
    seeds: int = 5,
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
    searched = Searched.of(ledger, sweep)
    labels = against or [baseline.label for baseline in sweep.enqueue] or USUAL_BASELINES
    baselines = [_baseline(label, sweep, searched) for label in dict.fromkeys(labels)]
    ordered = in_race_order(ledger, searched.ordered, race) if race else searched.ordered
    finalists = searched.distinct_arms(ordered, top, [configs for _, configs in baselines])
    if not finalists:
        raise StateError(
            f"sweep {ledger.name!r} has no finalist: no trial has run all its epochs that is not one of "
            f"{', '.join(labels)}; see '{pasted(root or default_root(), 'trials', ledger.name)}'"
        )
    return Plan(
        stage="confirm",
        arms=(*finalists, *(arm for arm, _ in baselines)),
        seeds=searched.fresh_seeds(seeds),
        first=min(3, seeds),
        alpha=alpha,
        adaptive=adaptive,
        train_on=train_on,
        failed_runs=failed_runs,
        raced=race,
    )


def _baseline(label: str, sweep: SweepConfig, searched: Searched) -> tuple[PlannedArm, dict[str, TrialConfig]]:
    own = {baseline.label: baseline for baseline in sweep.enqueue}
    trials = {f"trial {record.number}": record for record in searched.records if record.state == "complete"}
    if label in own or label in PAPER_ROWS:
        configs = searched.configs(own.get(label) or Baseline(label=label, changes={"method": label}))
        return planned_arm(label, "baseline", configs), configs
    if label in trials:
        configs = searched.configs(trials[label])
        return planned_arm(label, "baseline", configs, found=trials[label]), configs
    known = [*own, *PAPER_ROWS, *list(trials)[:3]]
    raise UsageError(f"--against must name rows, baselines or trials, but got {label!r}; {did_you_mean(label, known)}")
