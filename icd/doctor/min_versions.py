"""Oldest versions we run with, and the advisory behind each; a test compares them with ``pyproject.toml``."""

from collections.abc import Mapping
from typing import NamedTuple


class Floor(NamedTuple):
    """A minimum version and why."""

    version: str
    why: str


FLOORS: Mapping[str, Floor] = {
    "torch": Floor("2.10", "CVE-2025-32434 (< 2.6.0), CVE-2026-24747 (< 2.10.0): loading weights ran code"),
    "torchvision": Floor("0.25", "the release that pairs with torch 2.10"),
    "pyyaml": Floor("6.0.2", "CVE-2020-14343 (< 5.4): a loader ran code"),
    "pillow": Floor("11.0", "image decoders: 51 advisories up to 2024-10"),
    "ray": Floor("2.54", "CVE-2025-62593 (< 2.52.0), CVE-2026-27482 (<= 2.53.0)"),
    "mlflow": Floor("3.16.1", "CVE-2026-2635: default admin password"),
    "optuna": Floor("5.0", "behaviour of samplers and states"),
}
