"""Chosen configurations on shared seeds: what is planned, kept in the study, and which runs that makes.

A plan is written before its first run, and read back ever after: whoever goes on with it cannot change it. Runs are
rows of a table, one seed each; equal seeds give equal initial weights, order of images and views, so rows are paired.
"""

import itertools
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

from icd.config.sweep import Objective
from icd.errors import StateError
from icd.results.confirmation import ArmKind
from icd.results.sequential import Decision, SequentialTest, decide
from icd.search.record import Stage, TrialRecord, run_label
from icd.search.study import Ledger

if TYPE_CHECKING:  # these bring torch, and a plan is also read by verbs that only show it
    from icd.config.trial import TrialConfig
    from icd.search.fixed import FixedRun

_FIRST_SEED = 101  # searches use small ones
_NOTHING = (0.0,)  # a single difference is never judged: p is 1


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedArm:
    """One configuration.

    Attributes:
        label: Its name in tables.
        kind: Finalist or baseline; every finalist is compared with every baseline.
        trial: The search trial it comes from.
        search_value: What the search measured for it.
        parts: How many parts it has, where that was counted.
        config: Its trial document; empty where it is trained on several pairs.
        pairs: Its trial document on each pair; empty where it is trained on one.
    """

    label: str
    kind: ArmKind
    trial: int | None = None
    search_value: float | None = None
    parts: int | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    pairs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def documents(self) -> Mapping[str, Mapping[str, Any]]:
        """Its trial documents by pair; the only one is named with nothing."""
        return self.pairs or {"": self.config}


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Arms, seeds and the rule by which seeds are added.

    Attributes:
        stage: Of its trials.
        round: Counted from 1; a plan that is begun anew has seeds of its own.
        arms: Finalists first.
        seeds: In the order in which they are used.
        first: Seeds that all arms get.
        alpha: Chance of any false difference from one baseline, over all looks and finalists.
        adaptive: Whether seeds end where the comparisons are decided or hopeless.
        train_on: ``train`` or ``train+val``.
        measure_on: ``val`` or ``test``.
    """

    stage: Stage
    round: int = 1
    arms: tuple[PlannedArm, ...]
    seeds: tuple[int, ...]
    first: int = 3
    alpha: float = 0.05
    adaptive: bool = True
    train_on: Literal["train", "train+val"] = "train+val"
    measure_on: Literal["val", "test"] = "test"

    @property
    def objective(self) -> Objective:
        """What is measured, after the last epoch."""
        return Objective(metric=f"{self.measure_on}/top1", direction="maximize")

    @property
    def configs(self) -> "list[TrialConfig]":
        """Every configuration on every seed."""
        return [config for seed in self.seeds for arm in self.arms for config in self._configs(arm, seed).values()]

    @property
    def test(self) -> SequentialTest:
        """The rule of stopping; without one there is a single look, at the last seed."""
        planned = len(self.seeds)
        return SequentialTest(planned=planned, first=self.first if self.adaptive else planned, alpha=self.alpha)

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Every finalist with every baseline."""
        finalists = [arm.label for arm in self.arms if arm.kind == "finalist"]
        baselines = [arm.label for arm in self.arms if arm.kind == "baseline"]
        return [(finalist, baseline) for finalist in finalists for baseline in baselines]

    def runs(self, records: Sequence[TrialRecord]) -> "list[FixedRun]":
        """List the runs with what they train."""
        from icd.search.fixed import FixedRun

        return [
            FixedRun(arm=arm.label, seed=seed, round=self.round, configs=self._configs(arm, seed))
            for arm, seed in self.listed(records)
        ]

    def listed(self, records: Sequence[TrialRecord]) -> list[tuple[PlannedArm, int]]:
        """List the runs: rows of all arms, then rows of those whose comparisons are open after the row before."""
        ended = {record.baseline for record in records if record.state != "running"}
        listed: list[tuple[PlannedArm, int]] = []
        values = values_by_arm(self, records)
        for place, seed in enumerate(self.seeds):
            row = self._row(place, values)
            listed += [(arm, seed) for arm in row]
            # A run of an earlier row may end after those of the last one: it must be known too.
            all_known = all(run_label(self.round, arm.label, seed) in ended for arm, seed in listed)
            if not row or (self.adaptive and place + 1 >= self.first and not all_known):
                break
        return listed

    def finished(self, records: Sequence[TrialRecord]) -> bool:
        """Whether nothing is left to run."""
        ended = {record.baseline for record in records if record.state != "running"}
        return all(run_label(self.round, arm.label, seed) in ended for arm, seed in self.listed(records))

    def compared(self, values: Mapping[str, Mapping[int, float]], upto: int) -> list[tuple[float, ...]]:
        """Give the differences of every pair over the first ``upto`` seeds, where both arms have a value."""
        seeds = self.seeds[:upto]
        return [
            tuple(
                values[one][seed] - values[other][seed]
                for seed in seeds
                if {seed} <= values[one].keys() & values[other].keys()
            )
            for one, other in self.pairs
        ]

    def decided(
        self, values: Mapping[str, Mapping[int, float]], upto: int, *, finished: bool = False
    ) -> tuple[Decision, ...]:
        """Judge every pair over the first ``upto`` seeds; one that has none yet counts among the comparisons.

        Where all runs have ended, each is judged by the seeds that gave a result.

        Each baseline is a question of its own, with Holm's correction over the finalists that are compared with it.
        """
        compared = dict(zip(self.pairs, self.compared(values, upto), strict=True))
        found: dict[tuple[str, str], Decision] = {}
        for baseline in dict.fromkeys(baseline for _, baseline in self.pairs):
            family = [pair for pair in self.pairs if pair[1] == baseline]
            differences = [compared[pair] or _NOTHING for pair in family]
            found |= zip(family, decide(self.test, differences, no_more=[finished] * len(family)), strict=True)
        return tuple(found[pair] for pair in self.pairs)

    def _row(self, place: int, values: Mapping[str, Mapping[int, float]]) -> list[PlannedArm]:
        if place < self.first or not self.adaptive:
            return list(self.arms)
        decisions = self.decided(values, place)
        open_ = {
            label
            for pair, decision in zip(self.pairs, decisions, strict=True)
            if decision.verdict == "open"
            for label in pair
        }
        return [arm for arm in self.arms if arm.label in open_]

    def _configs(self, arm: PlannedArm, seed: int) -> "dict[str, TrialConfig]":
        from icd.config.read_trial import read_trial
        from icd.config.yaml import Document

        found = {}
        for pair, document in arm.documents.items():
            config = read_trial(Document(dict(document), f"{self.stage} {arm.label} {pair}".rstrip()))
            data = replace(config.data, train_on=self.train_on, measure_on=self.measure_on)
            found[pair] = replace(config, seed=seed, data=data)
        return found

    def to_data(self) -> dict[str, Any]:
        """Write it as plain data."""
        data: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return data

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> "Plan":
        """Read what ``to_data`` wrote."""
        arms = tuple(PlannedArm(**arm) for arm in data["arms"])
        return cls(**{**data, "arms": arms, "seeds": tuple(data["seeds"])})


