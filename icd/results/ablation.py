"""What the parts of a configuration are worth so far, read from its study; imports no torch."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from icd.results import sentences
from icd.results.outcome import Arm, Comparison, arms_of, comparisons_of, records_of_plan
from icd.results.plan import FailedRuns, Plan, stored_plans
from icd.results.stats import Values, simplest_within_one_se
from icd.search.core.records import TrialRecord
from icd.search.study.ledger import Ledger

WHOLE = "whole"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ablation:
    """What the parts of one configuration are worth.

    Attributes:
        sweep: Its name.
        trial: The configuration that was taken apart.
        round: 1 for the first ablation of the sweep, 2 for one that was begun anew, ...
        metric: ``val/top1``.
        alpha: Chance of any false difference.
        failed_runs: What a run counts that diverged.
        arms: One for each part that was left out or set to its default, then the whole configuration.
        comparisons: Each of them against the whole: below 0 where the part helps, ``worse`` where it is needed.
        simplest: The simplest arm within one standard error of the best; None before any is known.
        simplest_error: That standard error, in points.
        finished: Whether nothing is left to run.
        statement: The finding in plain words.
        pairs: Names of several teacher-student pairs; values are then means over them.
    """

    sweep: str
    trial: int
    round: int
    metric: str
    alpha: float
    failed_runs: FailedRuns
    arms: tuple[Arm, ...]
    comparisons: tuple[Comparison, ...]
    simplest: str | None
    simplest_error: float
    finished: bool
    statement: str
    pairs: tuple[str, ...] = ()

    def to_data(self) -> dict[str, Any]:
        """Write it for JSON."""
        return asdict(self)

    def arm(self, label: str) -> Arm:
        """Give an arm by its label."""
        return next(arm for arm in self.arms if arm.label == label)

    def part(self, label: str) -> Comparison:
        """Give what a part is worth by its label."""
        return next(item for item in self.comparisons if item.arm == label)

    @property
    def whole(self) -> Arm:
        """The whole configuration."""
        return self.arm(WHOLE)


def ablation_of(ledger: Ledger) -> Ablation | None:
    """Say what the last ablation of a sweep shows so far; None where none was begun."""
    plans = stored_plans(ledger, "ablate")
    if not plans:
        return None
    plan = plans[-1]
    records = records_of_plan(plan, ledger.records("ablate"))
    finished, arms = plan.finished(records), arms_of(plan, records)
    simplest, error = _simplest(plan, records, arms)
    found = Ablation(
        sweep=ledger.name,
        trial=next(arm.trial for arm in arms if arm.label == WHOLE) or 0,
        round=plan.round,
        metric=plan.objective.metric,
        alpha=plan.alpha,
        failed_runs=plan.failed_runs,
        arms=arms,
        comparisons=comparisons_of(plan, records, finished=finished),
        simplest=simplest,
        simplest_error=error,
        finished=finished,
        statement="",
        pairs=tuple(name for name in plan.members if name),
    )
    return replace(found, statement=_statement(found))


def _simplest(plan: Plan, records: Sequence[TrialRecord], arms: Sequence[Arm]) -> tuple[str | None, float]:
    """Apply the one-standard-error rule to the arms that had their first seeds."""
    known = [arm for arm in arms if len(arm.runs) >= plan.first and arm.parts is not None]
    if not known:
        return None, 0.0
    by_arm: Values = {
        arm.label: {
            block: value
            for (label, _), own in plan.values(records).items()
            if label == arm.label
            for block, value in own.items()
        }
        for arm in known
    }
    order = sorted(known, key=lambda arm: (arm.parts or 0, -(arm.mean or 0.0)))
    label, error = simplest_within_one_se(by_arm, [arm.label for arm in order])
    return str(label), error


def _statement(found: Ablation) -> str:
    whole = found.whole
    if whole.mean is None:
        return "Nothing can be said yet: the whole configuration has no complete run."
    over = ", mean over the pairs" if found.pairs else ""
    groups = {
        "It gets worse with": [item for item in found.comparisons if item.verdict == "worse"],
        "It gets better with": [item for item in found.comparisons if item.verdict == "better"],
        "No difference was shown with": [item for item in found.comparisons if item.verdict == "no difference shown"],
    }
    lines = [f"Trial {found.trial} reaches {whole.mean:.2f} % on validation images{over}."]
    lines += [
        f"{words}: {'; '.join(f'{item.arm} ({sentences.facts(item)})' for item in items)}."
        for words, items in groups.items()
        if items
    ]
    if found.finished:
        lines.append(sentences.error_rate(len(found.comparisons), found.alpha, "ablation"))
    lines += sentences.failures(found.arms, found.failed_runs)
    if found.simplest == WHOLE:
        lines.append("Nothing simpler is within one standard error of the best.")
    elif found.simplest is not None:
        lines.append(
            f"The simplest within one standard error of the best: {found.simplest}. That is a preference and no test: "
            f"one that is worse by {2 * found.simplest_error:.2f} points is within it in one of six cases."
        )
    return " ".join([*lines, *([] if found.finished else ["This ablation is not finished."])])
