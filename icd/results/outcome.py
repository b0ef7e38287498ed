"""What the runs of a plan show: arms, their differences, and the one record that confirmations and ablations give."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from icd.results.over_pairs import OverPairs
from icd.results.words import rendered, signed
from icd.search.core.records import Stage

FailedRuns = Literal["left-out", "chance-level"]
WHOLE = "whole"  # label of the configuration that an ablation takes apart
# ``open``: runs are left, and nothing is judged before they ended. ``not judged``: too few runs have a value.
Verdict = Literal["better", "worse", "no difference shown", "not judged", "open"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One retraining; two that differ in their seconds alone are equal."""

    trial: int
    seed: int  # shared with the runs of all other arms
    value: float  # top-1 (%) after the last epoch; of several teacher-student pairs the mean
    seconds: float = field(compare=False)  # of training


@dataclass(frozen=True, kw_only=True)
class PlannedArm:
    """One configuration of a plan.

    Attributes:
        label: ``trial 12``, the paper's name (``iCD-KD``), or what was changed (``without scale 1``).
        trial: The search trial it was found as.
        search_value: What the search measured for it on validation images, where it did.
        parts: How many parts it has, where that was counted.
        config: Its trial document, without a seed of its own; empty where it is trained on several pairs.
        pairs: Its trial document on each teacher-student pair; empty where it is trained on one.
    """

    label: str
    kind: Literal["finalist", "baseline"]  # each of the first is compared with each of the second
    trial: int | None = None
    search_value: float | None = None
    parts: int | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    pairs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def documents(self) -> Mapping[str, Mapping[str, Any]]:
        """Its trial documents by pair; the only one is named with nothing."""
        return self.pairs or {"": self.config}


@dataclass(frozen=True, kw_only=True)
class Arm(PlannedArm):
    """A configuration on all its seeds; ``mean``, ``sd`` and ``n`` are those of the values that are compared.

    Attributes:
        counted: By seed what runs that diverged count, where the plan counts them.
        mean_rank: Of several pairs: its place among all arms by their means on each pair, over the seeds that all have,
            averaged over the pairs; 1 is best. None with one pair, or without such a seed; so is ``worst_rank``.
    """

    runs: tuple[Run, ...] = ()  # by seed, complete ones only
    failures: Mapping[int, str] = field(default_factory=dict)  # seed and reason of runs that diverged or failed
    counted: Mapping[int, float] = field(default_factory=dict)
    mean: float | None = None
    sd: float | None = None  # of the sample; None below two runs
    on_pairs: Mapping[str, float] = field(default_factory=dict)  # mean on each of several pairs
    mean_rank: float | None = None
    worst_rank: float | None = None

    @property
    def by_seed(self) -> dict[int, float]:
        """Its values by seed, as they are compared."""
        return {run.seed: run.value for run in self.runs} | dict(self.counted)

    @property
    def n(self) -> int:
        """How many values it has."""
        return len(self.by_seed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One configuration against another: differences are the first minus the second, in points.

    What is judged is None until then: ``se``, the difference's standard error; the interval from ``low`` to ``high``,
    which holds the truth together with all others of the verb; ``p``, adjusted for all comparisons of the verb; and
    ``detectable``, the true difference that would have been shown in four of five cases. The verdict is ``better`` or
    ``worse`` where the interval leaves out 0, which is where ``p`` is alpha or less.
    """

    arm: str
    against: str
    column: str = ""  # teacher-student pair of a benchmark; empty where there is one
    seeds: int  # of the one with fewer
    difference: float | None  # estimate; None without runs of both
    se: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    verdict: Verdict = "open"
    detectable: float | None = None
    search_gain: float | None = None  # what the search said of it, one seed on validation images, where it did
    on_pairs: Mapping[str, float] = field(default_factory=dict)  # on each of several pairs, without a verdict
    over_pairs: OverPairs | None = None  # how alike it is over them

    @property
    def shown(self) -> bool:
        """Whether it is a shown difference."""
        return self.verdict in ("better", "worse")

    @property
    def interval(self) -> str:
        """Its interval in words; empty where there is none."""
        return "" if self.low is None or self.high is None else f"{signed(self.low)} to {signed(self.high)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A confirmation or an ablation of a sweep as it stands. Every number is of the last epoch.

    Attributes:
        arms: Of a confirmation finalists, by what the search said of them, then baselines in the order asked for; of an
            ablation one for each part that was left out or set to its default, then the whole configuration.
        comparisons: Every finalist against every baseline; every part against the whole, below 0 where the part helps.
        test_evaluations: At test images, over all runs of all rounds; of several pairs, over the runs of each.
        pairs: Names of several teacher-student pairs; values of arms and differences are then means over them.
        winner: Of a confirmation: label of the finalist that is exported, the best mean over the seeds that all
            finalists have, of those that failed on the fewest seeds; over several pairs the best rank, then the best
            mean. None before any run.
        optimism: By how much the winner's mean is too high on average, if all finalists are equally good: it was chosen
            as the best of them on these test images. None where that is not known.
        earlier: By round, what those before it found of which a run was complete: finished ones and those given up.
        under_way: The round that was begun after this one and is not finished; 0 without one.
    """

    sweep: str
    stage: Stage  # ``confirm`` or ``ablate``
    round: int  # 1 for the first of its kind, 2 for one that was begun anew, ...
    metric: str  # what was compared: ``test/top1``, of an ablation ``val/top1``
    train_on: str
    planned_seeds: int
    alpha: float  # chance of any false difference
    failed_runs: FailedRuns  # what one counts that diverged
    arms: tuple[Arm, ...]
    comparisons: tuple[Comparison, ...]
    test_evaluations: int
    seconds: float = field(compare=False)  # of training, over all runs
    finished: bool
    statement: str = ""
    faults: int = 0  # runs that failed for another reason than that they diverged
    pairs: tuple[str, ...] = ()
    raced: int = 0  # among how many trials the finalists were chosen with further seeds
    reused: int = 0  # runs of earlier rounds, whose values were known when this one was chosen
    earlier: Mapping[int, str] = field(default_factory=dict)
    under_way: int = 0
    winner: str | None = None
    optimism: float | None = None
    trial: int | None = None  # of an ablation, that was taken apart
    simplest: str | None = None  # of an ablation: the simplest arm within one standard error of the best
    simplest_error: float = 0.0  # points

    def arm(self, label: str) -> Arm:
        """Give an arm by its label."""
        return next(arm for arm in self.arms if arm.label == label)

    def of(self, label: str | None) -> tuple[Comparison, ...]:
        """Give an arm's comparisons."""
        return tuple(item for item in self.comparisons if item.arm == label)

    @property
    def judged(self) -> int:
        """How many comparisons have a verdict: these are the family that shares alpha."""
        return sum(item.p is not None for item in self.comparisons)

    @property
    def headline(self) -> str:
        """One sentence: how the winner of a confirmation compares with the baselines; empty without one."""
        return " ".join(rendered("headline.txt.j2", found=self).split())

    @property
    def whole(self) -> Arm:
        """The configuration that an ablation takes apart."""
        return self.arm(WHOLE)

    @property
    def ordered(self) -> list[Comparison]:
        """Comparisons as they are shown: of an ablation, the part that matters most first."""
        if self.stage == "confirm":
            return [*self.comparisons]
        return sorted(self.comparisons, key=lambda item: (item.difference is None, item.difference or 0.0))
