"""What samplers learn from trials that were stopped or paused: their last value, as it would be at the end."""

import copy
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from optuna.trial import FrozenTrial, TrialState

from icd.search.study.sweep_study import is_paused

_FEWEST = 3  # trials from which a mean and a spread are taken


def paused_as_pruned(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Show paused trials as pruned with the value of their last epoch."""
    return [_shown(trial, TrialState.PRUNED, _last(trial)) if is_paused(trial) else trial for trial in trials]


def with_last_values(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Show pruned and paused trials as complete ones, with what their last value says of the end.

    An early epoch's accuracy is low for all trials, so it is compared within its epoch only. Let v be the value of a
    trial at its last epoch e, and B the trials that have a value both there and at the end. Their means and standard
    deviations at e and at the end are m, s and M, S. The trial is shown with

        M + r (v - m),   r = min(1, S / s),

    its z-score (v - m) / s among B on the scale of what B reached, where no difference is magnified. B has at least 3
    trials; without them a trial stays pruned. While fewer than 3 trials are complete, the end is the last epoch that 3
    trials have reached, for all trials. Diverged trials stay pruned, which samplers count as bad.

    Args:
        trials: Of a study with one objective, in the order of their numbers.
    """
    trials = paused_as_pruned(trials)
    stopped = {trial.number for trial in trials if trial.state == TrialState.PRUNED and not _diverged(trial)}
    if not stopped:
        return trials
    ends = _ends(trials)
    epochs = {_last_epoch(trial) for trial in trials if trial.number in stopped}
    lines = {epoch: _line(trials, epoch, ends) for epoch in epochs}
    shown = []
    for trial in trials:
        value = ends.get(trial.number) if trial.number in stopped or trial.state == TrialState.COMPLETE else None
        if value is None and trial.number in stopped and (line := lines[_last_epoch(trial)]) is not None:
            value = line.end + line.slope * (trial.intermediate_values[_last_epoch(trial)] - line.here)
        shown.append(trial if value is None else _shown(trial, TrialState.COMPLETE, value))
    return shown


class _Line(NamedTuple):
    """How a value at an epoch is read: ``end + slope * (value - here)``."""

    end: float
    slope: float
    here: float


def _ends(trials: Sequence[FrozenTrial]) -> Mapping[int, float]:
    """Give the values by which trials are compared, by number: final ones, or those at the last epoch that 3 have."""
    complete = {trial.number: float(trial.values[0]) for trial in trials if trial.state == TrialState.COMPLETE}
    if len(complete) >= _FEWEST:
        return complete
    curves = {trial.number: trial.intermediate_values for trial in trials if not _diverged(trial)}
    reached = sorted((epoch for curve in curves.values() for epoch in curve), reverse=True)
    last = next((epoch for place, epoch in enumerate(reached[_FEWEST - 1 :]) if reached[place] == epoch), None)
    return {number: curve[last] for number, curve in curves.items() if last in curve}


def _line(trials: Sequence[FrozenTrial], epoch: int, ends: Mapping[int, float]) -> _Line | None:
    both = [trial for trial in trials if trial.number in ends and epoch in trial.intermediate_values]
    if len(both) < _FEWEST:
        return None
    here = np.array([trial.intermediate_values[epoch] for trial in both])
    there = np.array([ends[trial.number] for trial in both])
    slope = min(1.0, float(there.std() / here.std())) if here.std() > 0 and there.std() > 0 else 1.0
    return _Line(float(there.mean()), slope, float(here.mean()))


def _diverged(trial: FrozenTrial) -> bool:
    return bool(trial.user_attrs.get("end", {}).get("exit_reason") == "diverged")


def _last_epoch(trial: FrozenTrial) -> int:
    return max(trial.intermediate_values, default=0)


def _last(trial: FrozenTrial) -> float | None:
    return trial.intermediate_values.get(_last_epoch(trial))


def _shown(trial: FrozenTrial, state: TrialState, value: float | None) -> FrozenTrial:
    shown = copy.copy(trial)
    shown.state, shown.values = state, None if value is None else [value]
    return shown
