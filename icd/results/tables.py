"""What sweeps and outcomes show as tables, for a terminal and for a page: the headers, then the rows."""

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from icd.config.names import shown_params
from icd.results.importance import Importance, Parameter
from icd.results.outcome import Outcome
from icd.results.words import flat_text, label_of, p_text, signed
from icd.search.core.records import TrialRecord, pareto_front
from icd.search.sweep_status import pairs_of
from icd.text import columns, plural

if TYPE_CHECKING:
    from icd.results.report.gather import Facts

Rows = list[list[object]]
_TOP = 5  # best trials
_LISTED = 12  # numbers of trials


class Table(NamedTuple):
    """Headers, and rows of as many cells; numbers that have a fixed count of decimals are text."""

    headers: list[str]
    rows: Rows

    def lines(self, *left: str) -> list[str]:
        """Lay it out for a terminal; columns with these headers stand to the left."""
        return columns(self.headers, self.rows, left=left)


def arms(found: Outcome) -> Table:
    """Give what each arm reached, on each of several teacher-student pairs too."""
    ablates = found.stage == "ablate"
    ranks = ["mean rank", "worst rank"] if found.pairs else []
    heads = ["configuration", "mean ± sd", "seeds", "parts" if ablates else "search (val)", *found.pairs, *ranks]
    rows: Rows = [
        [
            arm.label,
            f"{_plain(arm.mean)}{'' if arm.sd is None else f' ± {arm.sd:.2f}'}",
            arm.n,
            arm.parts if ablates else _plain(arm.search_value),
            *(_plain(arm.on_pairs.get(name)) for name in found.pairs),
            *([arm.mean_rank, arm.worst_rank] if ranks else []),
        ]
        for arm in found.arms
    ]
    return Table(heads, rows)


def differences(found: Outcome, *, has_p: bool = False) -> Table:
    """Give each comparison's difference, interval, verdict and seeds; a phone has no room for p."""
    rows: Rows = []
    for item in found.ordered:
        p = ["" if item.p is None else p_text(item.p, found.alpha)] if has_p else []
        name = f"{item.arm} against {item.against}"
        rows.append([name, signed(item.difference), item.interval, *p, item.verdict, item.seeds])
    heads = ["configuration", "difference", "interval", *(["p"] if has_p else []), "verdict", "seeds"]
    return Table(heads, rows)


def on_pairs(found: Outcome) -> Table:
    """Give each comparison's difference on each of several pairs, and how alike it is over them."""
    rows: Rows = []
    for item in found.ordered:
        alike = item.over_pairs
        same = None if alike is None or alike.interaction is None else f"{alike.interaction:.2g}"
        each = [signed(item.on_pairs.get(name)) for name in found.pairs]
        rows.append([f"{item.arm} against {item.against}", *each, alike.chance if alike else "", same])
    return Table(["configuration", *found.pairs, "chance to be better", "same on all (p)"], rows)


def outcome_lines(found: Outcome) -> list[str]:
    """Write a confirmation or an ablation for a terminal: arms, comparisons, cost, and the finding in words."""
    first = f"confirmation {found.round} of {found.sweep}, {found.metric}"
    if found.stage == "ablate":
        first = f"trial {found.trial} of {found.sweep}, {found.metric}, {found.whole.parts} parts"
    note = "the numbers below a pair have no verdict; the others are means over the pairs"
    pairs = [note, *on_pairs(found).lines("configuration"), ""] if found.pairs else []
    hours = f"{found.seconds / 3600:.2f} hours of training"
    cost = f"{plural(found.test_evaluations, 'test evaluation')}, {hours}, on {found.train_on} images"
    tables = [
        *arms(found).lines("configuration"),
        "",
        *differences(found, has_p=True).lines("configuration", "verdict"),
        "",
    ]
    return [first, *tables, *pairs, cost, found.statement]


def importance(parameters: Sequence[Parameter]) -> Table:
    """Give how clear each parameter is, each among the trials that have it."""
    rows: Rows = []
    for row in parameters:
        share, p = (None if row.share is None else f"{row.share:.0%}", None if row.p is None else f"{row.p:.2g}")
        clear = "not judged" if row.p is None else "yes" if row.passes else "no"
        rows.append([row.name, share, p, clear, row.trials])
    return Table(["parameter", "share", "p", "clear", "trials"], rows)


def importance_lines(found: Importance) -> list[str]:
    """Write which parameters mattered in the search for a terminal."""
    if found.reason:
        return [f"importance of parameters: not judged, {found.reason}"]
    first = f"importance of parameters in the search (share of the ranks of {found.trials} complete trials)"
    return [first, *importance(found.parameters).lines("parameter", "clear")]


def _plain(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def best_trials(facts: "Facts") -> Table:
    """List the best trials and the baselines, below their headers."""
    complete, rows, over = facts.complete, list[list[object]](), pairs_of(facts.complete)
    for record in [*complete[:_TOP], *(record for record in complete[_TOP:] if record.baseline)]:
        own = {name.removeprefix("method."): value for name, value in shown_params(record.params).items()}
        tried = f"{record.baseline or ''} {flat_text(own, 4) if own else ''}".strip()
        ranked = [record.rank, *map(record.members.get, over)] if over else []
        rows.append([record.number, *record.values, *ranked, record.epochs, record.attributes.get("seconds"), tried])
    ranks = ["rank", *over] if over else []
    return Table(["trial", *facts.metrics, *ranks, "epochs", "seconds", "configuration"], rows)


def front(facts: "Facts") -> Rows:
    """List the trials that none beats in all objectives."""
    found = pareto_front(facts.complete, [item["direction"] for item in facts.sweep["objectives"]])
    return [[record.number, *record.values, label_of(record)] for record in found]


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
