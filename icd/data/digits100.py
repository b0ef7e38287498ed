"""digits100: two-digit numbers in colour, made on the spot from scikit-learn's handwritten digits; no download.

Class "37" shows a 3 on the left and a 7 on the right, each shifted, scaled, turned and coloured at random, over a noisy
two-coloured ground: 100 classes. Train and test numbers are written with different source digits, so that a network
must read handwriting it has not seen. Never mirror these images.

All arithmetic is on integers or elementwise float64 (+ - * / and floor), with counter-based random numbers:
every machine makes the same bytes.

Shape key:
    N: images    C: colours (3)    H, W: height, width (32)    F: width of a digit's field
    S: source digits    P: pixels of a source    T: taps    R: random numbers
"""

import functools

import numpy as np
import torch
from numpy.typing import NDArray

from icd.data import counter
from icd.data.images import ArrayImages
from icd.data.split import Request, Split, make_split
from icd.fields import Count, NonNegativeInt

SIDE = 32
MEAN, STD = (0.36, 0.36, 0.36), (0.196, 0.196, 0.196)
_FIELD_W = 20  # columns a digit may reach into; the two fields overlap in the middle
_GRID = 11  # side of a source digit (8) with its black border
_FULL_INK = 16.0  # largest value of a source pixel
_TAN_HALF = 0.1316524975873958  # tan(7.5 deg): a digit turns by up to 15 degrees
_NOISE = 0.2  # grey levels for one unit of noise: a standard deviation of about 21 levels
_ONE_IN = 5  # one in five source digits is kept for the test set
_CHUNK = 100  # images made at a time, so that the arrays of a chunk stay in the processor's cache

FloatArray = NDArray[np.float64]


def load(
    request: Request, *, train_per_class: Count = 100, test_per_class: Count = 20, image_seed: NonNegativeInt = 0
) -> Split:
    """Make the images, those of the test set when they are opened; another ``image_seed`` gives others of the kind."""
    train, names = make_images(train_per_class, image_seed, test=False), [f"{number:02d}" for number in range(100)]
    test = functools.partial(make_images, test_per_class, image_seed, test=True)
    return make_split(request, "digits100", train, test, class_names=names, mean=MEAN, std=STD)


def make_images(per_class: int, image_seed: int, *, test: bool) -> ArrayImages:
    """Make ``per_class`` images of each class, classes in turn: 00, 01, ... 99, 00, ..."""
    numbers_N = np.arange(100 * per_class, dtype=np.int64)
    parts = np.split(numbers_N, range(_CHUNK, len(numbers_N), _CHUNK))
    images_NCHW = np.concatenate([_draw_images(part_N, image_seed, test) for part_N in parts])
    return ArrayImages(torch.from_numpy(images_NCHW), torch.from_numpy(numbers_N % 100))


