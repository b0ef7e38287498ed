"""Chosen configurations on shared seeds: what is planned, kept in the study, and which runs that makes.

A plan is written before its first run, and read back ever after: whoever goes on with it cannot change it. Runs are
rows of a table, one seed each; equal seeds give equal initial weights, order of images and views.
"""

import hashlib
import itertools
import json
import statistics
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

from icd.config.sweep import Objective
from icd.errors import StateError, UsageError
from icd.results.outcome import FailedRuns, PlannedArm
from icd.results.stats import futile
from icd.search.core.records import Stage, TrialRecord
from icd.search.study.ledger import Ledger

if TYPE_CHECKING:  # these bring torch, and a plan is also read by verbs that only show it
    from icd.config.trial import TrialConfig
    from icd.search.suggest.list_source import FixedRun

_FIRST_SEED, _BLOCK = 101, 990  # searches use small ones
SEED_BLOCKS = 1_000_000

Measured = Mapping[tuple[str, str], Mapping[int, float]]  # by arm and teacher-student pair, and by seed


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Arms, seeds and the rule by which seeds are added.

    Attributes:
        adaptive: Whether an arm ends after the first seeds where the others would hardly show a difference.
        raced: Among how many trials of the search the finalists were chosen with further seeds; 0 without a race.
        race_round: Which race that was.
        reused: Trials of earlier rounds that are runs of this one: the same configuration on the same seed.
    """

    stage: Stage
    round: int = 1  # a plan that is begun anew has seeds of its own
    arms: tuple[PlannedArm, ...]  # finalists first
    seeds: tuple[int, ...]  # in the order in which they are used
    first: int = 3  # seeds that all arms get
    alpha: float = 0.05
    adaptive: bool = True
    train_on: Literal["train", "train+val"] = "train+val"
    measure_on: Literal["val", "test"] = "test"
    failed_runs: FailedRuns = "left-out"  # what a run counts that diverged
    raced: int = 0
    race_round: int = 0
    reused: tuple[int, ...] = ()

    @property
    def objective(self) -> Objective:
        """What is measured, after the last epoch."""
        return Objective(metric=f"{self.measure_on}/top1", direction="maximize")

    @property
    def configs(self) -> "list[TrialConfig]":
        """Every configuration on every seed."""
        return [config for seed in self.seeds for arm in self.arms for config in self._configs(arm, seed).values()]

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Every finalist with every baseline."""
        arms = self.arms
        return [(a.label, b.label) for a in arms for b in arms if (a.kind, b.kind) == ("finalist", "baseline")]

    @property
    def asked(self) -> dict[str, Any]:
        """What another round takes from this one where nothing else is asked, by the names that ``make_plan`` has."""
        baselines = [arm for arm in self.arms if arm.kind == "baseline"]
        return {
            "top": len(self.arms) - len(baselines),
            "against": tuple(arm.label for arm in baselines),
            "trial": baselines[0].trial if baselines else None,
            "seeds": len(self.seeds),
            "race": self.raced,
            **{name: getattr(self, name) for name in ("train_on", "alpha", "adaptive", "failed_runs")},
        }

    def runs(self, records: Sequence[TrialRecord]) -> "list[FixedRun]":
        """List the runs with what they train, but for those that an earlier round has trained."""
        from icd.search.suggest.list_source import FixedRun

        had = {_run_of(record) for record in records if record.number in self.reused}
        return [
            FixedRun(arm=arm.label, seed=seed, round=self.round, configs=self._configs(arm, seed))
            for arm, seed in self.listed(records)
            if (arm.label, seed) not in had
        ]

    def records(self, records: Sequence[TrialRecord]) -> list[TrialRecord]:
        """Choose the trials that belong to this plan."""
        return [r for r in records if r.attributes.get("round") == self.round or r.number in self.reused]

    @property
    def members(self) -> tuple[str, ...]:
        """Names of the teacher-student pairs; the only one is named with nothing."""
        return tuple(dict.fromkeys(name for arm in self.arms for name in arm.documents))

    def listed(self, records: Sequence[TrialRecord]) -> list[tuple[PlannedArm, int]]:
        """List the runs: the first rows of all arms, then the other rows of arms whose differences may still be shown.

        There is one look, once every run of the first rows has ended; it is a function of these rows alone.
        """
        first = [(arm, seed) for seed in self.seeds[: self.first] for arm in self.arms]
        going_on = {arm.label for arm in self.arms}
        if self.adaptive and self.first < len(self.seeds):
            if not self._ended(first, records):
                return first
            going_on = self._open(records)
        return first + [(arm, seed) for seed in self.seeds[self.first :] for arm in self.arms if arm.label in going_on]

    def finished(self, records: Sequence[TrialRecord]) -> bool:
        """Whether nothing is left to run."""
        return self._ended(self.listed(records), records)

    def values(self, records: Sequence[TrialRecord]) -> Measured:
        """Give what was measured, by arm and teacher-student pair, and by seed.

        A run that broke has no value. One that diverged has none either, or chance level, as the plan says.
        """
        found: dict[tuple[str, str], dict[int, float]]
        found = {(arm.label, name): {} for arm in self.arms for name in self.members}
        for record in self.records(records):
            label, seed = _run_of(record)
            chance = record.attributes.get("chance") if record.state == "pruned" else None
            for name in self.members:
                if record.state == "complete":
                    found[label, name][seed] = record.members[name] if name else record.values[0]
                elif self.failed_runs == "chance-level" and chance is not None:
                    found[label, name][seed] = float(chance)
        return found

    def _ended(self, runs: Sequence[tuple[PlannedArm, int]], records: Sequence[TrialRecord]) -> bool:
        ended = {_run_of(record) for record in self.records(records) if not record.unfinished}
        return all((arm.label, seed) in ended for arm, seed in runs)

    def _open(self, records: Sequence[TrialRecord]) -> set[str]:
        """Name the arms of which a difference may still be shown, by their first rows."""
        seeds = self.seeds[: self.first]
        means = over_members(self.values(records))
        early = {label: {seed: own[seed] for seed in seeds if seed in own} for label, own in means.items()}
        ends = futile(early, self.pairs, done=self.first, planned=len(self.seeds), alpha=self.alpha)
        return {label for pair, over in zip(self.pairs, ends, strict=True) if not over for label in pair}

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
        return dict(json.loads(json.dumps(asdict(self))))

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> "Plan":
        """Read what ``to_data`` wrote."""
        arms = tuple(PlannedArm(**arm) for arm in data["arms"])
        numbers = {name: tuple(data.get(name, ())) for name in ("seeds", "reused")}
        return cls(**{**data, "arms": arms, **numbers})


