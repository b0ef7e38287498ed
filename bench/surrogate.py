"""A recorded table of learning curves as a search space: trees that were fitted to it foretell any configuration.

The trees foretell the place among the recorded values of each epoch, since a few that fail would outweigh all others.
What they foretell is smoother than what was recorded: what nobody trained is worth about what lies near it is worth.
``known`` says how well they order the recorded ones, each foretold by the trees that have not seen it.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from scipy.stats import norm, rankdata, spearmanr
from sklearn.ensemble import ExtraTreesRegressor

from icd.config.read_sweep import read_sweep
from icd.config.yaml import read_yaml
from icd.search.suggest.search_space import SearchSpace

NOISE = 0.5  # points between two seeds of one configuration: 0.3 on digits100, 0.7 on twenty classes of CIFAR-100
Point = Mapping[str, Any]


class Surrogate:
    """A task of ``search_efficiency.py``: final values and curves of configurations.

    Args:
        table: A file of ``record_curves.py``; beside it lies the sweep that was recorded, ``curves-NAME.json`` and
            ``NAME.yaml``.
        seed: Of the noise.
        epochs: Of a curve.
    """

    def __init__(self, table: Path, seed: int, epochs: int) -> None:
        self.seed, self.epochs = seed, epochs
        space = table.with_name(table.name.removeprefix("curves-")).with_suffix(".yaml")
        self._space = SearchSpace(read_sweep(read_yaml(space)))
        rows = [row for row in json.loads(table.read_text())["curves"] if row["end"] == "complete"]
        self._names = sorted({name for row in rows for name in _numbers(row["parameters"])})
        curves_CE = np.array([row["top1"] for row in rows])
        share_E = np.arange(1, epochs + 1) / epochs * curves_CE.shape[1]
        curves_CE = np.array([np.interp(share_E, np.arange(1, len(curve) + 1), curve) for curve in curves_CE])
        self._sorted_CE = np.sort(curves_CE, axis=0)
        self._scores_C = norm.ppf((np.arange(len(rows)) + 0.5) / len(rows))  # of the worst value to the best
        scores_CE = norm.ppf((rankdata(curves_CE, axis=0) - 0.5) / len(rows))
        self._trees = ExtraTreesRegressor(300, bootstrap=True, oob_score=True, random_state=0)
        self._trees.fit(np.array([self._encoded(row["parameters"]) for row in rows]), scores_CE)
        self.known = float(spearmanr(self._trees.oob_prediction_[:, -1], curves_CE[:, -1]).statistic)
        drawn = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
        self.sample = [self.suggest(drawn.ask()) for _ in range(1500)]
        finals_S = self._curves(self.sample)[:, -1]
        self.best, self.median = np.quantile(finals_S, (0.998, 0.5)).tolist()

    def suggest(self, trial: Any) -> dict[str, Any]:
        """Ask for a point, by the names of the table."""
        self._space.suggest(trial)
        return dict(trial.params)

    def true(self, point: Point) -> float:
        """Give the final value of a point in points of top-1."""
        return float(self._curves([point])[0, -1])

    def curve(self, point: Point, seed: int) -> np.ndarray:
        """Give what a training with a seed reports after each epoch: two seeds differ all along, and by epochs."""
        chance = np.random.default_rng([self.seed, 2, seed])
        by_epoch_E = np.linspace(0.7, 0.15, self.epochs) * chance.standard_normal(self.epochs)
        seen_E = self._curves([point])[0] + NOISE * chance.standard_normal() + by_epoch_E
        curve_E: np.ndarray = np.clip(seen_E, 0.1, 100)
        return curve_E

    def _curves(self, points: Sequence[Point]) -> np.ndarray:
        scores_PE = self._trees.predict(np.array([self._encoded(point) for point in points]))
        columns = zip(scores_PE.T, self._sorted_CE.T, strict=True)
        return np.array([np.interp(scores_P, self._scores_C, values_C) for scores_P, values_C in columns]).T

    def _encoded(self, point: Point) -> np.ndarray:
        given = _numbers(point)
        return np.array([given.get(name, 0.0 if "=" in name else -1.0) for name in self._names])


def _numbers(point: Point) -> dict[str, float]:
    """Write categories as flags, and weights as shares of their sum; the driver's own part is no parameter."""
    words = {f"{name}={value}": 1.0 for name, value in point.items() if isinstance(value, str)}
    numbers = {name: float(value) for name, value in point.items() if isinstance(value, int | float)}
    weights = {name: value for name, value in numbers.items() if "_scale_weights." in name}
    return words | numbers | {name: value / sum(weights.values()) for name, value in weights.items()}
