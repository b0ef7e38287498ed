"""``icd confirm``."""

import sys
from typing import Any

import click

from icd import results
from icd.cli.live import LiveDisplay
from icd.cli.main import write_json
from icd.cli.options import place_options, places, table_options
from icd.cli.show import JSON, NAME, SET, columns
from icd.cli.stopping import stop_requested, stopping_politely
from icd.cli.submit import remote_options
from icd.cli.sweep import executor_options
from icd.config.sweep import Budget
from icd.errors import TrialsFailedError
from icd.results.confirmation import Arm, ArmOnPair, Confirmation, Versus, VersusOnPair
from icd.results.report import write_report


@click.command()
@NAME
@click.option("--top", type=click.IntRange(min=1), help="Finalists: the best complete trials [3].")
@click.option("--seeds", type=click.IntRange(min=2, max=100), help="Fresh seeds at most, shared by all [5].")
@click.option("--against", help="Baselines, with commas: rows of the paper, the sweep's own labels, or 'trial N'.")
@click.option(
    "--train-on",
    type=click.Choice(["train", "train+val"]),
    help="Images to train on [train+val]. The last epoch is measured on the test images.",
)
@click.option(
    "--alpha",
    type=click.FloatRange(0, 0.5, min_open=True),
    help="Chance of any false difference from one baseline [0.05].",
)
@click.option("--all-seeds", is_flag=True, help="Run every seed, also where everything is decided.")
@click.option("--anew", is_flag=True, help="Begin another confirmation, on seeds of its own.")
@click.option("--show", is_flag=True, help="Print what is known and run nothing.")
@SET
@executor_options
@table_options
@JSON
@place_options
@remote_options
def confirm(name: str, against: str | None, all_seeds: bool, show: bool, as_json: bool, **options: Any) -> None:
    """Retrain the best trials of sweep NAME and baselines on fresh seeds, and compare them on the test images.

    The same command goes on where it was left. Only here the test set is opened; every look is counted.
    """
    where = places(options.pop("root"), options.pop("data_root"), download=options["download"])
    if show:
        found = results.read_confirmation(name, root=where.root)
        if found is None:
            raise click.UsageError(f"nothing was confirmed of {name} yet; leave --show away")
    else:
        with stopping_politely(), LiveDisplay(sys.stderr) as display:
            found = results.confirm_sweep(
                name,
                against=[label.strip() for label in against.split(",")] if against else (),
                adaptive=False if all_seeds else None,
                root=where.root,
                data_root=where.data_root,
                announce=display.announce,
                watch=display.watch,
                stop=stop_requested,
                report=write_report,
                **options,
            )
    if as_json:
        write_json(found.to_data())
    else:
        click.echo("\n".join(confirmation_lines(found)))
    runs = found.faults + sum(len(arm.runs) for arm in found.arms)
    if not show and found.faults > Budget().max_failed_fraction * runs:
        raise TrialsFailedError(f"{found.faults} of {runs} runs of the confirmation of {name!r} failed; see the table")


def confirmation_lines(found: Confirmation) -> list[str]:
    """Write a confirmation: arms, comparisons, and the finding in words."""
    arms = columns(["arm", "seeds", found.metric, "sd", "search"], list(map(_arm_row, found.arms)), left=["arm"])
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


def _pair_lines(found: Confirmation) -> list[str]:
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


def _mean_and_sd(arm: ArmOnPair) -> str | None:
    if arm.mean is None:
        return None
    return f"{arm.mean:.2f}" + ("" if arm.sd is None else f" (sd {arm.sd:.2f})")


def _span(item: Versus | VersusOnPair) -> str:
    return "" if item.low is None or item.high is None else f"{item.low:+.2f} to {item.high:+.2f}"


def _arm_row(arm: Arm) -> list[object]:
    shown = [None if value is None else f"{value:.2f}" for value in (arm.mean, arm.sd, arm.search_value)]
    return [arm.label, len(arm.runs), *shown]


def _versus_row(item: Versus) -> list[object]:
    said = "" if item.search_said is None else f"{item.search_said:+.2f}"
    p_values = [f"{p:.2g}" for p in (item.p_t, item.p_wilcoxon, item.p_holm)]
    name = f"{item.finalist} - {item.baseline}"
    return [name, len(item.seeds), f"{item.mean:+.2f}", _span(item), *p_values, item.verdict, said]
