"""Random numbers as a pure function of what they are for: no state, no order of calls, no process.

Every draw names itself by a few integers ("seed 0, epoch 3, image 17"), so a resumed run, another batch size
or another machine gets the same number. The mixing step is the finaliser of SplitMix64 (Steele, Lea, Flood,
"Fast splittable pseudorandom number generators", OOPSLA 2014), a bijection on 64 bits.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

# What a draw is for: the first word of every hash, so that the order of an epoch says nothing about its views. Another
# number changes results.
VIEW, ORDER, RESIZED_CROP, SPLIT, DIGITS, NETWORK, RAND_AUGMENT, CONTRAST = range(1, 9)

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
MUL1 = np.uint64(0xBF58476D1CE4E5B9)
MUL2 = np.uint64(0x94D049BB133111EB)


def bits(*words: ArrayLike) -> NDArray[np.uint64]:
    """Hash integers, broadcast against each other, to 64 random bits.

    For fixed leading words the result is a bijection of the last one: different indices never collide.

    Args:
        words: Integers of any sign or arrays of them, most general first (purpose, seed, epoch, index).

    Returns:
        uint64 array of the broadcast shape, at least 1-d.
    """
    state = np.zeros(1, dtype=np.uint64)
    for word in words:
        # int64 first: NumPy refuses to turn a negative Python integer into uint64; wrapping int64 is wanted.
        step = np.atleast_1d(np.asarray(word).astype(np.int64)).astype(np.uint64)
        state = (state ^ step) + GOLDEN
        state ^= state >> np.uint64(30)
        state *= MUL1
        state ^= state >> np.uint64(27)
        state *= MUL2
        state ^= state >> np.uint64(31)
    return state


def below(limit: int, *words: ArrayLike) -> NDArray[np.int64]:
    """Draw integers uniform over ``range(limit)``; ``1 <= limit <= 2**31``.

    Multiply-shift of the upper 32 bits: the bias is at most ``limit / 2**32``, with no rejection loop.
    """
    if not 1 <= limit <= 2**31:
        raise ValueError(f"`1 <= limit <= 2**31` must hold, but got {limit}")
    high = bits(*words) >> np.uint64(32)
    return ((high * np.uint64(limit)) >> np.uint64(32)).astype(np.int64)


def uniform(*words: ArrayLike) -> NDArray[np.float64]:
    """Draw float64 uniform over [0, 1) with 53 random bits; exact, so equal on every machine."""
    return (bits(*words) >> np.uint64(11)).astype(np.float64) * 2.0**-53
