"""A search whose trials a plan trains again: the best ones, their configurations, and seeds that are still unused."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from icd.config.sweep import Baseline, SweepConfig
from icd.config.trial import TrialConfig
from icd.results.outcome import PlannedArm
from icd.results.plan import planned_seeds, seeds_beside
from icd.search.core.records import TrialRecord, in_order
from icd.search.study.ledger import Ledger
from icd.search.suggest.search_space import SearchSpace
from icd.search.suggest.warm_start import stored_starts

Configs = Mapping[str, TrialConfig]  # by pair; the only one is named with nothing


@dataclass(frozen=True, slots=True)
class Searched:
    """A sweep's trials.

    Attributes:
        ledger: Its study.
        space: What was searched.
        records: Every trial of the search.
        ordered: Complete trials, best first by the first objective, or over several pairs by rank.
    """

    ledger: Ledger
    space: SearchSpace
    records: Sequence[TrialRecord]
    ordered: Sequence[TrialRecord]

    @classmethod
    def of(cls, ledger: Ledger, sweep: SweepConfig) -> "Searched":
        """Read the trials of a sweep."""
        records = ledger.records()
        ordered = in_order(records, maximize=sweep.objectives[0].direction == "maximize")
        return cls(ledger, SearchSpace(sweep, stored_starts(ledger)), records, ordered)

    def configs(self, tried: TrialRecord | Baseline) -> dict[str, TrialConfig]:
        """Give the configurations of a trial or a baseline by pair, without a seed of their own."""
        document = self.space.baseline(tried) if isinstance(tried, Baseline) else self.space.tried(tried)
        return {member.name: replace(member.config, seed=0) for member in self.space.members(document)}

    def distinct_arms(
        self, ordered: Sequence[TrialRecord], count: int, but: Sequence[Configs] = ()
    ) -> list[PlannedArm]:
        """Plan the first trials as finalists; a configuration that is there already, or among ``but``, is left out."""
        compared, arms = list(but), list[PlannedArm]()
        for record in ordered:
            configs = self.configs(record)
            if configs not in compared and len(arms) < count:
                compared.append(configs)
                arms.append(planned_arm(f"trial {record.number}", "finalist", configs, found=record))
        return arms

    def fresh_seeds(self, count: int) -> tuple[int, ...]:
        """Give seeds that neither the search nor any earlier plan has used."""
        begun = [record for record in self.records if record.key and record.state != "failed"]
        used = {member.config.seed for record in begun for member in self.space.members(self.space.tried(record))}
        return seeds_beside(used | planned_seeds(self.ledger), count, str(self.ledger.attributes["digest"]))


def planned_arm(
    label: str,
    kind: Literal["finalist", "baseline"],
    configs: Configs,
    *,
    found: TrialRecord | None = None,
    parts: int | None = None,
) -> PlannedArm:
    """Plan a configuration under a label; ``found`` is the search trial it comes from, ``parts`` its count of parts."""
    documents = {pair: config.to_data() for pair, config in configs.items()}
    return PlannedArm(
        label=label,
        kind=kind,
        trial=found.number if found else None,
        search_value=found.values[0] if found else None,
        parts=parts,
        config=documents.pop("", {}),
        pairs=documents,
    )