def over_members(values: Measured) -> dict[str, dict[int, float]]:
    """Give what is compared: one value for each arm and seed, over several teacher-student pairs their mean.

    The errors of one run on its pairs may be correlated and differ in spread; those of the means are what the model of
    ``icd.results.stats`` takes them for.
    """
    found: dict[str, dict[int, list[float]]] = {}
    for (label, _), own in values.items():
        by_seed = found.setdefault(label, {})
        for seed, value in own.items():
            by_seed.setdefault(seed, []).append(value)
    return {label: {seed: statistics.fmean(each) for seed, each in own.items()} for label, own in found.items()}


def stored_plans(ledger: Ledger, stage: Stage) -> list[Plan]:
    """Read the plans of a stage, in the order in which they were made."""
    return [Plan.from_data(data) for data in ledger.attributes.get(f"{stage}/plans", [])]


def begin_plan(ledger: Ledger, wanted: Plan, *, anew: bool = False, keep_seeds: bool = False) -> Plan:
    """Store a plan, or give the stored one if it is the same; see ``next_plan``."""
    begun, plans = next_plan(ledger, wanted, anew=anew, keep_seeds=keep_seeds), stored_plans(ledger, wanted.stage)
    if begun.round > len(plans):
        ledger.note_study(**{f"{wanted.stage}/plans": [plan.to_data() for plan in (*plans, begun)]})
    return begun