def planned_arm(
    label: str,
    kind: ArmKind,
    configs: "Mapping[str, TrialConfig]",
    *,
    found: TrialRecord | None = None,
    parts: int | None = None,
) -> PlannedArm:
    """Plan a configuration.

    Args:
        label: Its name in tables.
        kind: Finalist or baseline.
        configs: By pair; the only one is named with nothing.
        found: The search trial it comes from.
        parts: How many parts it has.
    """
    documents = {pair: config.to_data() for pair, config in configs.items()}
    only = documents.pop("", {})
    return PlannedArm(
        label=label,
        kind=kind,
        trial=found.number if found else None,
        search_value=found.values[0] if found else None,
        parts=parts,
        config=only,
        pairs=documents,
    )


def values_by_arm(plan: Plan, records: Sequence[TrialRecord]) -> dict[str, dict[int, float]]:
    """Give each arm's values by seed; runs that failed or diverged have none."""
    values: dict[str, dict[int, float]] = {arm.label: {} for arm in plan.arms}
    for record in records_of(plan, records):
        if record.state == "complete":
            values[record.attributes["arm"]][record.attributes["seed"]] = record.values[0]
    return values


def records_of(plan: Plan, records: Sequence[TrialRecord]) -> list[TrialRecord]:
    """Choose the trials that belong to a plan."""
    return [record for record in records if record.attributes.get("round") == plan.round]


def failures_of(label: str, records: Sequence[TrialRecord]) -> dict[int, str]:
    """Give an arm's runs that diverged or failed: seed and reason."""
    return {
        int(record.attributes["seed"]): record.reason
        for record in records
        if record.attributes["arm"] == label and record.state in ("pruned", "failed")
    }


def stored_plans(ledger: Ledger, stage: Stage) -> list[Plan]:
    """Read the plans of a stage, in the order in which they were made."""
    return [Plan.from_data(data) for data in ledger.attributes.get(f"{stage}/plans", [])]


def begin_plan(ledger: Ledger, wanted: Plan, *, anew: bool) -> Plan:
    """Store a plan, or give the stored one if it is the same.

    Raises:
        StateError: If another plan was begun, with what differs.
    """
    from icd.config.trial import differences

    plans = stored_plans(ledger, wanted.stage)
    if plans and not anew:
        same = replace(wanted, round=plans[-1].round, seeds=wanted.seeds)
        changed = differences(_compared(plans[-1]), _compared(same))
        if changed:
            raise StateError(
                f"the {wanted.stage} stage of sweep {ledger.name!r} was begun otherwise; undo, or add --anew to begin "
                "another on seeds of its own: " + "; ".join(changed)
            )
        return plans[-1]
    begun = replace(wanted, round=len(plans) + 1)
    ledger.note_study(**{f"{wanted.stage}/plans": [plan.to_data() for plan in (*plans, begun)]})
    return begun


def fresh_seeds(ledger: Ledger, used: Collection[int], count: int) -> tuple[int, ...]:
    """Give seeds that neither the search nor any earlier plan has used."""
    return seeds_beside({*used, *planned_seeds(ledger)}, count)


def planned_seeds(ledger: Ledger) -> set[int]:
    """Give the seeds of all plans."""
    return {seed for stage in get_args(Stage) for plan in stored_plans(ledger, stage) for seed in plan.seeds}


def seeds_beside(used: Collection[int], count: int) -> tuple[int, ...]:
    """Give the first seeds that are not used."""
    free = (seed for seed in itertools.count(_FIRST_SEED) if seed not in used)
    return tuple(itertools.islice(free, count))


def _compared(plan: Plan) -> dict[str, Any]:
    data = plan.to_data()
    arms = {arm["label"]: {name: arm[name] for name in ("kind", "config", "pairs")} for arm in data.pop("arms")}
    return {**data, "arms": arms, "seeds": len(data["seeds"])}
