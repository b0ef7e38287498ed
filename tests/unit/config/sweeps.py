"""A small sweep as text whose lines are known: one part per line, the space from line 9 on."""

from typing import Any

import yaml

from icd.config.read_sweep import read_sweep
from icd.config.sweep import SweepConfig
from icd.config.yaml import apply_overrides, parse_yaml

PARTS = {
    "name": "x",  # line 1
    "data": "digits100",
    "teacher": "resnet20",
    "student": "resnet8",
    "method": "iCD-KD",  # 5
    "sampler": "random",
    "budget": "{trials: 10}",  # 7
}


def sweep_text(space: str = "cluster_weight: {low: 1, high: 2}", /, **parts: str | None) -> str:
    """Write the sweep; a part that is None is left out, its line stays; parts the table lacks follow the space."""
    lines = []
    for name, value in PARTS.items():
        value = parts.pop(name, value)
        lines.append("#" if value is None else f"{name}: {value}")
    lines.append("space:" if space else "#")
    lines += [f"  {line}" for line in space.splitlines()]
    return "\n".join([*lines, *(f"{name}: {value}" for name, value in parts.items())]) + "\n"


def sweep(space: str = "cluster_weight: {low: 1, high: 2}", /, *overrides: str, **parts: str | None) -> SweepConfig:
    """Read the sweep."""
    document = parse_yaml(sweep_text(space, **parts), "x.yaml")
    return read_sweep(apply_overrides(document, overrides) if overrides else document)


def plain(text: str) -> Any:
    """Read YAML that is known to be good."""
    return yaml.safe_load(text)
