"""Write ``own/``: a small set of golden numbers computed here, in plain numpy, from the formulas of methods.md.

    python tests/golden/make_own.py

It shares no code with ``icd``, so it judges the losses where the authors' numbers are absent. Values are float64;
gradients are central differences of fourth order. Only the integer hash that fills a network is taken from
``hash_weights.py``, which is the specification of that hash.
"""

import json
import sys
from collections.abc import Callable, Mapping
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

if __package__ in (None, ""):  # run as a script
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.golden.hash_weights import hash_image, hash_tensor

FOLDER = Path(__file__).parent / "own"

Array = NDArray[Any]
Arrays = dict[str, Array]


class Case(NamedTuple):
    """One case: what is stored, and under which method and parameters."""

    name: str
    method: str
    params: dict[str, Any]
    inputs: Arrays
    outputs: Arrays


def log_softmax(rows: Array) -> Array:
    shifted = rows - rows.max(axis=-1, keepdims=True)
    logs: Array = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return logs


def softmax(rows: Array) -> Array:
    return np.asarray(np.exp(log_softmax(rows)))


def kl(teacher: Array, student: Array) -> float:
    """Of two vectors of logits."""
    return float((softmax(teacher) * (log_softmax(teacher) - log_softmax(student))).sum())


def kd_row(s: Array, t: Array, y: int, p: Mapping[str, Any]) -> float:
    return float(p["T"] ** 2 * kl(t / p["T"], s / p["T"]))


def dkd_parts(s: Array, t: Array, y: int, p: Mapping[str, Any]) -> tuple[float, float]:
    a_t, a_s = softmax(t / p["T"]), softmax(s / p["T"])
    rest_t, rest_s = a_t.sum() - a_t[y], a_s.sum() - a_s[y]
    tckd = a_t[y] * np.log(a_t[y] / a_s[y]) + rest_t * np.log(rest_t / rest_s)
    nckd = kl(np.delete(t, y) / p["T"], np.delete(s, y) / p["T"])
    return float(p["T"] ** 2 * tckd), float(p["T"] ** 2 * nckd)


def dkd_row(s: Array, t: Array, y: int, p: Mapping[str, Any]) -> float:
    tckd, nckd = dkd_parts(s, t, y, p)
    return float(p["alpha"] * tckd + p["beta"] * nckd)


def nkd_row(s: Array, t: Array, y: int, p: Mapping[str, Any]) -> float:
    """All classes in the second term, as published."""
    soft = (softmax(t / p["T"]) * log_softmax(s / p["T"])).sum()
    return float(-softmax(t)[y] * log_softmax(s)[y] - p["gamma"] * p["T"] ** 2 * soft)


def nkd_upstream_row(s: Array, t: Array, y: int, p: Mapping[str, Any]) -> float:
    """All classes but the target in the second term."""
    soft = (softmax(np.delete(t, y) / p["T"]) * log_softmax(np.delete(s, y) / p["T"])).sum()
    return float(-softmax(t)[y] * log_softmax(s)[y] - p["gamma"] * p["T"] ** 2 * soft)


Row = Callable[[Array, Array, int, Mapping[str, Any]], float]
ROWS: Mapping[str, Row] = {"kd": kd_row, "dkd": dkd_row, "nkd": nkd_row, "nkd_upstream": nkd_upstream_row}


def row_loss(row: Row, a: Arrays, p: Mapping[str, Any]) -> float:
    return float(np.mean([row(s, t, y, p) for s, t, y in zip(a["z_s"], a["z_t"], a["target"], strict=True)]))


def scale_decoupled(row: Row, a: Arrays, p: Mapping[str, Any]) -> float:
    """Section 3.1; weight 2 where exactly one of cell 0 and this cell is right."""
    batch, _, cells = a["p_s"].shape
    right = a["p_t"].argmax(axis=1) == a["target"][:, None]
    total = 0.0
    for b in range(batch):
        for n in range(cells):
            weight = 2 if right[b, n] != right[b, 0] else 1
            total += weight * row(a["p_s"][b, :, n], a["p_t"][b, :, n], int(a["target"][b]), p)
    return float(total / (batch * cells))


