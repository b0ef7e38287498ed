"""``icd confirm --race K``: two further seeds for the K best trials of a search, before any test image is opened.

The best trials of a search were each measured once, so their order is mostly noise. Two further seeds on validation
images, with the search's own value where that is top-1 too, choose better which of them are worth the test set. It is
the elimination step of racing (Lopez-Ibanez et al., Operations Research Perspectives 3, 2016) without a test.
"""

import statistics
from collections.abc import Sequence

from icd.config.sweep import SweepConfig
from icd.errors import Interrupted, StateError
from icd.results.plan import Plan, begin_plan, stored_plans
from icd.results.searched import Searched
from icd.search.core.records import TrialRecord
from icd.search.settings import Settings
from icd.search.study.ledger import Ledger
from icd.search.study.sweep_index import find, pasted, refuse_several_pairs
from icd.search.sweep_status import plain_sweep
from icd.search.trial_list import run_stage

SEEDS = 2


def run_race(name: str, settings: Settings, count: int, overrides: Sequence[str] = ()) -> None:
    """Train what is left of a race of so many trials.

    Raises:
        UsageError: For a sweep over several pairs.
        StateError: If another driver has the sweep, no trial is complete, or a race of other trials was begun.
        Interrupted: If a signal stopped it; the same call goes on.
    """
    ledger = find(settings.root, name)
    refuse_several_pairs(ledger, "its trials cannot race")
    plans = stored_plans(ledger, "race")
    if plans and plans[-1].raced == count and plans[-1].finished(ledger.records("race")):
        return

    def listed(ledger: Ledger, sweep: SweepConfig) -> Plan:
        return begin_plan(ledger, race_plan(ledger, sweep, count))

    again = f"the race of sweep {name!r} stopped; continue with "
    again += f"'{pasted(settings.root, 'confirm', name, '--race', str(count))}'"
    try:
        done = run_stage(name, listed, settings, overrides)
    except Interrupted as error:
        raise Interrupted(again) from error
    if done.stopped_by == "stop":
        raise StateError(again)


def race_plan(ledger: Ledger, sweep: SweepConfig, count: int) -> Plan:
    """Plan a race of the best trials that are no baselines of the sweep.

    Raises:
        StateError: If no such trial is complete.
    """
    searched = Searched.of(ledger, sweep)
    arms = searched.distinct_arms([record for record in searched.ordered if not record.baseline], count)
    if not arms:
        raise StateError(f"sweep {ledger.name!r} has nothing to race: no trial has run all its epochs")
    return Plan(
        stage="race",
        arms=tuple(arms),
        seeds=searched.fresh_seeds(SEEDS),
        first=SEEDS,
        adaptive=False,
        train_on="train",
        measure_on="val",
        raced=count,
    )


def in_race_order(ledger: Ledger, ordered: Sequence[TrialRecord], count: int) -> list[TrialRecord]:
    """Give the trials that have raced, by the mean of their values; those without a value are left out.

    Raises:
        StateError: If no race of so many trials was run.
    """
    plans = [plan for plan in stored_plans(ledger, "race") if plan.raced == count]
    if not plans:
        raise StateError(f"no race of {count} trials of sweep {ledger.name!r} was run")
    values = plans[-1].values(ledger.records("race"))
    same = plain_sweep(ledger)["objectives"][0]["metric"] == "val/top1"
    means = {}
    for arm in plans[-1].arms:
        own = [*values[arm.label, ""].values()]
        if own and arm.trial is not None:
            means[arm.trial] = statistics.fmean([*own, *([arm.search_value] if same and arm.search_value else [])])
    raced = [record for record in ordered if record.number in means]
    return sorted(raced, key=lambda record: -means[record.number])
