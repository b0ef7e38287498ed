"""What the best of a search is worth: its score holds the luck for which it was chosen."""

import math
from collections.abc import Sequence

import numpy as np
from scipy.special import log_ndtr

_FAR = 12.0  # standard deviations; the chance beyond is 1e-33
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(200)


def expected_overstatement(sd_noise: float, trials: int) -> float:
    """Give by how much the best of equally good trials exceeds their common true score, on average.

    `sd E[max of n standard normals] = sd int_0^inf (1 - Phi(x)^n - Phi(-x)^n) dx`: 0.56 sd for 2 trials, 1.54 for 10,
    2.51 for 100. It is the worst case: where true scores differ, the best is chosen less for its luck.

    Args:
        sd_noise: Of the score of one configuration over seeds, in points.
        trials: Complete ones, one seed each.

    Raises:
        ValueError: For a negative or non-finite ``sd_noise``, or fewer than one trial.
    """
    _check_noise("expected_overstatement", sd_noise)
    if trials < 1:
        raise ValueError(f"expected_overstatement: trials: trials >= 1 must hold, but got {trials!r}")
    at = (_NODES + 1) / 2 * _FAR
    excess = -np.expm1(trials * log_ndtr(at)) - np.exp(trials * log_ndtr(-at))
    return sd_noise * float(_WEIGHTS @ excess) / 2 * _FAR


def shrunk(values: Sequence[float], sd_noise: float, *, maximize: bool = True) -> tuple[float, ...]:
    """Estimate the true scores of trials from one noisy score each, so that the best one loses most of its luck.

    True scores are taken as normal with the variance `v - sd_noise^2`, where `v` is the variance of the scores:

        estimate = median + max(0, 1 - sd_noise^2 / v) * (value - median)

    (normal-normal empirical Bayes, after Efron and Morris, JASA 70, 1975). Searches have a tail of bad trials, which
    would make `v` large and the correction vanish. So `v` is measured on the better half alone, about the median:
    `v = 2 sum(max(0, value - median)^2) / (n - 1)`. Without spread above the noise all estimates are the median. One
    trial is left as it is; with two, `v` is the sample variance.

    What the best trial's score overstates, in sd of the noise, before and after, over 5,000 simulated searches with the
    spread of true scores named; in the last column a tenth of the trials is bad by up to 30:

        trials   spread 0       spread 1       spread 2       spread 1, tail
        3        0.85  0.32     0.61  0.08     0.36  -0.12    0.53  0.01
        10       1.55  0.33     1.09  -0.05    0.68  -0.15    1.05  -0.02
        25       1.96  0.29     1.40  -0.06    0.86  -0.10    1.37  -0.01
        100      2.50  0.20     1.77  -0.03    1.12  -0.03    1.71  0.03

    It corrects the average of many searches, not each one, and it supposes that trials are exchangeable: the trials of
    an adaptive sampler, or of a pruned search, are so only roughly.

    Args:
        values: Of the complete trials, one seed each.
        sd_noise: Of the score of one configuration over seeds, in the same units.
        maximize: Whether a large value is good.

    Returns:
        In the order given.

    Raises:
        ValueError: Without values, with one that is not finite, or for a negative or non-finite ``sd_noise``.
    """
    _check_noise("shrunk", sd_noise)
    scores = np.asarray(values, dtype=np.float64)
    if not scores.size or not np.isfinite(scores).all():
        raise ValueError(f"shrunk: values: one or more finite numbers must be given, but got {list(values)!r}")
    centre = float(np.median(scores))
    better = np.clip(scores - centre if maximize else centre - scores, 0.0, None)
    variance = 2 * float(np.sum(better**2)) / max(scores.size - 1, 1)
    kept = 1 - sd_noise**2 / variance if variance > sd_noise**2 else 0.0
    return tuple((centre + kept * (scores - centre)).tolist())


def _check_noise(where: str, sd_noise: float) -> None:
    if not (math.isfinite(sd_noise) and sd_noise >= 0):
        raise ValueError(f"{where}: sd_noise: a finite sd_noise >= 0 must hold, but got {sd_noise!r}")
