"""Whatever a file holds, text or values, it is read or refused with a ConfigError; nothing else may come out."""

import copy
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from icd.config.read_sweep import read_sweep
from icd.config.sweep import SweepConfig
from icd.config.yaml import Document, apply_overrides, parse_yaml
from icd.errors import ConfigError
from tests.unit.config.sweeps import plain

SEED = """
name: x
data: {name: digits100, train_per_class: 5}
teacher: {arch: resnet20, training: {epochs: 2}}
student: {choices: [resnet8, {arch: resnet8, stem: conv7x7_s2}]}
method:
  recipe: iCD-KD
  gram: cells
  base_loss: {choices: {kd: {temperature: {low: 1, high: 8}}, dkd: {beta: {choices: [1, 2]}}}}
  scales: {subsets_of: [1, 2, 4], containing: [1]}
  cluster_scale_weights: {low: 0.1, high: 1, log: true}
  cluster_weight: {low: 1, high: 9, step: 2}
training: {preset: digits100, epochs: 4, schedule: step, lr: {low: 0.1, high: 0.2}, milestones: {choices: [[1], [2]]}}
seed: {choices: [0, 1]}
search:
  objective: [{metric: val/top1, direction: maximize}]
  sampler: {name: tpe, startup_trials: 3}
  pruner: {name: median, min_epochs: 2}
  enqueue: [KD, {label: a, method: {cluster_weight: 3}, training: {lr: 0.1}}]
  budget: {trials: 9}
resources: {retries: 1}
"""
JUNK: list[Any] = [None, True, -1, 0, 3.5, 1e300, float("nan"), "", "kd", "KD", [], {}, [[]], [1, "a"], {"a": 1}]
JUNK += [{"low": 1}, {"low": 1, "high": 2}, {"choices": [1, None]}, {"choices": "x"}, {"subsets_of": [1, 3]}]


def places(data: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Give the path of every value below the top."""
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    return [inner for key, value in items for inner in ((*path, key), *places(value, (*path, key)))]


def mutated(data: Any, draw: random.Random) -> Any:
    data = copy.deepcopy(data)
    for _ in range(draw.randint(1, 2)):
        *above, last = draw.choice(places(data))
        parent = data
        for key in above:
            parent = parent[key]
        if draw.random() < 0.3:
            del parent[last]
        else:
            parent[last] = copy.deepcopy(draw.choice(JUNK))
    return data


@pytest.mark.parametrize("seed", range(3))
def test_nothing_but_a_sweep_or_a_refusal(seed: int) -> None:
    draw, good, bad = random.Random(seed), 0, 0
    assert read_sweep(Document(plain(SEED), "x.yaml")).name == "x"
    for _ in range(40):
        data = mutated(plain(SEED), draw)
        try:
            assert isinstance(read_sweep(Document(data, "x.yaml")), SweepConfig), data
            good += 1
        except ConfigError:
            bad += 1
    assert good > 0
    assert bad > good


# Text

TEXT = "study: x\nloss:\n  kd: {temperature: 4, weight: 1e-1}\nscales:\n  - 1\n  - 'a b'\n  - [1, \"\\x41\"]\n"
STABLE = settings(derandomize=True, deadline=None, max_examples=300, database=None)

PIECE = st.text("\n\t :-?[]{},#&*!|>'\"%@`~\\.=<0123aAxUuefn\0\x1b\u2028\ud800\ufeff\u00e9", max_size=12)


def check_text(text: str) -> None:
    messages: list[str] = []
    try:
        parse_yaml(text, "x.yaml")
    except ConfigError as error:
        messages = [str(problem) for problem in error.problems]
    assert all(message.isprintable() for message in messages)


@STABLE
@given(st.text(max_size=80), PIECE)
def test_random_text(text: str, piece: str) -> None:
    check_text(text)
    check_text(piece)


@STABLE
@given(st.lists(st.tuples(st.integers(0, len(TEXT)), st.integers(0, 8), PIECE), min_size=1, max_size=4))
def test_mutated_documents(edits: list[tuple[int, int, str]]) -> None:
    text = TEXT
    for start, length, piece in edits:
        text = text[:start] + piece + text[start + length :]
    check_text(text)


@STABLE
@given(st.text(max_size=30) | PIECE, st.text(max_size=30) | PIECE)
def test_random_overrides(key: str, value: str) -> None:
    messages: list[str] = []
    try:
        apply_overrides(parse_yaml(TEXT, "x.yaml"), [f"{key}={value}", key])
    except ConfigError as error:
        messages = [str(problem) for problem in error.problems]
    assert all(message.isprintable() for message in messages)
