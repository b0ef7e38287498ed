"""What the runs of a plan show: arms, their differences, and the one record that confirmations and ablations give."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from icd.results.stats import OverPairs
from icd.search.core.records import Stage

FailedRuns = Literal["left-out", "chance-level"]
WHOLE = "whole"  # label of the configuration that an ablation takes apart
# ``open``: runs are left, and nothing is judged before they ended.
Verdict = Literal["better", "worse", "no difference shown", "open"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One retraining.

    Attributes:
        trial: Its number in the study.
        seed: Shared with the runs of all other arms.
        value: Top-1 (%) after the last epoch; of several teacher-student pairs the mean.
        evaluations: How often the images were evaluated that it is measured on.
        seconds: Of training; two runs that differ in nothing else are equal.
    """

    trial: int
    seed: int
    value: float
    evaluations: int
    seconds: float = field(compare=False)


@dataclass(frozen=True, kw_only=True)
class PlannedArm:
    """One configuration of a plan.

    Attributes:
        label: ``trial 12``, the paper's name (``iCD-KD``), or what was changed (``without scale 1``).
        kind: Finalist or baseline; every finalist is compared with every baseline.
        trial: The search trial it was found as.
        search_value: What the search measured for it on validation images, where it did.
        parts: How many parts it has, where that was counted.
        config: Its trial document, without a seed of its own; empty where it is trained on several pairs.
        pairs: Its trial document on each teacher-student pair; empty where it is trained on one.
    """

    label: str
    kind: Literal["finalist", "baseline"]
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
    """A configuration on all its seeds.

    Attributes:
        runs: By seed, complete ones only.
        failures: Seed and reason of runs that diverged or failed.
        mean: Of the runs' values; None without runs.
        sd: Sample standard deviation; None below two runs.
        on_pairs: Mean on each of several pairs.
        mean_rank: Of several pairs: its place among all arms by their means on each pair, over the seeds that all have,
            averaged over the pairs; 1 is best. None with one pair, or without such a seed.
        worst_rank: Its worst place; None likewise.
    """

    runs: tuple[Run, ...] = ()
    failures: Mapping[int, str] = field(default_factory=dict)
    mean: float | None = None
    sd: float | None = None
    on_pairs: Mapping[str, float] = field(default_factory=dict)
    mean_rank: float | None = None
    worst_rank: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One configuration against another: differences are the first minus the second, in points.

    Attributes:
        arm: Label of the first.
        against: Label of the second.
        column: Teacher-student pair of a benchmark; empty where there is one.
        seeds: How many the one with fewer has.
        difference: Estimate; None without runs of both.
        se: Its standard error; None where it is not judged.
        low: Lower end of its interval; None likewise. All intervals of a verb hold the truth together.
        high: Upper end; None likewise.
        p: Adjusted for all comparisons of the verb; None likewise.
        verdict: ``better`` and ``worse`` where the interval leaves out 0, which is where ``p`` is alpha or less.
        detectable: The true difference that would have been shown in four of five cases; None likewise.
        search_gain: What the search said of the difference, one seed on validation images; None where it did not.
        on_pairs: The difference on each of several teacher-student pairs, without a verdict.
        over_pairs: How alike it is over them; None with one.
    """

    arm: str
    against: str
    column: str = ""
    seeds: int
    difference: float | None
    se: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    verdict: Verdict = "open"
    detectable: float | None = None
    search_gain: float | None = None
    on_pairs: Mapping[str, float] = field(default_factory=dict)
    over_pairs: OverPairs | None = None

    @property
    def shown(self) -> bool:
        """Whether it is a shown difference."""
        return self.verdict in ("better", "worse")

    @property
    def interval(self) -> str:
        """Its interval in words; empty where there is none."""
        return "" if self.low is None or self.high is None else f"{self.low:+.2f} to {self.high:+.2f}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A confirmation or an ablation of a sweep as it stands. Every number is of the last epoch.

    Attributes:
        sweep: Its name.
        stage: ``confirm`` or ``ablate``.
        round: 1 for the first of its kind, 2 for one that was begun anew, ...
        metric: What was compared: ``test/top1``, of an ablation ``val/top1``.
        train_on: ``train+val`` or ``train``.
        planned_seeds: How many at most.
        alpha: Chance of any false difference.
        failed_runs: What a run counts that diverged.
        arms: Of a confirmation finalists, by what the search said of them, then baselines in the order asked for; of an
            ablation one for each part that was left out or set to its default, then the whole configuration.
        comparisons: Every finalist against every baseline; every part against the whole, below 0 where the part helps.
        test_evaluations: At test images, over all runs of all rounds; of several pairs, over the runs of each.
        seconds: Of training, over all runs; two outcomes that differ in nothing else are equal.
        finished: Whether nothing is left to run.
        statement: The finding in plain words, whatever it is.
        faults: Runs that failed for another reason than that they diverged.
        pairs: Names of several teacher-student pairs; values of arms and differences are then means over them.
        raced: Among how many trials the finalists were chosen with further seeds; 0 without a race.
        reused: How many runs are those of earlier rounds.
        winner: Of a confirmation: label of the finalist that is exported, the best mean over the seeds that all
            finalists have, of those that failed on the fewest seeds; over several pairs the best rank, then the best
            mean. None before any run.
        optimism: By how much the winner's mean is too high on average, if all finalists are equally good: it was chosen
            as the best of them on these test images. None where that is not known.
        trial: Of an ablation: the search trial that was taken apart.
        simplest: Of an ablation: the simplest arm within one standard error of the best; None before any is known.
        simplest_error: That standard error, in points.
    """

    sweep: str
    stage: Stage
    round: int
    metric: str
    train_on: str
    planned_seeds: int
    alpha: float
    failed_runs: FailedRuns
    arms: tuple[Arm, ...]
    comparisons: tuple[Comparison, ...]
    test_evaluations: int
    seconds: float = field(compare=False)
    finished: bool
    statement: str = ""
    faults: int = 0
    pairs: tuple[str, ...] = ()
    raced: int = 0
    reused: int = 0
    winner: str | None = None
    optimism: float | None = None
    trial: int | None = None
    simplest: str | None = None
    simplest_error: float = 0.0

    def to_data(self) -> dict[str, Any]:
        """Write it for JSON."""
        return asdict(self)

    def arm(self, label: str) -> Arm:
        """Give an arm by its label."""
        return next(arm for arm in self.arms if arm.label == label)

    def of(self, label: str | None) -> tuple[Comparison, ...]:
        """Give an arm's comparisons."""
        return tuple(item for item in self.comparisons if item.arm == label)

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
