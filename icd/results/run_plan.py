"""Trains what a plan lists and keeps what that shows: the one runner of confirmations, ablations and benchmarks."""

import inspect
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from scipy.special import stdtrit

from icd.config.sweep import SweepConfig
from icd.errors import Interrupted, StateError, TrialsFailedError
from icd.results import ablate, confirm
from icd.results.outcome import Arm, Outcome
from icd.results.plan import Plan, another_round, begin_plan, next_plan, stored_plans
from icd.results.read_outcome import outcome_of, shown_by
from icd.search.core.records import Stage
from icd.search.run_list import run_stage
from icd.search.session import stored_sweep
from icd.search.settings import Settings
from icd.search.study.ledger import Ledger
from icd.search.study.sweep_index import find, pasted, refuse_several_pairs
from icd.search.tracking.sweep_views import ARMS
from icd.storage.durable import write_durably
from icd.text import runs_wait

_MAKERS: dict[Stage, Callable[..., Plan]] = {"confirm": confirm.make_plan, "ablate": ablate.make_plan}


def run_plan(
    stage: Stage,
    name: str,
    settings: Settings,
    *,
    race: int | None = None,
    anew: bool = False,
    keep_seeds: bool = False,
    overrides: Sequence[str] = (),
    **asked: Any,
) -> Outcome:
    """Begin a plan of a sweep, or go on with the one that was begun where nothing is asked.

    Args:
        stage: Of the plan: ``confirm`` or ``ablate``.
        name: Of the sweep.
        settings: How and where.
        race: Give so many of the best trials two further seeds on validation images first.
        anew: Begin another round, on seeds of its own, and another race before it where one is asked. What is not asked
            is as in the last round; what is under way is given up.
        keep_seeds: The same on the seeds of the last round, with the runs that it has.
        overrides: Changes of the sweep's resources.
        **asked: What the stage's ``make_plan`` takes; None is not asked.

    Raises:
        UsageError: If both ``anew`` and ``keep_seeds`` are asked, or a race over several pairs.
        StateError: If another driver has the sweep, or a different plan was begun, or ``icd stop`` ended the race.
        TrialsFailedError: If the first runs of the race all failed.
        Interrupted: If a signal stopped it; the same call without ``anew`` and ``keep_seeds`` goes on.
    """
    another = another_round(anew, keep_seeds)  # or refuse it, before a race trains
    if race is not None:
        _run_race(name, settings, race, overrides, **another)
        asked["race"] = race

    def listed(ledger: Ledger, sweep: SweepConfig) -> Plan:
        plans = stored_plans(ledger, stage)
        if plans and not any(another.values()) and not _said(asked):
            return plans[-1]
        return begin_plan(ledger, _wanted(stage, ledger, sweep, settings.root, asked), **another)

    train_listed(stage, name, settings, listed, overrides)
    ledger = find(settings.root, name)
    return shown_by(ledger, stored_plans(ledger, stage)[-1])


def _wanted(stage: Stage, ledger: Ledger, sweep: SweepConfig, root: Path, asked: Mapping[str, Any]) -> Plan:
    """Make the plan that is asked for; what is not asked is as in the last round."""
    make, plans = _MAKERS[stage], stored_plans(ledger, stage)
    before = plans[-1].asked if plans and plans[-1].pairs else {}
    taken = inspect.signature(make).parameters.keys()
    return make(ledger, sweep, root=root, **{key: before[key] for key in before.keys() & taken} | _said(asked))


def _run_race(name: str, settings: Settings, count: int, overrides: Sequence[str], **another: bool) -> None:
    """Train what is left of a race, unless the last one is finished and no other is asked for; see ``begin_race``."""
    ledger = find(settings.root, name)
    refuse_several_pairs(ledger, "its trials cannot race")
    plans = stored_plans(ledger, "race")
    if plans and plans[-1].raced == count and not any(another.values()) and plans[-1].finished(ledger.records("race")):
        return
    again = f"the race of sweep {name!r} stopped; the same command goes on with it"
    try:
        done = run_stage(
            name, lambda ledger, sweep: confirm.begin_race(ledger, sweep, count, **another), settings, overrides
        )
    except Interrupted as error:
        raise Interrupted(again) from error
    if done.stopped_by == "stop":
        raise StateError(again)
    if done.stopped_by == "failures":
        raise TrialsFailedError(f"the first runs of the race of sweep {name!r} all failed; the messages above say why")


def planned(stage: Stage, name: str, root: Path, asked: Mapping[str, Any]) -> Plan:
    """Make the plan that ``run_plan`` would begin if that were asked, without a race; nothing is run or written."""
    ledger = find(root, name)
    taken = asked.keys() & inspect.signature(_MAKERS[stage]).parameters.keys() - {"race", "root"}
    wanted = _wanted(stage, ledger, stored_sweep(ledger), root, {key: asked[key] for key in taken})
    return next_plan(ledger, wanted, **another_round(asked.get("anew"), asked.get("keep_seeds")))


def _said(asked: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in asked.items() if value not in (None, ())}


def train_listed(
    stage: Stage,
    name: str,
    settings: Settings,
    listed: Callable[[Ledger, SweepConfig], Plan],
    overrides: Sequence[str] = (),
) -> str:
    """Train what is left of a plan, keep what that shows at a clean end, and say what ended it (``StageResult``)."""
    done = run_stage(name, listed, settings, overrides, partial(_keep, stage))
    if done.pending:
        settings.announce(f"{runs_wait(done.pending)} for MLflow: '{pasted(settings.root, 'sync', name)}'")
    return done.stopped_by


def _keep(stage: Stage, ledger: Ledger, folder: Path) -> None:
    """Keep what was found beside the sweep, and in the study, from which MLflow has its runs of arms."""
    found = shown_by(ledger, stored_plans(ledger, stage)[-1])
    if stage == "confirm":
        told = {"uid": ledger.attributes["uid"], **asdict(outcome_of(ledger, stage) or found)}
        write_durably(folder / "confirmation.json", (json.dumps(told, indent=1) + "\n").encode())
    said = {
        "metric": found.metric,
        "statement": found.statement,
        "winner": found.winner or "",
        "finished": found.finished,
        "test_evaluations": found.test_evaluations,
        "arms": [_facts(arm, found.alpha) for arm in found.arms],
    }
    ledger.note_study(**{f"{ARMS}{stage}/{found.round}": said})


def _facts(arm: Arm, alpha: float) -> dict[str, Any]:
    """The interval is ``mean -+ t sd / sqrt(n)``, t of Student's distribution with n - 1 degrees of freedom."""
    count, low, high = arm.n, None, None
    if arm.mean is not None and arm.sd is not None and count > 1:
        half = float(stdtrit(count - 1, 1 - alpha / 2)) * arm.sd / math.sqrt(count)
        low, high = arm.mean - half, arm.mean + half
    trials = [run.trial for run in arm.runs]
    return {"label": arm.label, "n": count, "mean": arm.mean, "sd": arm.sd, "low": low, "high": high, "trials": trials}
