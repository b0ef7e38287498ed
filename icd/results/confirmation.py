"""What a confirmation shows so far, read from its study; imports no torch.

A confirmation retrains *arms* (finalists of a sweep, and named baselines) on fresh seeds that all arms share, and
compares them. Every number here is of the last epoch.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from icd.config.sweep import RankName
from icd.results import sentences
from icd.results.outcome import Arm, Comparison, arms_of, comparisons_of, evaluations_of, records_of_plan
from icd.results.plan import FailedRuns, Plan, stored_plans
from icd.results.stats import expected_maximum
from icd.search.study.ledger import Ledger
from icd.search.sweep_status import plain_sweep


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirmation:
    """A confirmation of a sweep as it stands.

    Attributes:
        sweep: Its name.
        metric: What was compared, ``test/top1``.
        train_on: ``train+val`` or ``train``.
        planned_seeds: How many at most.
        alpha: Chance of any false difference.
        failed_runs: What a run counts that diverged.
        round: 1 for the first confirmation of the sweep, 2 for one that was begun anew, ...
        arms: Finalists first, by what the search said of them, then baselines in the order asked for.
        comparisons: Every finalist against every baseline.
        test_evaluations: At test images, over all runs of all rounds; of several pairs, over the runs of each.
        seconds: Of training, over all runs.
        finished: Whether nothing is left to run.
        winner: Label of the finalist that is exported: the best mean over the seeds that all finalists have, of those
            that failed on the fewest seeds; over several pairs the best rank, then the best mean. None before any run.
        optimism: By how much the winner's mean is too high on average, if all finalists are equally good: it was chosen
            as the best of them on these test images. None where that is not known.
        statement: The finding in plain words, whatever it is.
        faults: Runs that failed for another reason than that they diverged.
        pairs: Names of several teacher-student pairs; values of arms and differences are then means over them.
        raced: Among how many trials the finalists were chosen with further seeds; 0 without a race.
    """

    sweep: str
    metric: str
    train_on: str
    planned_seeds: int
    alpha: float
    failed_runs: FailedRuns
    round: int
    arms: tuple[Arm, ...]
    comparisons: tuple[Comparison, ...]
    test_evaluations: int
    seconds: float
    finished: bool
    winner: str | None
    optimism: float | None
    statement: str
    faults: int = 0
    pairs: tuple[str, ...] = ()
    raced: int = 0

    def to_data(self) -> dict[str, Any]:
        """Write it for JSON."""
        return asdict(self)

    def arm(self, label: str) -> Arm:
        """Give an arm by its label."""
        return next(arm for arm in self.arms if arm.label == label)

    def of(self, label: str | None) -> tuple[Comparison, ...]:
        """Give an arm's comparisons."""
        return tuple(item for item in self.comparisons if item.arm == label)


def confirmation_of(ledger: Ledger, round_: int | None = None) -> Confirmation | None:
    """Say what a confirmation shows so far: the last one of a sweep, or the one that is asked for.

    Returns:
        None where none was begun.
    """
    plans = stored_plans(ledger, "confirm")
    if round_ is not None:
        plans = [plan for plan in plans if plan.round == round_]
    if not plans:
        return None
    plan, everything = plans[-1], ledger.records("confirm")
    records = records_of_plan(plan, everything)
    finished, said = plan.finished(records), _said(ledger, plan)
    arms = arms_of(plan, records, said)
    comparisons = comparisons_of(plan, records, finished=finished, said=said)
    winner = _winner(arms, ledger.ranked)
    found = Confirmation(
        sweep=ledger.name,
        metric=plan.objective.metric,
        train_on=plan.train_on,
        planned_seeds=len(plan.seeds),
        alpha=plan.alpha,
        failed_runs=plan.failed_runs,
        round=plan.round,
        arms=arms,
        comparisons=comparisons,
        test_evaluations=sum(map(evaluations_of, everything)),
        seconds=sum(float(record.attributes.get("seconds", 0.0)) for record in records),
        finished=finished,
        winner=winner,
        optimism=_optimism(arms, [item for item in comparisons if item.arm == winner]),
        statement="",
        faults=sum(record.state == "failed" for record in records),
        pairs=tuple(name for name in plan.members if name),
        raced=plan.raced,
    )
    return replace(found, statement=statement_of(found))


