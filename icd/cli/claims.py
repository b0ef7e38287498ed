"""``icd confirm | ablate | benchmark``: what fresh seeds say of a search; each goes on where it was left."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from icd.cli.format import columns, write_json, write_lines
from icd.cli.options import (
    CACHE,
    DETACH,
    DRIVER,
    DRY_RUN,
    FILE,
    JSON,
    NAME,
    SEEDS,
    SET,
    SUBMIT,
    WHERE,
    Verb,
    together,
)
from icd.errors import StateError, TrialsFailedError

if TYPE_CHECKING:
    from icd.results.confirmation import Arm, ArmOnPair, Confirmation, Versus, VersusOnPair
    from icd.results.explained import Explanation
    from icd.results.importance import Importance

_ANEW = click.option("--anew", is_flag=True, help="Begin another round, on seeds of its own.")
_DRIVE = together(SET, DRIVER, CACHE, JSON, WHERE, SUBMIT, DETACH)


def _labels(ctx: click.Context, param: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...]:
    if any("," in label for label in value):
        raise click.UsageError(f"--against takes one label; repeat it for several, but got {', '.join(value)!r}", ctx)
    return value


def _against(words: str) -> Any:
    return click.option("--against", multiple=True, metavar="LABEL", callback=_labels, help=f"{words}  [repeatable]")


def _alpha(default: float | None, words: str) -> Any:
    alpha = click.FloatRange(0, 0.5, min_open=True)
    return click.option("--alpha", type=alpha, default=default, help=f"{words}  [default: 0.05]")


@click.command(cls=Verb)
@NAME
@click.option("--top", type=click.IntRange(min=1), help="Take so many of the best complete trials.  [default: 3]")
@SEEDS
@_against("Compare with this row of the paper, label of the sweep, or 'trial N'.")
@click.option(
    "--train-on",
    type=click.Choice(["train", "train+val"]),
    help="Train on these images; the test images measure the last epoch.  [default: train+val]",
)
@_alpha(None, "Allow this chance of any false difference from one baseline.")
@click.option("--all-seeds", is_flag=True, help="Run every seed, also where everything is decided.")
@_ANEW
@DRY_RUN
@_DRIVE
def confirm(name: str, all_seeds: bool, dry_run: bool, as_json: bool, **options: Any) -> None:
    """Retrain the best trials of sweep NAME and baselines on fresh seeds, and compare them on the test images.

    The same command goes on where it was left. Every look at the test images is counted.
    """
    from icd import results
    from icd.config.sweep import Budget

    if dry_run:
        found = results.read_confirmation(name, root=options["root"])
        if found is None:
            raise StateError(f"nothing was confirmed of {name} yet; leave --dry-run away")
    else:
        from icd.cli.display import driving
        from icd.results.report import write_report

        with driving(options) as shown:
            adaptive = False if all_seeds else None
            found = results.confirm_sweep(name, adaptive=adaptive, report=write_report, **shown)
    if as_json:
        write_json(found.to_data())
    else:
        write_lines(confirmation_lines(found))
    runs = found.faults + sum(len(arm.runs) for arm in found.arms)
    if not dry_run and found.faults > Budget().failed_share * runs:
        raise TrialsFailedError(f"{found.faults} of {runs} runs of the confirmation of {name!r} failed; see the table")


@click.command(cls=Verb)
@NAME
@click.option("--trial", type=click.IntRange(min=0), help="Take this trial.  [default: the confirmed winner, or best]")
@SEEDS
@_ANEW
@DRY_RUN
@_DRIVE
def ablate(name: str, dry_run: bool, as_json: bool, **options: Any) -> None:
    """Say what each part of the best configuration of sweep NAME is worth, by leaving it out on paired fresh seeds.

    Arms are measured on validation images; the test set stays closed. The same command goes on where it was left. Below
    it says which parameters decided how good the trials of the search were.
    """
    from icd import results, search
    from icd.results.importance import importance_of
    from icd.search.studies import find

    root = search.root_of(options["root"])
    if dry_run:
        found = results.read_explanation(name, root=root)
        if found is None:
            raise StateError(f"nothing was ablated of {name} yet; leave --dry-run away")
    else:
        from icd.cli.display import driving

        with driving(options) as shown:
            found = results.explain_sweep(name, **shown)
    ledger = find(root, name)
    importance = importance_of(ledger, ledger.records())
    if as_json:
        write_json({**found.to_data(), "importance": importance.to_data()})
    else:
        write_lines([*ablation_lines(found), "", *importance_lines(importance)])


@click.command(cls=Verb)
@FILE
@SEEDS
@_against("Compare with this row.  [default: KD, or the first]")
@_alpha(0.05, "Allow this chance of any false difference.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write OUTPUT.md, .csv and .tex as well.")
@DRY_RUN
@_DRIVE
def benchmark(
    file: Path,
    seeds: int | None,
    against: tuple[str, ...],
    alpha: float,
    output: Path | None,
    dry_run: bool,
    overrides: tuple[str, ...],
    as_json: bool,
    **options: Any,
) -> None:
    """Tune every method that FILE names in space.method with the same budget, and compare them on fresh seeds.

    The same command goes on where it was left.
    """
    from icd.config.yaml import apply_overrides, read_yaml
    from icd.results.table import read_table, with_run_ids
    from icd.results.table_text import FORMATS, markdown
    from icd.results.tournament import entries, run_table
    from icd.search import root_of, settings_of
    from icd.trial.checkpoint import write_durably

    document, root = apply_overrides(read_yaml(file), overrides), root_of(options["root"])
    found = entries(document)
    if not dry_run:
        from icd.cli.display import driving
        from icd.results.report import write_report

        with driving(options) as shown:
            run_table(document, settings_of({**shown, "report": write_report}), seeds=seeds)
    table = read_table(str(document.data["name"]), found, root, seeds=seeds, against=against, alpha=alpha)
    table = with_run_ids(table, root)
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        for ending, write in FORMATS.items():
            write_durably(output.with_name(f"{output.name}.{ending}"), write(table).encode())
    if as_json:
        write_json(table.to_data())
    else:
        click.echo(markdown(table).rstrip())


def confirmation_lines(found: "Confirmation") -> list[str]:
    """Write a confirmation: arms, comparisons, and the finding in words."""
    arms = columns(
        ["arm", "seeds", found.metric, "sd", "best epoch", "search"], list(map(_arm_row, found.arms)), left=["arm"]
    )
    versus = columns(
        [
            "comparison",
            "seeds",
            "difference",
            "interval",
            "p (t)",
            "p (rank)",
            "p (corrected)",
            "verdict",
            "search said",
        ],
        list(map(_versus_row, found.versus)),
        left=["comparison", "verdict"],
    )
    note = ["values and differences above are means over the pairs, seed by seed"] if found.pairs else []
    cost = (
        f"{found.looks} looks at test images, {found.seconds / 3600:.2f} hours of training, on {found.train_on} images"
    )
    first = f"confirmation {found.round} of {found.sweep}"
    return [first, *arms, "", *versus, *note, *_pair_lines(found), "", cost, found.statement]


def _pair_lines(found: "Confirmation") -> list[str]:
    """Write what each of several pairs shows by itself."""
    if not found.pairs:
        return []
    places = {arm.label: arm.mean_rank for arm in found.arms}
    means: list[list[object]] = [
        [arm.label, *(_mean_and_sd(pair.arms[place]) for pair in found.pairs), places[arm.label]]
        for place, arm in enumerate(found.arms)
    ]
    headers = ["arm", *(f"{pair.name} ({pair.looks} looks)" for pair in found.pairs), "mean rank"]
    rows: list[list[object]] = [
        [
            pair.name,
            f"{item.finalist} - {item.baseline}",
            item.seeds,
            f"{item.mean:+.2f}",
            _span(item),
            f"{item.p_t:.2g}",
        ]
        for pair in found.pairs
        for item in pair.versus
    ]
    heads = ["pair", "comparison", "seeds", "difference", "interval", "p (t), not corrected"]
    by_itself = "each pair by itself, corrected for nothing:"
    tables = [*columns(headers, means, left=["arm"]), "", *columns(heads, rows, left=["pair", "comparison"])]
    return ["", by_itself, *tables]


def _mean_and_sd(arm: "ArmOnPair") -> str | None:
    if arm.mean is None:
        return None
    return f"{arm.mean:.2f}" + ("" if arm.sd is None else f" (sd {arm.sd:.2f})")


def _span(item: "Versus | VersusOnPair") -> str:
    return "" if item.low is None or item.high is None else f"{item.low:+.2f} to {item.high:+.2f}"


def _arm_row(arm: "Arm") -> list[object]:
    best = max((run.best_value for run in arm.runs), default=None)
    shown = [None if value is None else f"{value:.2f}" for value in (arm.mean, arm.sd, best, arm.search_value)]
    return [arm.label, len(arm.runs), *shown]


def _versus_row(item: "Versus") -> list[object]:
    said = "" if item.search_said is None else f"{item.search_said:+.2f}"
    p_values = [f"{p:.2g}" for p in (item.p_t, item.p_wilcoxon, item.p_holm)]
    name = f"{item.finalist} - {item.baseline}"
    return [name, len(item.seeds), f"{item.mean:+.2f}", _span(item), *p_values, item.verdict, said]


def ablation_lines(found: "Explanation") -> list[str]:
    """Write an ablation: the parts, the one that matters most first, and the finding in words."""
    ordered = sorted(found.rows, key=lambda row: (row.difference is None, row.difference or 0.0))
    pairs = list(dict.fromkeys(pair for row in ordered for pair in row.pairs))
    rows: list[list[object]] = []
    for row in ordered:
        interval = "" if row.low is None or row.high is None else f"{row.low:+.2f} to {row.high:+.2f}"
        numbers = [None if value is None else f"{value:.2f}" for value in (row.mean, row.difference)]
        p_value = "" if row.p_holm is None else f"{row.p_holm:.2g}"
        each = [f"{row.pairs[pair]:+.2f}" if pair in row.pairs else None for pair in pairs]
        rows.append([row.label, row.parts, row.seeds, *numbers, interval, p_value, row.verdict, *each])
    heads = ["changed", "parts", "seeds", found.metric, "difference", "interval", "p (corrected)", "verdict"]
    heads += [f"on {pair}" for pair in pairs]
    mean = "-" if found.mean is None else f"{found.mean:.2f}"
    spread = "" if found.sd is None else f" (sd {found.sd:.2f})"
    first = f"trial {found.trial} of {found.sweep}: {found.metric} {mean}{spread}, {found.parts} parts"
    note = ["values are means over the pairs; the differences on each pair are corrected for nothing"] if pairs else []
    return [first, *columns(heads, rows, left=["changed", "verdict"]), *note, "", found.statement]


def importance_lines(found: "Importance") -> list[str]:
    """Write which parameters mattered in the search, each among the trials that have it."""
    if not found.groups:
        return [f"importance of parameters: not shown, {found.reason or 'no trial has parameters'}"]
    rows: list[list[object]] = []
    for group in found.groups:
        where = group.condition or "all trials"
        total = sum(row.importance or 0.0 for row in group.parameters) or 1.0
        for row in group.parameters:
            shares = [None if value is None else f"{value / total:.2f}" for value in (row.importance, row.chance)]
            clear = "not judged" if row.importance is None else "yes" if row.is_clear else "no"
            rows.append([row.name, *shares, clear, group.trials, where])
    heads = ["parameter", "share", "by chance", "clear", "trials", "where"]
    first = f"importance of parameters in the search (PED-ANOVA, {found.trials} complete trials)"
    return [first, *columns(heads, rows, left=["parameter", "clear", "where"])]
