"""Tables and lines that verbs print; what they show is imported for types only, so that help answers at once."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from icd.config.names import shown_params, tails
from icd.text import cell_text, columns, plural

if TYPE_CHECKING:
    from icd.results.pruning import PruningAudit
    from icd.search.core.records import TrialRecord
    from icd.search.foresight import RungConcordance
    from icd.search.sweep_status import SweepStatus

_KNOWN = ("control", "attempts", "started", "ended", "twin", "rank", "key")
_TOP = 5
_WIDEST = 110


def write(told: object, lines: Sequence[str], *, as_json: bool) -> None:
    """Print a value for programs, or the lines that say the same to people."""
    if as_json:
        click.echo(json.dumps(told, indent=1, default=_plain))
    elif lines:
        click.echo("\n".join(lines))


def _plain(item: object) -> object:
    return asdict(item) if is_dataclass(item) and not isinstance(item, type) else str(item)


def configuration(record: "TrialRecord", *, known: Sequence[str] = (), widest: int = _WIDEST) -> str:
    """Write what a trial tried in one line: its label if it was enqueued, and its parameters."""
    params = params_text(shown_params(record.params), known)
    text = f"{record.baseline or record.start or ''}  {params}".strip()
    return text if len(text) <= widest else f"{text[: widest - 3]}..."


def params_text(params: Mapping[str, Any], known: Sequence[str] = ()) -> str:
    """Write parameters in one line, each with the shortest tail of its path that no other known one has."""
    short = tails([*params, *known])
    return "  ".join(f"{short[name]}={cell_text(value)}" for name, value in params.items())


def trial_lines(records: "Sequence[TrialRecord]", metrics: Sequence[str], *, whole: bool = False) -> list[str]:
    """Write trials as a table; ``whole`` with the state of each, its last value and the reason of its end."""
    from icd.search.sweep_status import pairs_of

    pairs, rows = pairs_of(records), list[list[object]]()
    known = list(dict.fromkeys(name for record in records for name in record.params))
    for record in records:
        values = [*record.values, *[None] * len(metrics)][: len(metrics)]
        ranked = [record.rank, *map(record.members.get, pairs)] if pairs else []
        state, last, reason = ([record.state], [record.last], [record.reason]) if whole else ([], [], [])
        end = [record.epochs, record.attributes.get("seconds"), configuration(record, known=known)]
        rows.append([record.number, *state, *values, *ranked, *last, *end, *reason])
    named = [*metrics, *(["rank", *pairs] if pairs else [])]
    headers = ["trial", *(["state", *named, "last"] if whole else named), "epochs", "seconds", "configuration"]
    return columns([*headers, "reason"] if whole else headers, rows, left=["state", "configuration", "reason"])


def status_lines(status: "SweepStatus", records: "Sequence[TrialRecord]") -> list[str]:
    """Write how a sweep stands: state, counts, budget, best trials or Pareto front, baselines."""
    from icd.search.core.records import chosen, pareto_front

    lines = [f"sweep {status.name}: {state_text(status)}"]
    if status.state == "preparing":
        return lines
    lines += [
        f"trials: {count_text(status.counts)}",
        f"budget: {budget_text(status)}",
    ]
    if (gain := status.expected_gain) is not None:
        expected = f"is expected to be about {gain.mean:.2g} better (0 to {gain.high:.2g}), in part by luck"
        lines.append(f"{gain.trials} more trials: the best {status.metrics[0]} of one seed {expected}")
    if status.requests:
        lines.append(f"asked for: {status.requests} more by 'icd try', as soon as the sweep is driven and has room")
    lines += [f"quarantined: {text}" for text in status.quarantined]
    if len(status.devices) > 1:
        shares = [f"{use.trials} on {use.device} ({use.seconds_per_epoch:.3g} s an epoch)" for use in status.devices]
        lines.append(f"devices: {', '.join(shares)}")
    lines += [f"WARNING: {text}" for text in status.warnings]
    maximize = status.directions[0] == "maximize"
    several = len(status.metrics) > 1
    shown = pareto_front(records, status.directions) if several else chosen(records, top=_TOP, maximize=maximize)
    if not shown:
        return [*lines, "no trial has run all its epochs yet"]
    title = "trials that no other beats in " if several else "best by "
    by = ", ".join(status.metrics)
    if status.ranked:
        by = f"{status.ranked} rank over the pairs (1 is best; {by} is the mean of the pairs, one seed)"
    lines += ["", f"{title}{by}:", *trial_lines(shown, status.metrics)]
    baselines = [r for r in records if r.baseline and r.state == "complete"]
    if baselines:
        lines += ["", "baselines:", *trial_lines(baselines, status.metrics)]
    return lines


def trial_text(row: Mapping[str, Any], record: "TrialRecord", folder: Path) -> list[str]:
    """Write everything that is known of a trial, one thing a line."""
    values = "  ".join(f"{name} {cell_text(value)}" for name, value in row["values"].items())
    who = record.baseline or record.start or ""
    lines = [f"trial {record.number}: {record.state}{f', {values}' if values else ''}{f' ({who})' if who else ''}"]
    lines += [f"  {record.reason}"] if record.reason else []
    lines += ["", "parameters:", *(f"  {name}: {cell_text(value)}" for name, value in row["params"].items())]
    curve = "  ".join(f"{epoch}: {cell_text(value)}" for epoch, value in record.curve.items() if epoch)
    lines += ["", f"curve: {curve or '-'}"]
    known = {**{name: row[name] for name in _KNOWN if row.get(name) not in (None, "")}, **record.attributes}
    plain = {name: value for name, value in known.items() if name not in ("dead_terms", "members")}
    lines += [f"{name}: {cell_text(value)}" for name, value in plain.items()]
    lines += [f"{name}: {cell_text(value)}" for name, value in record.members.items()]
    lines += [term["sentence"] for term in row["dead_terms"]]
    return [*lines, f"folder: {folder}"]


def state_text(status: "SweepStatus") -> str:
    """Say in words how a sweep stands and what can be done."""
    if status.state == "preparing":
        return f"preparing, driven by {status.driver}"
    if status.state == "driven":
        return f"driven by {status.driver}"
    if status.state == "finished":
        return f"finished (stopped_by: {status.stopped_by})"
    why = f"stopped_by: {status.stopped_by}" if status.stopped_by else "its driver ended without saying why"
    from icd.search.study.sweep_index import pasted

    again = pasted(status.folder.parents[1], "resume", status.name)
    return f"stopped ({why}); continue with '{again}'"


def count_text(counts: Mapping[str, int]) -> str:
    """Write counts in words, zeros left out."""
    return ", ".join(f"{count} {state}" for state, count in counts.items() if count) or "none"


def budget_text(status: "SweepStatus") -> str:
    """Write what is used of each limit."""
    parts = []
    for name, limit in status.budget.items():
        used = status.used.get(name)
        if used is None or (limit is None and name == "gpu_hours" and not used):
            continue
        shown = f"{used:.0f}" if name == "trials" else f"{used:.2f}"
        parts.append(f"{shown}{f' of {limit:g}' if limit is not None else ''} {name.replace('_', '-')}")
    return ", ".join(parts)


def audit_lines(audit: "PruningAudit") -> list[str]:
    """Write what pruning did, with the counts behind every rate."""
    stopped, saved = f"{plural(audit.pruned, 'trial')} stopped", plural(audit.epochs_saved, "epoch")
    lines = ["", f"pruning: {stopped}, {saved} saved ({audit.saved_share:.0%})"]
    lines += [f"  {concordance_text(rung)}" for rung in audit.rungs]
    if audit.false_kill_rate is None:
        lines.append(f"  of {audit.controls} trials that could not be stopped, the pruner would have stopped none")
    else:
        lines.append(
            f"  of {audit.controls} trials that could not be stopped, the pruner would have stopped "
            f"{audit.would_stop}; {audit.good_ones} of these ended in the best quarter "
            f"(false-kill rate {audit.false_kill_rate:.0%})"
        )
    return lines


def concordance_text(rung: "RungConcordance") -> str:
    """Say how well an epoch foretells the order of the last one."""
    if rung.concordance is None:
        return f"epoch {rung.epoch}: no pair of trials to judge it by"
    return f"epoch {rung.epoch} orders {rung.concordance:.0%} of {rung.pairs} pairs of trials as the last one does"
