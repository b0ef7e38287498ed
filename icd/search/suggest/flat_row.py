"""A trial in one flat row of text, with the same columns for every trial of a sweep: MLflow's parameters.

A column is called by the path of its value, as the parameter is everywhere. MLflow's compare page draws a missing
value at the end of its axis, so nothing may be missing: an absent weight is 0, anything else that a trial does not
have is ``none``.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from icd.config.document import WEIGHTS
from icd.config.ranges import ScaleWeights
from icd.config.space import cases, nodes_below, options_of
from icd.config.trial import TrialConfig
from icd.config.walk import dimensions
from icd.methods import METHODS, PAPER_ROWS, CellDistillation, Method

_FIRST = ("teacher", "student", "method", "method.base_loss", "method.scales")
_THEN = ("method.cluster_weight", "method.cluster_temperature")
_LAST = ("training.lr", "training.epochs", "seed")
_UNTOLD = ("training.preset",)  # what follows from it is told


class FlatRow:
    """Knows the columns of a sweep."""

    def __init__(self, template: Mapping[str, Any], baselines: Sequence[TrialConfig] = ()) -> None:
        methods = [method for _, method in options_of(template.get("method"))]
        menu = {scale for method in methods for _, scales, _ in cases(method) for scale in scales}
        menu |= {scale for config in baselines for scale in getattr(config.method, "scales", ())}
        searched = {found.path[-1] for found in nodes_below(template) if isinstance(found.node, ScaleWeights)}
        weights = [name for name in WEIGHTS if name == "cluster_scale_weights" or name in searched]
        self.columns = list(
            dict.fromkeys(
                [
                    *_FIRST,
                    *(f"method.{name}.s{scale}" for name in weights for scale in sorted(menu)),
                    *_THEN,
                    *(row.name for row in dimensions(template) if row.name not in (*_UNTOLD, *_LAST)),
                    *_LAST,
                ]
            )
        )

    def row(self, config: TrialConfig) -> dict[str, str]:
        """Give the row of a trial."""
        data = config.to_data()
        method = config.method
        cells = method if isinstance(method, CellDistillation) else None
        if cells:
            data["method"] |= {
                "cluster_scale_weights": _cluster_weights(cells),
                "base_scale_weights": _base_weights(cells),
            }
        arch = {part: data[part]["arch"] if part in data else "none" for part in ("teacher", "student")}
        told = {
            **arch,
            "pair": f"{arch['teacher']}>{arch['student']}",
            "method": _method_name(method),
            "method.recipe": _method_name(method),
            "method.base_loss": next(iter(data["method"].get("base_loss", ())), "none"),
            "method.scales": "+".join(f"s{scale}" for scale in cells.scales) if cells else "none",
            "seed": f"seed{config.seed}",
        }
        return {name: told.get(name) or _text(name, _at(data, name)) for name in self.columns}


def _at(data: Any, name: str) -> Any:
    for part in name.replace("[", ".").replace("]", "").split("."):
        if isinstance(data, Mapping):
            data = data.get(part)
        elif isinstance(data, list) and part.isdecimal() and int(part) < len(data):
            data = data[int(part)]
        else:
            return None
    return data


def _method_name(method: Method) -> str:
    row = next((name for name, row in PAPER_ROWS.items() if row == method), None)
    return row or next(name for name, cls in METHODS.items() if type(method) is cls)


def _cluster_weights(cells: CellDistillation) -> dict[str, float]:
    """Weights that have an effect: none without a cluster term, and none of a 1 x 1 Gram matrix."""
    weights = dict(zip(cells.scales, cells.cluster_scale_weights or (), strict=True)) if cells.cluster_weight else {}
    return {f"s{m}": weight for m, weight in weights.items() if m > 1 or cells.gram != "cells"}


def _base_weights(cells: CellDistillation) -> dict[str, float]:
    """Shares in the base term; without weights every cell counts alike."""
    if not cells.base_weight:
        return {}
    total = sum(scale**2 for scale in cells.scales)
    shares = cells.base_scale_weights or tuple(scale**2 / total for scale in cells.scales)
    return {f"s{scale}": share for scale, share in zip(cells.scales, shares, strict=True)}


def _text(name: str, value: Any) -> str:
    if value is None:
        return "0" if "weight" in name and not name.endswith("weight_decay") else "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list):
        return "+".join(_text(name, item) for item in value) or "none"
    return str(value) if isinstance(value, int | str) else _flat(value)


def _flat(data: Any) -> str:
    if isinstance(data, Mapping):
        return "(" + ",".join(f"{name}={_flat(item)}" for name, item in data.items()) + ")"
    return str(data)