def clustering(a: Arrays, p: Mapping[str, Any]) -> float:
    """Section 3.2 for 21 cells; scale 1 adds zero."""
    unit_s, unit_t = (side / np.linalg.norm(side, axis=1, keepdims=True) for side in (a["p_s"], a["p_t"]))
    total = 0.0
    for b in range(len(unit_s)):
        for start, end, omega in ((0, 1, 1 / 6), (1, 5, 2 / 6), (5, 21, 3 / 6)):
            block_s, block_t = unit_s[b, :, start:end], unit_t[b, :, start:end]
            gram_s, gram_t = block_s.T @ block_s, block_t.T @ block_t
            total += omega * sum(kl(gram_t[i] / 2, gram_s[i] / 2) for i in range(end - start))
    return float(p["gamma"] * total / len(unit_s))


def cross_entropy(a: Arrays) -> float:
    return float(-np.mean([log_softmax(s)[y] for s, y in zip(a["z_s"], a["target"], strict=True)]))


def icd_kd_terms(a: Arrays, p: Mapping[str, Any]) -> dict[str, float]:
    terms = {
        "loss_ce": p["ce_weight"] * cross_entropy(a),
        "loss_kd": p["kd_weight"] * scale_decoupled(kd_row, a, p),
        "loss_cluster": clustering(a, p),
    }
    return {"total": sum(terms.values()), **terms}


def ldrld_terms(a: Arrays, p: Mapping[str, Any]) -> dict[str, float]:
    """Section 5.3."""
    k, temperature = p["k"], p["T"]
    local = rest = 0.0
    for s, t in zip(a["z_s"] / temperature, a["z_t"] / temperature, strict=True):
        ranked = np.argsort(-s)
        top, others = ranked[:k], ranked[k:]
        pairs = 0.0
        for i, j in combinations(range(k), 2):
            weight = 2 / (1.5 + (j - i)) * np.exp(-0.05 * (i + 1 + j + 1))
            pairs += weight * kl(t[top[[i, j]]], s[top[[i, j]]])
        local += (pairs + kl(t[top], s[top])) / (k * (k - 1) / 2 + 1)
        rest += kl(t[others], s[others])
    batch = len(a["z_s"])
    local, rest = temperature**2 * local / batch, temperature**2 * rest / batch
    loss = p["ce_weight"] * cross_entropy(a) + p["alpha"] * local + p["beta"] * rest
    return {"loss": loss, "local": local, "rntk": rest, "trainloop_loss": p["ce_weight"] * loss}


def similarity(a: Arrays) -> float:
    """Section 5.1."""
    grams = []
    for features in (a["f_s"], a["f_t"]):
        flat = features.reshape(len(features), -1)
        gram = flat @ flat.T
        grams.append(gram / np.linalg.norm(gram, axis=1, keepdims=True))
    return float(((grams[1] - grams[0]) ** 2).sum() / len(a["f_s"]) ** 2)


def gradient(value: Callable[[Arrays], float], inputs: Arrays, name: str, every: int, step: float = 1e-3) -> Array:
    """Central differences, error of order step^4, of each ``every``-th entry; the others are NaN."""
    result = np.full_like(inputs[name], np.nan)
    for place in list(np.ndindex(result.shape))[::every]:
        result[place] = 0
        for factor, weight in ((1, 8), (-1, -8), (2, -1), (-2, 1)):
            moved = inputs[name].copy()
            moved[place] += factor * step
            result[place] += weight * value({**inputs, name: moved}) / (12 * step)
    return result


def convolution(x: Array, weight: Array, stride: int, padding: int) -> Array:
    side = weight.shape[2]
    x = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    out = (x.shape[2] - side) // stride + 1
    result = np.zeros((len(x), len(weight), out, out))
    for i in range(side):
        for j in range(side):
            window = x[:, :, i : i + stride * out : stride, j : j + stride * out : stride]
            result += np.einsum("bchw,oc->bohw", window, weight[:, :, i, j])
    return result