def next_plan(ledger: Ledger, wanted: Plan, *, anew: bool = False, keep_seeds: bool = False) -> Plan:
    """Give the plan that a stage goes on with: the last one, which must be the same, or another round.

    With ``anew`` another round has seeds of its own; with ``keep_seeds`` those of the last one, and the runs of all
    rounds that it needs again.

    Raises:
        StateError: If another plan was begun, with what differs.
    """
    plans = stored_plans(ledger, wanted.stage)
    if plans and not (anew or keep_seeds):
        if changed := changes(plans[-1], wanted):
            raise StateError(
                f"the {wanted.stage} stage of sweep {ledger.name!r} was begun otherwise; undo, or add --keep-seeds to "
                "begin another with the runs that are there, --anew on seeds of its own: " + "; ".join(changed)
            )
        return plans[-1]
    if keep_seeds:
        before = plans[-1].seeds if plans else ()
        seeds = tuple(dict.fromkeys((*before, *wanted.seeds)))[: len(wanted.seeds)]
        wanted = replace(wanted, seeds=seeds, first=min(wanted.first, len(seeds)))
        wanted = replace(wanted, reused=_had(wanted, plans, ledger.records(wanted.stage)))
    return replace(wanted, round=len(plans) + 1)


def another_round(anew: object, keep_seeds: object) -> dict[str, bool]:
    """Give how another round is asked for; one with seeds of its own and with those of the last is refused."""
    if anew and keep_seeds:
        raise UsageError("another round has seeds of its own or those of the last: take --anew or --keep-seeds")
    return {"anew": bool(anew), "keep_seeds": bool(keep_seeds)}


def changes(begun: Plan, wanted: Plan) -> list[str]:
    """List what differs between a plan that was begun and one that is asked for; arms by their labels."""
    from icd.config.trial import differences

    (old, before), (new, now) = (_compared(plan) for plan in (begun, replace(wanted, round=begun.round)))
    moved = [f"{label} dropped" for label in before.keys() - now.keys()]
    moved += [f"{label} added" for label in now.keys() - before.keys()]
    arms = [f"arms: {', '.join(sorted(moved))}"] if moved else []
    both = before.keys() & now.keys()
    inside = differences({label: before[label] for label in both}, {label: now[label] for label in both}, "arms.")
    return [*arms, *inside, *differences(old, new)]


def _had(wanted: Plan, plans: Sequence[Plan], records: Sequence[TrialRecord]) -> tuple[int, ...]:
    """Find the runs of earlier rounds that a plan needs: the same configuration, seed and images."""

    def trained(plan: Plan) -> dict[str, Any]:
        return {arm.label: (arm.documents, plan.train_on, plan.measure_on) for arm in plan.arms}

    needed, rounds = trained(wanted), {plan.round: trained(plan) for plan in plans}
    found: dict[tuple[str, int], int] = {}
    for record in records:
        label, seed = _run_of(record)
        same = label in needed and rounds.get(record.attributes["round"], {}).get(label) == needed[label]
        if same and seed in wanted.seeds and record.state in ("complete", "pruned"):
            found.setdefault((label, seed), record.number)
    return tuple(found.values())


def _run_of(record: TrialRecord) -> tuple[str, int]:
    return str(record.attributes["arm"]), int(record.attributes["seed"])


def planned_seeds(ledger: Ledger) -> set[int]:
    """Give the seeds of all plans."""
    return {seed for stage in get_args(Stage) for plan in stored_plans(ledger, stage) for seed in plan.seeds}


def seeds_beside(used: Collection[int], count: int, identity: str) -> tuple[int, ...]:
    """Give seeds that are not used, the first ones of a block that an identity draws.

    With seeds of their own, confirmations of two sweeps on the same images are independent; the same sweep, begun again
    elsewhere, has the same ones.
    """
    block = int.from_bytes(hashlib.sha256(identity.encode()).digest()[:8]) % SEED_BLOCKS
    free = (seed for seed in itertools.count(_FIRST_SEED + block * _BLOCK) if seed not in used)
    return tuple(itertools.islice(free, count))


def _compared(plan: Plan) -> tuple[dict[str, Any], dict[str, Any]]:
    """Give what two plans of one kind must have in common, and that of each arm."""
    data = plan.to_data()
    arms = {arm["label"]: {name: arm[name] for name in ("kind", "config", "pairs")} for arm in data.pop("arms")}
    return {**data, "seeds": len(data["seeds"]), "reused": [], "race_round": 0}, arms
