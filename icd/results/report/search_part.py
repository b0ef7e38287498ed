"""What was searched and what it took: space, budget, failures, pruning, provenance."""

import json
from collections import defaultdict

import yaml

from icd import __version__
from icd.config.forms import is_range
from icd.results.report.blocks import Block, Code, Section, Table, Text
from icd.results.report.gather import Facts
from icd.results.report.words import flat_text, flattened, plural
from icd.search.core.device_usage import mixed_cost, uses

_LISTED = 12


def searched(facts: Facts) -> Section:
    """Say what was searched and what was fixed."""
    sweep = facts.sweep
    sampler, pruner = sweep["sampler"]["name"], sweep["pruner"]["name"]
    stopping = "No trial is stopped early" if pruner == "none" else f"Poor trials are stopped early ({pruner})"
    goals = " and ".join(f"{item['direction']} {item['metric']}" for item in sweep["objectives"])
    pairs = {pair["name"]: pair for pair in sweep.get("pairs", ())}
    if pairs:
        goals = f"the {sweep['rank']} rank over {len(pairs)} pairs ({goals}), each trained in every trial"
    words = f"Goal: {goals}, after the last epoch. Sampler: {sampler}. {stopping}."
    baselines = ", ".join(
        item if isinstance(item, str) else item["label"] for item in sweep["enqueue"] if "from" not in item
    )
    if baselines:
        words += f" Tried first: {baselines}."
    space = json.loads(facts.attributes["space"])
    fixed = [[path, flat_text(value)] for path, value in flattened(space["fixed"]).items()]
    fixed += [
        [f"pair {name}", f"{flat_text(pair['teacher'])} > {flat_text(pair['student'])}"] for name, pair in pairs.items()
    ]
    rows = [[row["name"], row["values"], row["condition"]] for row in space["searched"]]
    blocks: list[Block] = [
        Text(words),
        Table(caption="Searched", headers=["parameter", "values", "only where"], rows=rows),
        Table(caption="Fixed", headers=["field", "value"], rows=fixed, folded=True),
    ]
    return Section("What was searched", blocks, "half")


def cost(facts: Facts) -> Section:
    """Say what was used of the budget."""
    records, attributes, sweep = facts.records, facts.attributes, facts.sweep
    counts = ", ".join(f"{count} {state}" for state, count in facts.counts.items() if count) or "none yet"
    seconds = sum(float(record.attributes.get("seconds", 0.0)) for record in records)
    cpus, gpus = sweep["resources"]["cpus_per_trial"], attributes.get("gpus_per_trial")
    budget = {"trials": None, "hours": None, "gpu_hours": None, **sweep["budget"]}
    tried = sum(record.counts for record in records)
    gpu_hours = None if gpus is None else float(gpus) * seconds / 3600
    devices = sorted({str(record.attributes["device"]) for record in records if "device" in record.attributes})
    rows: list[list[object]] = [
        ["trials", tried, budget["trials"]],
        ["hours of the driver", float(attributes.get("seconds", 0.0)) / 3600, budget["hours"]],
        ["CPU-hours of training", float(cpus) * seconds / 3600, None],
        ["GPU-hours of training", gpu_hours, budget["gpu_hours"]],
        ["epochs trained", sum(max(record.curve, default=0) for record in records), None],
        ["images the teacher was run on", facts.teacher_images, None],
        ["trials started again", sum(max(0, record.attempts - 1) for record in records), None],
    ]
    words = f"State: {facts.state}. Trials: {counts}."
    if devices:
        words += f" Trained on {'; '.join(devices)}."
    if facts.teacher_images == 0:
        words += " The teacher's answers were read from the cache; it was not run for any trial."
    blocks: list[Block] = [Text(words), Table(caption="Cost", headers=["", "used", "limit"], rows=rows)]
    return Section("Budget and cost", [*blocks, *_devices(facts)], "half")


def _devices(facts: Facts) -> list[Block]:
    """Say what trials took on each type of device, where there are several."""
    found = uses(facts.records)
    if len(found) < 2:
        return []
    warning = mixed_cost(facts.metrics, found)
    rows = [[use.device, use.trials, use.seconds_per_epoch] for use in found]
    table = Table(caption="Devices", headers=["device", "complete trials", "seconds an epoch"], rows=rows)
    return [*([Text(f"Warning: {warning}.")] if warning else []), table]


