"""A small sweep, of which a test changes one part; the parts are YAML."""

from typing import Any

import yaml

from icd.config.read_sweep import read_sweep
from icd.config.sweep import SweepConfig
from icd.config.yaml import apply_overrides, parse_yaml
from tests.documents import document_of

PARTS = {
    "name": "x",
    "data": "digits100",
    "teacher": "resnet20",
    "student": "resnet8",
    "method": "iCD-KD",
    "sampler": "random",
    "budget": "{trials: 10}",
}
RANGE = "cluster_weight: {low: 1, high: 2}"


def sweep_text(ranges: str = RANGE, /, **parts: str | None) -> str:
    """Write the sweep as ``tests/documents.py`` puts its parts together; a part that is None is left out."""
    found = {name: plain(value) for name, value in {**PARTS, **parts}.items() if value is not None}
    return yaml.safe_dump(document_of({**found, "ranges": plain(ranges)}), sort_keys=False)


def sweep(ranges: str = RANGE, /, *overrides: str, **parts: str | None) -> SweepConfig:
    """Read the sweep."""
    document = parse_yaml(sweep_text(ranges, **parts), "x.yaml")
    return read_sweep(apply_overrides(document, overrides) if overrides else document)


def plain(text: str) -> Any:
    """Read YAML that is known to be good, numbers as icd reads them."""
    return parse_yaml(text, "x.yaml").data
