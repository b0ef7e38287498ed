"""How differently a parameter is spread among some trials and among all: Parzen densities on a grid.

Optuna has the same analysis (``optuna.importance.PedAnovaImportanceEvaluator``), one set of trials at a time; its
package brings scikit-learn, which takes longer to import than all of this to compute. Tests hold both together.

Shape key: K sets of trials, N trials, G cells of the grid.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from scipy.special import ndtr

Floats = NDArray[np.float64]

_CELLS = 50  # of a range
_NARROWEST = 0.5 / 1.64  # bandwidth in cells: 90 % of a kernel stays in its cell
_TINY = 1e-12


def importances(distribution: BaseDistribution, values: Sequence[Any], chosen_KN: NDArray[np.bool_]) -> Floats:
    r"""Give the importance of a parameter for each set of chosen trials, scaled as Optuna does.

    .. math:: I = (n_{chosen} / n)^2 \, E_{x \sim p_{all}} [ (p_{chosen}(x) / p_{all}(x) - 1)^2 ]

    Both densities are Parzen estimates with Scott's bandwidth and one prior observation, on a grid of at most 50 cells.

    Source: PED-ANOVA, Watanabe, Bansal and Hutter, IJCAI 2023, for a region that is the whole space.

    Args:
        distribution: Of the parameter.
        values: Of the N trials.
        chosen_KN: K sets of trials, none of them empty.

    Returns:
        K numbers, 0 where the sets are spread like all trials.
    """
    if distribution.single():
        return np.zeros(len(chosen_KN))
    cell_N, size = _cells(distribution, values)
    of_cell_NG = np.eye(size)[cell_N]
    counts_KG = np.vstack([of_cell_NG.sum(axis=0), chosen_KN @ of_cell_NG])
    estimate = _of_choices if isinstance(distribution, CategoricalDistribution) else _of_range
    density_KG = np.array([estimate(counts_G) for counts_G in counts_KG]) + _TINY
    all_G, chosen_KG = density_KG[0], density_KG[1:]
    share_K = chosen_KN.mean(axis=1)
    found: Floats = share_K**2 * ((chosen_KG / all_G - 1) ** 2 @ all_G)
    return found


def _cells(distribution: BaseDistribution, values: Sequence[Any]) -> tuple[NDArray[np.intp], int]:
    """Give the cell of each value, and the number of cells."""
    if isinstance(distribution, CategoricalDistribution):
        return np.array([int(distribution.to_internal_repr(value)) for value in values]), len(distribution.choices)
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    low, high, size = float(distribution.low), float(distribution.high), _CELLS
    if isinstance(distribution, IntDistribution) and distribution.log:
        size = min(size, math.ceil(math.log2(high - low + 1)) + 1)
    elif distribution.step is not None:
        size = min(size, round((high - low) / distribution.step) + 1)
    at_N = np.asarray(values, dtype=np.float64)
    if distribution.log:
        low, high, at_N = math.log(low), math.log(high), np.log(at_N)
    place_N = np.ceil((at_N - low) / ((high - low) / (size - 1)) - 0.5)  # a value between two cells is the lower one's
    return np.clip(place_N, 0, size - 1).astype(np.intp), size


def _of_range(counts_G: Floats) -> Floats:
    """Estimate a density over the cells of a range; one kernel, in its middle and as wide as it, is the prior."""
    size, total = len(counts_G), float(counts_G.sum())
    centre_G = np.arange(size)
    mean = float(counts_G @ centre_G) / total
    sd = math.sqrt(float(counts_G @ (centre_G - mean) ** 2) / max(1.0, total - 1))
    upto_G = np.cumsum(counts_G)
    first = int(np.searchsorted(upto_G, max(1, total // 4), side="left"))
    third = int(np.searchsorted(upto_G, total * 3 // 4, side="right"))
    spread = third - first
    width = max(1.059 * min(spread / 1.34, sd) * total**-0.2, _NARROWEST)
    kernels_GG = _kernels(centre_G, np.full(size, width), size)
    prior_G = _kernels(np.array([(size - 1) / 2]), np.array([float(size)]), size)[0]
    found: Floats = (counts_G @ kernels_GG + prior_G) / (total + 1)
    return found


def _kernels(centre_C: NDArray[Any], width_C: Floats, size: int) -> Floats:
    """Give the share of each cell in normal kernels that are cut off at the ends of the range."""
    edge_E = np.arange(size + 1) - 0.5
    below_CE = ndtr((edge_E - centre_C[:, None]) / width_C[:, None])
    found: Floats = np.diff(below_CE, axis=1) / (below_CE[:, -1:] - below_CE[:, :1])
    return found


def _of_choices(counts_G: Floats) -> Floats:
    """Estimate a density over choices: what was seen is smeared a little over all, and one observation is even."""
    size, total = len(counts_G), float(counts_G.sum())
    smear = 1 / (np.count_nonzero(counts_G) + 1)
    seen_G = (counts_G + total * smear) / (1 + size * smear)
    found: Floats = (seen_G + 1 / size) / (total + 1)
    return found
