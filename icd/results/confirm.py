"""``icd confirm``: finalists and named baselines on fresh shared seeds; and the race that may choose the finalists.

The best trials of a search were each measured once, so their order is mostly noise. Two further seeds on validation
images (``--race K``), with the search's own value where that is top-1 too, choose better which of them are worth the
test set. It is the elimination step of racing (Lopez-Ibanez et al., Operations Research Perspectives 3, 2016) without a
test.
"""

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from icd.config.sweep import Baseline, SweepConfig
from icd.config.trial import TrialConfig
from icd.errors import StateError, UsageError, did_you_mean
from icd.methods import PAPER_ROWS
from icd.results.outcome import FailedRuns, PlannedArm
from icd.results.plan import Plan, begin_plan, changes, stored_plans
from icd.results.searched import Searched, planned_arm
from icd.search import root_of
from icd.search.core.records import TrialRecord
from icd.search.study.ledger import Ledger
from icd.search.study.sweep_index import pasted
from icd.search.sweep_status import plain_sweep

USUAL_BASELINES = ("KD", "SD-KD", "iCD-KD")
RACE_SEEDS = 2


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
            f"{', '.join(labels)}; see '{pasted(root_of(root), 'trials', ledger.name)}'"
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
        race_round=last_race(ledger, race).round if race else 0,
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


def begin_race(ledger: Ledger, sweep: SweepConfig, count: int, *, anew: bool = False, keep_seeds: bool = False) -> Plan:
    """Begin a race of so many of the best trials that are no baselines of the sweep, or go on with the last one.

    With ``anew`` or ``keep_seeds`` another is begun, as by ``begin_plan``, but for one that no confirmation was begun
    with yet: then the same command, given again after a signal, goes on with that.

    Raises:
        StateError: If no trial is complete, or a race of other trials was begun.
    """
    searched = Searched.of(ledger, sweep)
    arms = searched.distinct_arms([record for record in searched.ordered if not record.baseline], count)
    if not arms:
        raise StateError(f"sweep {ledger.name!r} has nothing to race: no trial has run all its epochs")
    wanted = Plan(
        stage="race",
        arms=tuple(arms),
        seeds=searched.fresh_seeds(RACE_SEEDS),
        first=RACE_SEEDS,
        adaptive=False,
        train_on="train",
        measure_on="val",
        raced=count,
    )
    plans = stored_plans(ledger, "race")
    used = {plan.race_round for plan in stored_plans(ledger, "confirm")}
    if plans and plans[-1].round not in used and not changes(plans[-1], wanted):
        anew = keep_seeds = False
    return begin_plan(ledger, wanted, anew=anew, keep_seeds=keep_seeds)


def in_race_order(ledger: Ledger, ordered: Sequence[TrialRecord], count: int) -> list[TrialRecord]:
    """Give the trials that have raced, those with the fewest failed runs first, then by the mean of their values.

    Those without a value are left out.

    Raises:
        StateError: If no race of so many trials was run.
    """
    plan = last_race(ledger, count)
    values = plan.values(ledger.records("race"))
    same = plain_sweep(ledger)["objectives"][0]["metric"] == "val/top1"
    merits = {}
    for arm in plan.arms:
        own = [*values[arm.label, ""].values()]
        searched = [arm.search_value] if same and arm.search_value is not None else []
        if own:
            merits[arm.trial] = (len(own) - len(plan.seeds), statistics.fmean([*own, *searched]))
    raced = [record for record in ordered if record.number in merits]
    return sorted(raced, key=lambda record: merits[record.number], reverse=True)


def last_race(ledger: Ledger, count: int) -> Plan:
    """Give the plan of the last race of so many trials.

    Raises:
        StateError: If there was none.
    """
    plans = [plan for plan in stored_plans(ledger, "race") if plan.raced == count]
    if not plans:
        raise StateError(f"no race of {count} trials of sweep {ledger.name!r} was run")
    return plans[-1]
