"""Compare our losses and networks with a folder of golden numbers.

    python tests/golden/check.py DIR [--dtype float64|float32]

DIR holds ``index.json`` and one ``.npz`` per case. Prints the largest relative error per method and exits 1 when any
case is above its tolerance (1e-6 in float64, 1e-3 in float32) or cannot be run, 2 when DIR cannot be read. Without
``--dtype`` each case runs in the dtype of its own arrays.
"""

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

if __package__ in (None, ""):  # run as a script: make the checkout importable, wherever it is called from
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.golden.cases import run_case

TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-3}


class Verdict(NamedTuple):
    """How one case compares: its largest relative error, or why it could not be compared."""

    case: str
    method: str
    error: float
    problem: str = ""


def relative_error(ours: np.ndarray, stored: np.ndarray) -> float:
    """max|a - b| / max(max|b|, 1e-6); infinite for another shape or a value that is not finite."""
    if ours.shape != stored.shape or not (np.isfinite(ours).all() and np.isfinite(stored).all()):
        return float("inf")
    if not stored.size:
        return 0.0
    return float(np.abs(ours - stored).max() / max(np.abs(stored).max(), 1e-6))


def case_dtype(case: Mapping[str, Any]) -> torch.dtype:
    """The floating dtype of a case's arrays."""
    specs = [*case["inputs"].values(), *case["outputs"].values()]
    kinds = {spec["dtype"] for spec in specs if spec["dtype"].startswith("float")}
    return torch.float32 if kinds == {"float32"} else torch.float64


def check_case(folder: Path, case: Mapping[str, Any], dtype: torch.dtype | None = None) -> Verdict:
    """Run one case and compare every stored output."""
    dtype = dtype or case_dtype(case)
    tolerance = min(case.get("tolerance") or TOLERANCE[dtype], TOLERANCE[dtype]) if dtype is torch.float64 else 1e-3
    errors = {}
    try:
        with np.load(folder / case["file"], allow_pickle=False) as stored:
            arrays = dict(stored)
        ours = run_case(case, arrays, dtype)
        for name, spec in case["outputs"].items():
            value = ours[name].detach().to(torch.float64).numpy()
            errors[name] = relative_error(value, arrays[spec["key"]])
    except Exception as error:  # any failure is a verdict of this case, never the end of the run
        return Verdict(case["id"], case["method"], float("inf"), f"{type(error).__name__}: {error}")
    worst = max(errors, key=errors.__getitem__)
    problem = "" if errors[worst] <= tolerance else f"{worst} is off by {errors[worst]:.2e}, tolerance {tolerance:g}"
    return Verdict(case["id"], case["method"], errors[worst], problem)


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(description="compare with golden numbers")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--dtype", choices=["float64", "float32"], help="compute in this dtype instead of the case's")
    options = parser.parse_args(arguments)
    try:
        cases = json.loads((options.folder / "index.json").read_text())["cases"]
    except (OSError, ValueError, KeyError) as error:
        sys.stderr.write(f"{options.folder}: index.json with 'cases' must be readable, but got {error!r}\n")
        return 2
    dtype = getattr(torch, options.dtype) if options.dtype else None
    verdicts = [check_case(options.folder, case, dtype) for case in cases]
    for method in dict.fromkeys(verdict.method for verdict in verdicts):
        same = [verdict for verdict in verdicts if verdict.method == method]
        sys.stdout.write(
            f"{method:14s} {len(same):3d} cases  largest relative error {max(v.error for v in same):.2e}\n"
        )
    failed = [verdict for verdict in verdicts if verdict.problem]
    for verdict in failed:
        sys.stdout.write(f"FAIL {verdict.case}: {verdict.problem}\n")
    sys.stdout.write(f"{len(verdicts) - len(failed)} of {len(verdicts)} cases within tolerance\n")
    return 1 if failed or not verdicts else 0


if __name__ == "__main__":
    sys.exit(main())
