"""Rows of a report's tables, and figures that need no drawing; ``report.html.j2`` writes them out."""

import json
from collections import defaultdict
from collections.abc import Sequence

from icd import __version__
from icd.config.document import is_range
from icd.config.names import shown_params
from icd.results.pruning import PruningAudit
from icd.results.report.gather import Facts, label_of
from icd.results.words import flat_text, measured
from icd.search.core.device_usage import device_hours
from icd.search.core.records import TrialRecord, pareto_front
from icd.search.sweep_status import pairs_of

Rows = list[list[object]]
_TOP = 5
_LISTED = 12  # numbers of trials


def reached(record: TrialRecord, metric: str) -> str:
    """Write a trial's value; of several pairs its rank and the value of each."""
    if record.rank is None:
        return f"{metric} {measured(metric, record.values[0])}"
    each = ", ".join(f"{pair} {measured(metric, value)}" for pair, value in record.members.items())
    return f"rank {record.rank:.4g} over the pairs ({metric}: {each})"


def best_trials(facts: Facts) -> tuple[list[str], Rows]:
    """List the best trials and the baselines, below their headers."""
    complete, rows, over = facts.complete, list[list[object]](), pairs_of(facts.complete)
    for record in [*complete[:_TOP], *(record for record in complete[_TOP:] if record.baseline)]:
        own = {name.removeprefix("method."): value for name, value in shown_params(record.params).items()}
        tried = f"{record.baseline or ''} {flat_text(own, 4) if own else ''}".strip()
        ranked = [record.rank, *map(record.members.get, over)] if over else []
        rows.append([record.number, *record.values, *ranked, record.epochs, record.attributes.get("seconds"), tried])
    return ["trial", *facts.metrics, *(["rank", *over] if over else []), "epochs", "seconds", "configuration"], rows


def front(facts: Facts) -> Rows:
    """List the trials that none beats in all objectives."""
    found = pareto_front(facts.complete, [item["direction"] for item in facts.sweep["objectives"]])
    return [[record.number, *record.values, label_of(record)] for record in found]


def searched(facts: Facts) -> Rows:
    """Give the parameters that were searched."""
    return [[row["name"], row["values"], row["condition"]] for row in json.loads(facts.attributes["space"])["searched"]]


def cost(facts: Facts) -> Rows:
    """Say what was used of the budget."""
    records, attributes, sweep = facts.records, facts.attributes, facts.sweep
    cpus, gpus, budget = sweep["resources"]["cpus_per_trial"], attributes.get("gpus_per_trial"), sweep["budget"]
    gpu_hours = None if gpus is None else device_hours(records, "gpus", gpus)
    return [
        ["trials", sum(record.counts for record in records), budget.get("trials")],
        ["hours of the driver", float(attributes.get("seconds", 0.0)) / 3600, budget.get("hours")],
        ["CPU-hours of training", device_hours(records, "cpus", cpus), None],
        ["GPU-hours of training", gpu_hours, budget.get("gpu_hours")],
        ["epochs trained", sum(max(record.curve, default=0) for record in records), None],
        ["trials started again", sum(max(0, record.attempts - 1) for record in records), None],
    ]


def rungs(audit: PruningAudit) -> Rows:
    """Give how well each rung foretold the end."""
    return [[rung.epoch, rung.concordance, rung.pairs] for rung in audit.rungs]


def failures(records: Sequence[TrialRecord]) -> Rows:
    """Group what went wrong by its reason."""
    groups: dict[tuple[str, str], list[int]] = defaultdict(list)
    for record in records:
        kind = str(record.attributes.get("exit_reason", record.state))
        if record.state == "failed" or kind == "diverged":
            groups[kind, record.reason].append(record.number)
    ordered = sorted(groups.items(), key=lambda item: -len(item[1]))
    return [
        [why, kind, len(own), ", ".join(map(str, own[:_LISTED])) + ("…" if len(own) > _LISTED else "")]
        for (kind, why), own in ordered
    ]


def provenance(facts: Facts) -> Rows:
    """Say what made these numbers."""
    attributes, seed = facts.attributes, facts.sweep.get("seed", 0)
    images, _, split = str(attributes.get("data_digest", "")).partition(":")
    rows: Rows = [
        ["created", attributes.get("created")],
        ["sweep digest", attributes.get("digest")],
        ["unique id", attributes.get("uid")],
        ["images digest", images],
        ["split digest", split],
        *[[f"teacher {json.loads(name)['arch']}", digest] for name, digest in attributes.get("teachers", {}).items()],
        ["seed of the sampler", str(facts.sweep["sampler"]["seed"])],
        ["seed of the trials", "searched" if is_range(seed) else str(seed)],
        *[[name, version] for name, version in attributes.get("versions", {}).items()],
        ["report made by", f"icd {__version__}"],
    ]
    return [row for row in rows if row[1] not in (None, "")]