def _said(ledger: Ledger, plan: Plan) -> dict[str, float]:
    """Give what the search measured for each arm, where that is comparable: top-1, in points."""
    if plain_sweep(ledger)["objectives"][0]["metric"] != "val/top1":
        return {}
    enqueued = {record.baseline: record.values[0] for record in ledger.records() if record.baseline and record.values}
    values = {arm.label: enqueued.get(arm.label) if arm.search_value is None else arm.search_value for arm in plan.arms}
    return {label: value for label, value in values.items() if value is not None}


def _optimism(arms: Sequence[Arm], own: Sequence[Comparison]) -> float | None:
    """Take the error of one mean from that of a difference of two."""
    errors = [item.se for item in own if item.se is not None]
    finalists = sum(arm.kind == "finalist" and bool(arm.runs) for arm in arms)
    return expected_maximum(finalists) * min(errors) / math.sqrt(2) if errors and finalists > 1 else None


def _winner(arms: Sequence[Arm], ranked: RankName | None) -> str | None:
    """Choose the best mean over the seeds that all have, of the finalists that failed on the fewest seeds.

    One that was decided early has fewer seeds than the others, and is compared with them on those. Over several pairs
    the sweep's rank comes before the mean.
    """
    finalists = [arm for arm in arms if arm.kind == "finalist" and arm.runs]
    if not finalists:
        return None
    fewest = min(len(arm.failures) for arm in finalists)
    values = {arm.label: {run.seed: run.value for run in arm.runs} for arm in finalists if len(arm.failures) == fewest}
    shared = set.intersection(*map(set, values.values()))

    ranks = {arm.label: (arm.worst_rank if ranked == "worst" else arm.mean_rank) or 0.0 for arm in finalists}

    def merit(label: str) -> tuple[float, float]:
        own = values[label]
        return -ranks[label], statistics.fmean(own[seed] for seed in shared or own)

    return max(values, key=merit)


def statement_of(found: Confirmation) -> str:
    """Say what a confirmation shows, whatever it is: the winner against every baseline, then what to make of it."""
    if found.winner is None:
        return "Nothing can be said yet: no finalist has a complete run."
    winner, own = found.arm(found.winner), found.of(found.winner)
    spread = "" if winner.sd is None else f" (sd {winner.sd:.2f})"
    over = f", mean of {len(found.pairs)} pairs" if found.pairs else ""
    lines = [sentences.headline(winner.label, own)] if own else []
    lines.append(
        f"{winner.label} reaches {winner.mean:.2f} % top-1 on test images{over}{spread}, "
        f"{sentences.seeds(len(winner.runs))}."
    )
    lines += sentences.against(own)
    if found.finished and own:
        lines.append(sentences.error_rate(len(found.comparisons), found.alpha, "confirmation"))
    lines += _on_pairs(found) + sentences.failures(found.arms, found.failed_runs)
    if found.optimism is not None:
        lines.append(
            f"{winner.label} was chosen as the best of several finalists on these test images; if they are equally "
            f"good, its mean is too high by {found.optimism:.2f} points on average."
        )
    if found.raced:
        lines.append(
            f"Finalists were chosen among the best {found.raced} trials with further seeds on validation images."
        )
    promised = next((item for item in own if item.search_gain is not None and item.difference is not None), None)
    if promised is not None:
        lines.append(
            f"The search promised {promised.search_gain:+.2f} points over {promised.against} (one seed, validation "
            f"images); {promised.difference:+.2f} were found."
        )
    return " ".join([*lines, *([] if found.finished else ["This confirmation is not finished."])])


def _on_pairs(found: Confirmation) -> list[str]:
    """Say what the winner gains on each pair, and its place among the arms."""
    lines = [
        f"On each pair against {item.against}: "
        f"{', '.join(f'{name} {gain:+.2f}' for name, gain in item.on_pairs.items())} points"
        f"{sentences.over_pairs(item)}, judged by nothing."
        for item in found.of(found.winner)
        if item.on_pairs
    ]
    ranks = [f"{arm.label} {arm.mean_rank:.3g}" for arm in found.arms if arm.mean_rank is not None]
    return [*lines, f"Mean rank over the pairs, 1 is best: {', '.join(ranks)}."] if ranks else lines