class HashedResNet8:
    """The 8-layer CIFAR ResNet in eval mode with weights from the hash; counts its parameters."""

    def __init__(self, num_classes: int) -> None:
        self.num_classes, self.count = num_classes, 0

    def weight(self, name: str, *shape: int) -> Array:
        self.count += int(np.prod(shape))
        return hash_tensor(name, shape)

    def conv_bn(self, x: Array, conv: str, norm: str, width: int, side: int = 3, stride: int = 1) -> Array:
        x = convolution(x, self.weight(f"{conv}.weight", width, x.shape[1], side, side), stride, side // 2)
        scale, shift = self.weight(f"{norm}.weight", width), self.weight(f"{norm}.bias", width)
        mean, variance = (hash_tensor(f"{norm}.running_{what}", (width,)) for what in ("mean", "var"))
        scale = scale / np.sqrt(variance + 1e-5)
        return np.asarray((x - mean[:, None, None]) * scale[:, None, None] + shift[:, None, None])

    def __call__(self, image: Array) -> Arrays:
        x = np.maximum(self.conv_bn(image, "conv1", "bn1", 16), 0)
        for layer, (width, stride) in enumerate(((16, 1), (32, 2), (64, 2)), start=1):
            block = f"layer{layer}.0"
            y = np.maximum(self.conv_bn(x, f"{block}.conv1", f"{block}.bn1", width, stride=stride), 0)
            y = self.conv_bn(y, f"{block}.conv2", f"{block}.bn2", width)
            if stride != 1:
                x = self.conv_bn(x, f"{block}.downsample.0", f"{block}.downsample.1", width, side=1, stride=stride)
            x = np.maximum(x + y, 0)
        head, bias = self.weight("fc.weight", self.num_classes, 64), self.weight("fc.bias", self.num_classes)
        cells = []
        for m in (1, 2, 4):  # 4 divides the 8 x 8 map: blocks are blocks
            blocks = x.reshape(len(x), 64, m, 8 // m, m, 8 // m)
            cells.append(blocks.mean(axis=(3, 5)).reshape(len(x), 64, m * m))
        regions = np.einsum("kc,bcn->bkn", head, np.concatenate(cells, axis=2)) + bias[:, None]
        pooled = x.mean(axis=(2, 3))
        return {"z": pooled @ head.T + bias, "p": regions, "pooled": pooled}


Terms = Callable[[Arrays], dict[str, float]]


def with_gradients(terms: Terms, inputs: Arrays, names: tuple[str, ...], every: int = 1) -> Arrays:
    """All terms, and the gradients of the first."""

    def first(arrays: Arrays) -> float:
        return next(iter(terms(arrays).values()))

    outputs = {name: np.array(value) for name, value in terms(inputs).items()}
    return outputs | {f"grad_{name}": gradient(first, inputs, name, every) for name in names}


def make_cases(every: int = 1) -> list[Case]:
    """Compute everything, of gradients each ``every``-th entry; inputs have three decimals, so the files stay small."""
    random = np.random.Generator(np.random.PCG64(20260101))

    def draw(*shape: int) -> Array:
        return np.round(2 * random.standard_normal(shape), 3)

    batch, classes = 3, 6
    target = np.array([2, 0, 5])
    rows: Arrays = {"z_s": draw(batch, classes), "z_t": draw(batch, classes), "target": target}
    cells: Arrays = {"p_s": draw(batch, classes, 21), "p_t": draw(batch, classes, 21), "target": target}
    cells["p_t"][0, 2, 0] = cells["p_t"][1, 0, 0] = 9.0  # right on two images, wrong on the third
    cells["p_t"][2, 5, 0] = -9.0
    cases = []
    for method, params in {
        "kd": {"T": 4.0},
        "dkd": {"T": 4.0, "alpha": 1.0, "beta": 2.0},
        "nkd": {"T": 2.0, "gamma": 1.5},
        "nkd_upstream": {"T": 2.0, "gamma": 1.5},
    }.items():

        def row_terms(a: Arrays, row: Row = ROWS[method], params: Mapping[str, Any] = params) -> dict[str, float]:
            return {"loss": row_loss(row, a, params)}

        outputs = with_gradients(row_terms, rows, ("z_s",), every)
        if method == "dkd":
            parts = [dkd_parts(rows["z_s"][b], rows["z_t"][b], int(target[b]), params) for b in range(batch)]
            outputs |= dict(zip(("tckd", "nckd"), np.mean(parts, axis=0), strict=True))
        cases.append(Case(f"own_{method}", method, dict(params), rows, outputs))

    wrap = {"cells": 21, "T": 4.0}
    outputs = with_gradients(lambda a: {"loss": scale_decoupled(kd_row, a, wrap)}, cells, ("p_s",), every)
    cases.append(Case("own_sdd_kd", "sdd_kd", wrap, cells, outputs))
    cluster = {"cells": 21, "gamma": 2.0}
    only_cells = {name: cells[name] for name in ("p_s", "p_t")}
    outputs = with_gradients(lambda a: {"loss": clustering(a, cluster)}, only_cells, ("p_s",), every)
    cases.append(Case("own_icd", "icd", cluster, only_cells, outputs))
    total = {"ce_weight": 0.1, "kd_weight": 0.9, "T": 4.0, "gamma": 2.0, "warmup": 20.0, "M": [1, 2, 4], "epoch": 3}
    both = rows | cells
    outputs = with_gradients(lambda a: icd_kd_terms(a, total), both, ("z_s", "p_s"), every)
    cases.append(Case("own_icd_kd", "icd_kd", total, both, outputs))
    local = {"T": 4.0, "k": 3, "alpha": 10.5, "beta": 7.0, "ce_weight": 1.0}
    outputs = with_gradients(lambda a: ldrld_terms(a, local), rows, ("z_s",), every)
    cases.append(Case("own_ldrld", "ldrld", local, rows, outputs))
    features = {"f_s": draw(4, 3, 2, 2), "f_t": draw(4, 5, 1, 1)}
    cases.append(
        Case("own_sp", "sp", {}, features, with_gradients(lambda a: {"loss": similarity(a)}, features, ("f_s",), every))
    )

    network = HashedResNet8(10)
    size = [1, 3, 32, 32]
    outputs = network(hash_image(tuple(size)))
    shape: dict[str, Any] = {"arch": "resnet8", "dataset": "cifar", "num_classes": 10, "input": size, "M": [1, 2, 4]}
    shape |= {"feature": [64, 8, 8], "param_count": network.count}
    cases.append(Case("own_resnet8", "arch", shape, {}, outputs))
    return cases


def described(prefix: str, arrays: Arrays) -> dict[str, Any]:
    return {
        name: {"key": f"{prefix}_{name}", "shape": list(np.shape(value)), "dtype": str(np.asarray(value).dtype)}
        for name, value in arrays.items()
    }


def write(folder: Path) -> None:
    """Write index and arrays in the format of methods.md 11.1."""
    folder.mkdir(exist_ok=True)
    records = []
    for case in make_cases():
        arrays = {f"in_{name}": value for name, value in case.inputs.items()}
        arrays |= {f"out_{name}": value for name, value in case.outputs.items()}
        np.savez_compressed(folder / f"{case.name}.npz", **arrays)  # type: ignore[arg-type]
        records.append(
            {
                "id": case.name,
                "method": case.method,
                "file": f"{case.name}.npz",
                "params": case.params,
                "source": "tests/golden/make_own.py",
                "inputs": described("in", case.inputs),
                "outputs": described("out", case.outputs),
                "tolerance": 1e-6,
            }
        )
    index = {"format": 1, "conventions": "as in methods.md 11.1", "cases": records}
    (folder / "index.json").write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    write(FOLDER)