def pruning(facts: Facts) -> Section | None:
    """Say what pruning did, with the counts behind every rate."""
    audit = facts.audit
    if audit is None:
        return None
    words = (
        f"{plural(audit.pruned, 'trial')} stopped early, {audit.epochs_saved} epochs saved ({audit.saved_share:.0%})."
    )
    if audit.false_kill_rate is None:
        words += f" Of {audit.controls} trials that could not be stopped, the pruner would have stopped none."
    else:
        words += (
            f" Of {audit.controls} trials that could not be stopped, the pruner would have stopped {audit.would_stop}; "
            f"{audit.good_ones} of these ended in the best quarter (false-kill rate {audit.false_kill_rate:.0%})."
        )
    rows: list[list[object]] = [[rung.epoch, rung.correlation, rung.trials] for rung in audit.rungs]
    caption = "Rank correlation with the last value"
    table = Table(caption=caption, headers=["epoch", "Spearman", "trials"], rows=rows)
    note = (
        "Only trials that ran all epochs are counted. They lie closer together than all trials would, so "
        "the correlations are too low: an epoch says more about the last one than they show."
    )
    return Section("Rung audit", [Text(words), table, Text(note, "note")], "half")


def failures(facts: Facts) -> Section | None:
    """Group what went wrong by its reason."""
    groups: dict[tuple[str, str], list[int]] = defaultdict(list)
    for record in facts.records:
        kind = str(record.attributes.get("exit_reason", record.state))
        if record.state == "failed" or kind == "diverged":
            groups[kind, record.reason].append(record.number)
    if not groups:
        return None
    rows: list[list[object]] = []
    for (kind, reason), numbers in sorted(groups.items(), key=lambda item: -len(item[1])):
        listed = ", ".join(map(str, numbers[:_LISTED])) + ("…" if len(numbers) > _LISTED else "")
        rows.append([reason, kind, len(numbers), listed])
    table = Table(caption="Failures by reason", headers=["reason", "kind", "trials", "numbers"], rows=rows)
    return Section("Failures", [table], "half")


def provenance(facts: Facts) -> Section:
    """Say what made these numbers and how to make them again."""
    attributes = facts.attributes
    versions = attributes.get("versions", {})
    images, _, split = str(attributes.get("data_digest", "")).partition(":")
    rows: list[list[object]] = [
        ["created", attributes.get("created")],
        ["sweep digest", attributes.get("digest")],
        ["unique id", attributes.get("uid")],
        ["images digest", images],
        ["split digest", split],
        *[[f"teacher {_short(name)}", digest] for name, digest in attributes.get("teachers", {}).items()],
        ["seed of the sampler", str(facts.sweep["sampler"]["seed"])],
        [
            "seed of the trials",
            "searched" if is_range(facts.sweep.get("seed")) else str(facts.sweep.get("seed", 0)),
        ],
        *[[name, version] for name, version in versions.items()],
        ["report made by", f"icd {__version__}"],
    ]
    text = yaml.safe_dump(dict(facts.document), sort_keys=False, allow_unicode=True)
    confirmed = facts.confirmation is not None and facts.confirmation.finished
    searched_only = "" if confirmed else " --unconfirmed"
    export = f"icd export {facts.name} -o best.yaml{searched_only}{facts.root_option}"
    again = f"icd sweep {facts.name}.yaml{facts.root_option}\n{export}\nicd train best.yaml"
    blocks: list[Block] = [
        Table(
            caption="Versions and digests",
            headers=["what", "value"],
            rows=[r for r in rows if r[1] not in (None, "")],
            folded=True,
        ),
        Code(caption="To do it again", text=again),
        Code(caption=f"{facts.name}.yaml", text=text, folded=True),
    ]
    return Section("Provenance", blocks, "half")


def _short(teacher: str) -> str:
    """Name a teacher by its network; its key is its whole document as JSON."""
    try:
        document = yaml.safe_load(teacher)
    except yaml.YAMLError:
        return teacher[:40]
    return str(document.get("arch", teacher[:40])) if isinstance(document, dict) else teacher[:40]
