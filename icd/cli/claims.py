"""``icd confirm | ablate | benchmark``: what fresh seeds say of a search; each goes on where it was left."""

from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from icd.cli.format import write
from icd.cli.options import DRIVE, DRY_RUN, FILE, NAME, OUTPUT, SEEDS, F, Verb, together
from icd.errors import SetupError, StateError, TrialsFailedError
from icd.text import plural

if TYPE_CHECKING:
    from icd.results.outcome import FailedRuns, Outcome
    from icd.search.core.records import Stage

_ANEW = together(
    click.option(
        "--anew",
        is_flag=True,
        help="Begin another round, on seeds of its own; to continue it later, repeat the command without this option.",
    ),
    click.option(
        "--keep-seeds",
        is_flag=True,
        help="Begin another round on the seeds of the last, with its runs; to continue it, repeat without this option.",
    ),
)
_FAILED_RUNS = click.option(
    "--failed-runs",
    type=click.Choice(["left-out", "chance-level"]),
    help="Leave a run that diverged out, or count it as chance level.  [default: left-out]",
)


def _against(words: str) -> Callable[[F], F]:
    return click.option("--against", multiple=True, metavar="LABEL", help=f"{words}  [repeatable]")


def _alpha(default: float | None, words: str) -> Callable[[F], F]:
    alpha = click.FloatRange(0, 0.5, min_open=True)
    return click.option("--alpha", type=alpha, default=default, help=f"{words}  [default: 0.05]")


def _claim(stage: "Stage", name: str, options: dict[str, Any], *, dry_run: bool, as_json: bool) -> None:
    """Run what is missing of a confirmation or an ablation, and say what fresh seeds show.

    A dry run says how it stands; where nothing was begun, or another round is asked for, what that would train.
    """
    from icd import results
    from icd.results.importance import importance_of
    from icd.results.tables import importance_lines, outcome_lines
    from icd.search.study.sweep_index import find

    another = [key for key in ("anew", "keep_seeds") if options[key]]
    found = results.read(name, stage, root=options["root"]) if dry_run and not another else None
    if dry_run and found is None:
        _foreseen(stage, name, options, as_json=as_json)
        return
    if found is None:
        from icd.cli.progress import driving
        from icd.cli.signals import stopping_politely
        from icd.results.report import write_report

        without = "".join(f" without --{key.replace('_', '-')}" for key in another)
        raced = " (with it, while the race is not over)" if another and options.get("race") else ""
        run = results.confirm_sweep if stage == "confirm" else results.ablate_sweep
        with driving(options) as shown, stopping_politely(f"the same command{without}{raced}"):
            found = run(name, report=write_report, **shown)
    told, lines = asdict(found), outcome_lines(found)
    if stage == "ablate":
        ledger = find(options["root"], name)
        told["importance"] = importance_of(ledger, ledger.records())
        lines += ["", *importance_lines(told["importance"])]
    write(told, lines, as_json=as_json)
    if not dry_run:
        _refuse_end(found, "confirmation" if stage == "confirm" else "ablation", options["root"])


def _refuse_end(found: "Outcome", words: str, root: Path) -> None:
    """Refuse an end with too many failures, and one that ``icd stop`` has brought about."""
    from icd.config.sweep import Budget
    from icd.search.study.sweep_index import pasted

    runs = sum(len(arm.runs) + len(arm.failures) for arm in found.arms)
    if found.faults > Budget().max_failed_fraction * runs:
        why = pasted(root, "trials", found.sweep, "--stage", found.stage, "--state", "failed")
        raise TrialsFailedError(
            f"{found.faults} of {runs} runs of the {words} of {found.sweep!r} failed; see the table and '{why}'"
        )
    if not found.finished:
        raise StateError(
            f"the {words} of {found.sweep!r} was stopped; the same command, without --anew and --keep-seeds, goes on"
        )


