"""What a confirmation found, as plain values: read from the study, shown by the command, the report and the export.

A confirmation retrains *arms* (finalists of a sweep, and named baselines) on fresh seeds that all arms share, and
compares them seed by seed. Every number here is of the last epoch unless it says otherwise.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

ArmKind = Literal["finalist", "baseline"]
# ``open``: too few seeds yet. ``hopeless``: further seeds up to the planned number would hardly show a difference.
Verdict = Literal["better", "worse", "hopeless", "no difference shown", "open"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One retraining.

    Attributes:
        trial: Its number in the study.
        seed: Shared with the runs of all other arms.
        value: Top-1 (%) on the test images after the last epoch; of several pairs the mean.
        best_value: The same at its best epoch; shown, never ranked.
        best_epoch: That epoch.
        looks: How often the test images were evaluated.
        seconds: Of training.
    """

    trial: int
    seed: int
    value: float
    best_value: float
    best_epoch: int
    looks: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """One configuration on all its seeds.

    Attributes:
        label: ``trial 12`` for a finalist, the paper's name (``iCD-KD``) for a baseline.
        kind: Where it comes from.
        trial: The search trial it was found as, for a finalist.
        search_value: What the search measured for it on validation images, where it did.
        config: Its trial document, without a seed of its own; empty where it was trained on several pairs.
        pairs: Its trial document on each pair; empty where it was trained on one.
        runs: By seed, complete ones only.
        failures: Seed and reason of runs that diverged or failed.
        mean: Of the runs' values; None without runs.
        sd: Sample standard deviation; None below two runs.
        mean_rank: Of several pairs: its place among all arms by their means on each pair, over the seeds that all have,
            averaged over the pairs; 1 is best. None with one pair, or without such a seed.
        worst_rank: Its worst place; None likewise.
    """

    label: str
    kind: ArmKind
    trial: int | None
    search_value: float | None
    config: Mapping[str, Any]
    runs: tuple[Run, ...]
    failures: Mapping[int, str] = field(default_factory=dict)
    mean: float | None
    sd: float | None
    pairs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    mean_rank: float | None = None
    worst_rank: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Versus:
    """One finalist against one baseline, paired by seed: differences are finalist minus baseline, in points.

    Attributes:
        finalist: Label of an arm.
        baseline: Label of an arm.
        seeds: With runs of both.
        differences: One for each seed.
        mean: Of the differences.
        low: Lower end of the bootstrap interval for their mean, for this comparison by itself; None where they do not
            vary.
        high: Upper end; None likewise.
        level: Nominal coverage of the interval, such as 0.95.
        sure_low: Lower end of the interval that agrees with the verdict: corrected for looks and finalists, it leaves
            out 0 exactly for ``better`` and ``worse``. None before the first look, or where they do not vary.
        sure_high: Upper end; None likewise.
        p_t: Two-sided paired t test.
        p_wilcoxon: Two-sided exact signed-rank test.
        p: Of the sequential test: corrected for having been looked at after every seed.
        p_holm: The same after Holm's correction over the finalists; each baseline is a question of its own.
        verdict: See ``Verdict``; ``better`` and ``worse`` hold at the stated level after correction.
        search_said: Gain over the same baseline on validation images in the search, one seed each; None where the
            search has no such baseline.
        shrinkage: ``search_said - mean``: what the search promised and the confirmation did not keep.
    """

    finalist: str
    baseline: str
    seeds: tuple[int, ...]
    differences: tuple[float, ...]
    mean: float
    low: float | None
    high: float | None
    level: float
    sure_low: float | None = None
    sure_high: float | None = None
    p_t: float
    p_wilcoxon: float
    p: float
    p_holm: float
    verdict: Verdict
    search_said: float | None
    shrinkage: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmOnPair:
    """One configuration on one of several pairs.

    Attributes:
        label: Of the arm.
        seeds: With a run.
        mean: Over the seeds; None without any.
        sd: Sample standard deviation; None below two runs.
    """

    label: str
    seeds: int
    mean: float | None
    sd: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class VersusOnPair:
    """One finalist against one baseline on one of several pairs, paired by seed; corrected for nothing.

    Attributes:
        finalist: Label of an arm.
        baseline: Label of an arm.
        seeds: How many both have.
        mean: Of the differences, in points.
        low: Lower end of the bootstrap interval, for this comparison by itself; None where they do not vary.
        high: Upper end; None likewise.
        p_t: Two-sided paired t test. It knows nothing of looks, of other comparisons or of other pairs.
    """

    finalist: str
    baseline: str
    seeds: int
    mean: float
    low: float | None
    high: float | None
    p_t: float


@dataclass(frozen=True, slots=True, kw_only=True)
class OnPair:
    """What a confirmation shows of one of several pairs; the finding is that of the means over the pairs.

    Attributes:
        name: Of the pair.
        arms: In the order of the confirmation's.
        versus: Every finalist against every baseline, where both have a run.
        looks: At its test images, over all runs of this round.
    """

    name: str
    arms: tuple[ArmOnPair, ...]
    versus: tuple[VersusOnPair, ...]
    looks: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirmation:
    """A confirmation of a sweep as it stands.

    Attributes:
        sweep: Its name.
        metric: What was compared, ``test/top1``.
        train_on: ``train+val`` or ``train``.
        planned_seeds: How many at most.
        round: 1 for the first confirmation of the sweep, 2 for one that was begun anew, ...
        arms: Finalists first, by what the search said of them, then baselines in the order asked for.
        versus: Every finalist against every baseline.
        looks: At test images, over all runs of all rounds; of several pairs, over the runs of each.
        seconds: Of training, over all runs.
        finished: Whether nothing is left to run.
        winner: Label of the finalist that is exported: the best mean over the seeds that all finalists have, of those
            that failed on the fewest seeds; over several pairs the best rank, then the best mean. None before any run.
        statement: The finding in plain words, whatever it is.
        faults: Runs that failed for another reason than that they diverged.
        pairs: One for each of several pairs; empty where there is one. Values of arms and differences above are then
            means over the pairs, seed by seed.
    """

    sweep: str
    metric: str
    train_on: str
    planned_seeds: int
    round: int
    arms: tuple[Arm, ...]
    versus: tuple[Versus, ...]
    looks: int
    seconds: float
    finished: bool
    winner: str | None
    statement: str
    faults: int = 0
    pairs: tuple[OnPair, ...] = ()

    def to_data(self) -> dict[str, Any]:
        """Write it for JSON."""
        return asdict(self)

    def arm(self, label: str) -> Arm:
        """Give an arm by its label."""
        return next(arm for arm in self.arms if arm.label == label)