def _draw_images(numbers_N: NDArray[np.int64], image_seed: int, test: bool) -> NDArray[np.uint8]:
    """Draw the images with these running numbers of the train or test set: uint8 [N, 3, 32, 32]."""

    def chances(purpose: int, count: int) -> FloatArray:
        """Numbers in [0, 1), [N, count]."""
        return counter.uniform(counter.DIGITS, image_seed, test, purpose, numbers_N[:, None], np.arange(count))

    image_NCHW = 0.6 * _grounds(chances(1, 8))
    fields = (image_NCHW[..., :_FIELD_W], image_NCHW[..., -_FIELD_W:])
    for place, (field_NCHF, digits_N) in enumerate(zip(fields, (numbers_N // 10 % 10, numbers_N % 10), strict=True)):
        ink_NHF = _inks(digits_N, chances(2 + place, 6), leftmost=place == 0, test=test)
        colour_NC = 1.0 - 0.6 * chances(4 + place, 3)
        field_NCHF += ink_NHF[:, None] * (colour_NC[:, :, None, None] - field_NCHF)
    noise_NCHW = _noise((counter.DIGITS, image_seed, test, 6), numbers_N)
    return np.clip(np.floor(image_NCHW * 255.0 + noise_NCHW), 0, 255).astype(np.uint8)


def _grounds(chances_NR: FloatArray) -> FloatArray:
    """Blend two colours along a random direction: values in [0, 1], [N, 3, 32, 32]."""
    first_NC, second_NC = chances_NR[:, :3, None, None], chances_NR[:, 3:6, None, None]
    across_N, down_N = 2.0 * chances_NR[:, 6, None, None] - 1.0, 2.0 * chances_NR[:, 7, None, None] - 1.0
    steps = (np.arange(SIDE) - (SIDE - 1) / 2) / SIDE
    blend_NHW = np.clip(0.5 + across_N * steps[None, :] + down_N * steps[:, None], 0.0, 1.0)
    return first_NC + blend_NHW[:, None] * (second_NC - first_NC)


def _inks(digits_N: NDArray[np.int64], chances_NR: FloatArray, *, leftmost: bool, test: bool) -> FloatArray:
    """Place one source digit in each field: how much ink each pixel has, 0..1, [N, 32, 20]."""
    taps_SPT, pools, sizes = _sources(test)
    choice_N = np.floor(chances_NR[:, 0] * sizes[digits_N]).astype(np.int64)
    source_N = pools[digits_N, choice_N]
    shifts_N2 = 2.0 * chances_NR[:, 1:3] - 1.0
    centre_x = (8.0 if leftmost else _FIELD_W - 9.0) + 1.5 * shifts_N2[:, 0]
    centre_y = (SIDE - 1) / 2 + 2.5 * shifts_N2[:, 1]
    zoom_N = 1.5 + 0.6 * chances_NR[:, 3]
    # A turn by rational functions of tan(angle / 2): libraries differ in the last bit of sin and cos.
    tan_N = _TAN_HALF * (2.0 * chances_NR[:, 4] - 1.0)
    cos_N = (1.0 - tan_N * tan_N) / (1.0 + tan_N * tan_N) / zoom_N
    sin_N = 2.0 * tan_N / (1.0 + tan_N * tan_N) / zoom_N
    x_NF, y_NH = np.arange(_FIELD_W) - centre_x[:, None], np.arange(SIDE) - centre_y[:, None]
    u_NHF = (cos_N[:, None] * x_NF)[:, None, :] + (sin_N[:, None] * y_NH + 3.5)[:, :, None]
    v_NHF = (cos_N[:, None] * y_NH + 3.5)[:, :, None] - (sin_N[:, None] * x_NF)[:, None, :]
    ink_NHF = _sampled(taps_SPT, source_N, np.clip(u_NHF, -1.0, 8.0), np.clip(v_NHF, -1.0, 8.0))
    return np.minimum((1.1 + 0.3 * chances_NR[:, 5, None, None]) / _FULL_INK * ink_NHF, 1.0)


def _sampled(taps_SPT: FloatArray, source_N: NDArray[np.int64], u_NHF: FloatArray, v_NHF: FloatArray) -> FloatArray:
    """Sample sources between their pixels, bilinear, at column u and row v in [-1, 8]: [N, H, F]."""
    column_NHF, row_NHF = np.floor(u_NHF), np.floor(v_NHF)
    u_NHF -= column_NHF
    v_NHF -= row_NHF
    cell_NHF = (row_NHF * _GRID + column_NHF).astype(np.int64) + (_GRID + 1)
    taps_NHFT = taps_SPT.reshape(-1, 4)[cell_NHF + (source_N * _GRID**2)[:, None, None]]
    value, over, down, both = (taps_NHFT[..., tap] for tap in range(4))
    ink_NHF: FloatArray = value + over * u_NHF + (down + both * u_NHF) * v_NHF
    return ink_NHF


def _noise(words: tuple[int, ...], numbers_N: NDArray[np.int64]) -> NDArray[np.float64]:
    """Noise of a few grey levels for each value: [N, 3, 32, 32]."""
    values = 3 * SIDE * SIDE
    words_NV = counter.bits(*words, numbers_N[:, None], np.arange(values // 4))
    # Two bytes a value, their sum is bell-shaped enough; shifts, so that byte order does not matter.
    pairs_NVJ = (words_NV[:, :, None] >> np.array([0, 16, 32, 48], dtype=np.uint64)) & np.uint64(0xFFFF)
    sums_NVJ = (pairs_NVJ & np.uint64(0xFF)) + (pairs_NVJ >> np.uint64(8))
    return (sums_NVJ.astype(np.float64) * _NOISE - 255.0 * _NOISE).reshape(-1, 3, SIDE, SIDE)


@functools.cache
def _sources(test: bool) -> tuple[FloatArray, NDArray[np.int64], NDArray[np.int64]]:
    """Give the source digits of the train or the test set, ready for ``_sampled``.

    Each digit's sources are ordered by a hash of their pixels and a fifth goes to the test set, whatever the
    seed.

    Returns:
        taps [S, 11 * 11, 4]: value, slope to the right, slope down and cross term of each cell of the source
        with a black border; the sources of each digit, [10, S]; how many each digit has, [10].
    """
    from sklearn.datasets import load_digits

    bundled = load_digits()
    images_SHW = bundled.images.astype(np.float64)
    key_S = counter.bits(*images_SHW.reshape(len(images_SHW), -1).T.astype(np.int64))
    pools, sizes = np.zeros((10, len(key_S)), dtype=np.int64), np.zeros(10, dtype=np.int64)
    for digit in range(10):
        own = np.flatnonzero(bundled.target == digit)
        own = own[np.argsort(key_S[own], kind="stable")]
        num_test = len(own) // _ONE_IN
        own = own[:num_test] if test else own[num_test:]
        pools[digit, : len(own)], sizes[digit] = own, len(own)
    padded = np.pad(images_SHW, ((0, 0), (1, 3), (1, 3)))
    here, right = padded[:, :_GRID, :_GRID], padded[:, :_GRID, 1 : _GRID + 1]
    below, diagonal = padded[:, 1 : _GRID + 1, :_GRID], padded[:, 1 : _GRID + 1, 1 : _GRID + 1]
    taps = np.stack((here, right - here, below - here, diagonal - right - below + here), axis=-1)
    return taps.reshape(len(taps), _GRID**2, 4), pools, sizes