def _foreseen(stage: "Stage", name: str, options: dict[str, Any], *, as_json: bool) -> None:
    """Say what a first run, or that of another round, would train."""
    from icd.results.run_plan import planned

    plan = planned(stage, name, options["root"], options)
    labels, configs = [arm.label for arm in plan.arms], plan.configs
    epochs = sorted({config.training.epochs for config in configs})
    left, had = len(configs) - len(plan.reused) * len(plan.members), len(plan.reused)
    told = {
        "configurations": labels,
        "seeds": len(plan.seeds),
        "trainings": left,
        "reused": had,
        "train_on": plan.train_on,
    }
    most = "at most " if plan.adaptive and plan.first < len(plan.seeds) else ""
    counted = f"{len(labels)} configurations on {len(plan.seeds)} seeds: {most}{left} trainings"
    shown = f"{epochs[0]} to {epochs[-1]}" if len(epochs) > 1 else str(epochs[0])
    raced = [f"before that, the best {options['race']} trials get 2 further seeds each"] if options.get("race") else []
    raced += [f"taken over from earlier rounds: {plural(had, 'run')}"] if had else []
    lines = [f"{counted} of {shown} epochs, on {plan.train_on}", *raced, *(f"  {label}" for label in labels)]
    write({"planned": {**told, "epochs": epochs, "adaptive": plan.adaptive}}, lines, as_json=as_json)


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
@_alpha(None, "Allow this chance of any false difference in the confirmation.")
@click.option(
    "--race", type=click.IntRange(min=2), help="Give this many of the best trials 2 further seeds first (validation)."
)
@click.option("--all-seeds", is_flag=True, help="Run every seed, also where the rest would hardly show anything.")
@_FAILED_RUNS
@_ANEW
@DRY_RUN
@DRIVE
def confirm(name: str, all_seeds: bool, dry_run: bool, as_json: bool, **options: Any) -> None:
    """Retrain the best trials of sweep NAME and baselines on fresh seeds, and compare them on the test images.

    The same command goes on where it was left, without --anew and --keep-seeds. Every evaluation on test images is
    counted.
    """
    options["adaptive"] = False if all_seeds else None
    _claim("confirm", name, options, dry_run=dry_run, as_json=as_json)


@click.command(cls=Verb)
@NAME
@click.option("--trial", type=click.IntRange(min=0), help="Take this trial.  [default: the confirmed winner, or best]")
@SEEDS
@_FAILED_RUNS
@_ANEW
@DRY_RUN
@DRIVE
def ablate(name: str, dry_run: bool, as_json: bool, **options: Any) -> None:
    """Say what each part of the best configuration of sweep NAME is worth, by leaving it out on shared fresh seeds.

    Arms are measured on validation images; the test set stays closed. The same command goes on where it was left,
    without --anew and --keep-seeds. Below it says which parameters decided how good the trials of the search were.
    """
    _claim("ablate", name, options, dry_run=dry_run, as_json=as_json)


@click.command(cls=Verb)
@FILE
@SEEDS
@_against("Compare with this row.  [default: KD, or the first]")
@_alpha(None, "Allow this chance of any false difference.")
@click.option(
    "--judge-again",
    is_flag=True,
    help="Judge known runs by other rows, --against or --alpha; the table says so.",
)
@click.option("-o", "--output", type=OUTPUT, help="Write OUTPUT.md, .csv and .tex as well.")
@_FAILED_RUNS
@DRY_RUN
@DRIVE
def benchmark(
    file: Path,
    seeds: int | None,
    against: tuple[str, ...],
    alpha: float | None,
    judge_again: bool,
    output: Path | None,
    failed_runs: "FailedRuns | None",
    dry_run: bool,
    overrides: tuple[str, ...],
    as_json: bool,
    **options: Any,
) -> None:
    """Tune every method that FILE names under method.choices with the same budget, and compare them on fresh seeds.

    The same command goes on where it was left.
    """
    from icd.config.yaml import read_yaml
    from icd.results.benchmark import entries, run_benchmark
    from icd.results.benchmark_table import FORMATS, read_benchmark, written
    from icd.search import settings_of
    from icd.storage.durable import write_durably

    document, root = read_yaml(file, overrides), options["root"]
    found, failed = entries(document), list[str]()
    if output is not None:
        try:
            output.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SetupError(f"{output} cannot be written: {error.strerror}; choose another --output") from error
    judged: Any = {"against": against, "alpha": alpha, "again": judge_again}
    look = partial(read_benchmark, str(document.data["name"]), found, root, seeds=seeds, **judged)
    table = look()  # refuses, before anything is run, what could not be shown after it
    if not dry_run:
        from icd.cli.progress import driving
        from icd.results.report import write_report

        with document.located(), driving(options) as shown:
            settings: Any = {**shown, "report": write_report}
            more: Any = {"failed_runs": failed_runs or "left-out", "judging": table.judging}
            failed = run_benchmark(document, settings_of(settings), seeds=seeds, **more)
        table = look()
    if dry_run and not any(cell.trials for cell in table.cells):
        raise StateError(f"nothing was tuned of {table.name} yet; leave --dry-run away")
    if output is not None:
        for ending in FORMATS:
            write_durably(output.with_name(f"{output.name}.{ending}"), written(table, ending).encode())
    write(table, [written(table, "md").rstrip()], as_json=as_json)
    if failed:
        why = "the messages above and 'icd trials NAME --state failed', of runs with '--stage confirm', say why"
        raise TrialsFailedError(f"too many trials or runs failed of {', '.join(failed)}; {why}")
