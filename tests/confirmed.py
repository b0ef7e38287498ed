"""Confirmations built by hand."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from icd.results.outcome import Arm, Comparison, Outcome, Run


def run(trial: int, seed: int, value: float) -> Run:
    return Run(trial=trial, seed=seed, value=value, seconds=9.0)


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


def confirmation(**changes: Any) -> Outcome:
    """Trial 12 wins with two seeds, trial 3 has one, KD is the baseline; the best run is not of the lowest seed."""
    item = Comparison(
        arm="trial 12",
        against="KD",
        seeds=2,
        difference=0.75,
        se=0.25,
        low=0.125,
        high=1.375,
        p=0.04,
        verdict="better",
        detectable=1.0,
        search_gain=1.5,
    )
    arms = (
        arm("trial 12", 12, [run(41, 102, 63.0), run(40, 101, 60.5)]),
        arm("trial 3", 3, [run(42, 101, 60.0)]),
        arm("KD", None, [run(43, 101, 60.0), run(44, 102, 62.0)]),
    )
    whole = Outcome(
        sweep="by-hand",
        stage="confirm",
        metric="test/top1",
        train_on="train+val",
        planned_seeds=2,
        alpha=0.05,
        failed_runs="left-out",
        round=1,
        arms=arms,
        comparisons=(item, replace(item, arm="trial 3", difference=-0.5)),
        test_evaluations=20,
        seconds=45.0,
        finished=True,
        winner="trial 12",
        optimism=0.1,
        statement="trial 12 is better than KD by 0.75 points.",
    )
    return replace(whole, **changes)
