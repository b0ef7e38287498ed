"""Confirmations built by hand."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from icd.results.confirmation import Arm, Confirmation, Run, Versus


def run(trial: int, seed: int, value: float) -> Run:
    return Run(trial=trial, seed=seed, value=value, best_value=value + 1, best_epoch=3, looks=4, seconds=9.0)


def arm(label: str, trial: int | None, runs: Sequence[Run]) -> Arm:
    values = [item.value for item in runs]
    return Arm(
        label=label,
        kind="baseline" if trial is None else "finalist",
        trial=trial,
        search_value=61.5,
        config={},
        runs=tuple(runs),
        mean=sum(values) / len(values) if values else None,
        sd=0.25 if len(values) > 1 else None,
    )


def confirmation(**changes: Any) -> Confirmation:
    """Trial 12 wins with two seeds, trial 3 has one, KD is the baseline; the best run is not of the lowest seed."""
    versus = Versus(
        finalist="trial 12",
        baseline="KD",
        seeds=(101, 102),
        differences=(0.5, 1.0),
        mean=0.75,
        low=0.125,
        high=1.375,
        level=0.95,
        p_t=0.02,
        p_wilcoxon=0.5,
        p=0.25,
        p_holm=0.04,
        verdict="better",
        search_said=1.5,
        shrinkage=0.75,
    )
    arms = (
        arm("trial 12", 12, [run(41, 102, 63.0), run(40, 101, 60.5)]),
        arm("trial 3", 3, [run(42, 101, 60.0)]),
        arm("KD", None, [run(43, 101, 60.0), run(44, 102, 62.0)]),
    )
    whole = Confirmation(
        sweep="by-hand",
        metric="test/top1",
        train_on="train+val",
        planned_seeds=2,
        round=1,
        arms=arms,
        versus=(versus, replace(versus, finalist="trial 3", mean=-0.5)),
        looks=20,
        seconds=45.0,
        finished=True,
        winner="trial 12",
        statement="trial 12 is better than KD by 0.75 points.",
    )
    return replace(whole, **changes)
