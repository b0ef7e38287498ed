"""A trial in one flat row of text, with the same columns for every trial of a sweep.

MLflow's compare page draws a missing value at the end of its axis, so nothing may be missing: an absent weight is 0,
anything else that a trial does not have is ``none``.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from icd.config.coverage import dimensions
from icd.config.sampling import fields_below, is_node, method_mapping, method_start, scales_of
from icd.config.sweep import Branches, Choice, ScaleWeights
from icd.config.trial import TrialConfig, plain_data
from icd.losses import BASE_LOSSES
from icd.methods import METHODS, PAPER_ROWS, CellDistillation, Method

_SHOWN = ("base_loss", "scales", "scale_weights", "base_scale_weights", "cluster_weight", "cluster_temperature")


class DenseView:
    """Knows the columns of a sweep."""

    def __init__(
        self, fixed: Mapping[str, Any], space: Mapping[str, Any], baselines: Sequence[TrialConfig] = ()
    ) -> None:
        groups = list(_groups(fixed, space))
        sampled = {scale for nodes, start in groups for scale in _menu(nodes, start)}
        known = {scale for config in baselines for scale in getattr(config.method, "scales", ())}
        self.menu = sorted(sampled | known)
        self.base_weights = any(isinstance(nodes.get("base_scale_weights"), ScaleWeights) for nodes, _ in groups)
        self.loss_fields = sorted(
            {
                (loss, field)
                for nodes, _ in groups
                for loss, fields in _losses(nodes.get("base_loss")).items()
                for field, node in fields.items()
                if is_node(node)
            }
        )
        self.fields = sorted({name for nodes, _ in groups for name in nodes if name not in _SHOWN})
        names = [row.name for row in dimensions(fixed, space)]
        self.protocol = [name.partition(".")[2] for name in names if name.startswith("protocol.")]

    def row(self, config: TrialConfig) -> dict[str, str]:
        """Give the row of a trial."""
        method = config.method
        cells = method if isinstance(method, CellDistillation) else None
        loss = next((name for name, cls in BASE_LOSSES.items() if cells and type(cells.base_loss) is cls), "none")
        row = {
            "teacher": config.teacher.arch if config.teacher else "none",
            "student": config.student.arch,
            "method": _method_name(method),
            "base_loss": loss,
            "scales": "+".join(f"s{scale}" for scale in cells.scales) if cells else "none",
        }
        row |= self._weights("scale_weights", cells, _cluster_weights(cells))
        if self.base_weights:
            row |= self._weights("base_scale_weights", cells, _base_weights(cells))
        row["cluster_weight"] = _text("cluster_weight", getattr(method, "cluster_weight", None))
        row["cluster_temperature"] = _text("cluster_temperature", getattr(method, "cluster_temperature", None))
        for name, field in self.loss_fields:
            value = getattr(cells.base_loss, field) if cells and loss == name else None
            row[f"{name}.{field}"] = _text(field, value)
        row |= {name: _text(name, getattr(method, name, None)) for name in self.fields}
        for name in self.protocol:
            if name not in ("lr", "epochs", "preset"):
                row[f"protocol.{name}"] = _text(name, getattr(config.protocol, name))
        protocol = config.protocol
        return row | {"lr": _text("lr", protocol.lr), "epochs": str(protocol.epochs), "seed": f"seed{config.seed}"}

    def _weights(self, name: str, cells: CellDistillation | None, weights: Mapping[int, float]) -> dict[str, str]:
        return {f"{name}.s{scale}": _text(name, weights.get(scale, 0.0)) for scale in self.menu}


def _groups(fixed: Mapping[str, Any], space: Mapping[str, Any]) -> list[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """Give the sampled fields of each method, beside the rest of that method's document."""
    if "method" in space:
        branches: Branches = space["method"]
        return [
            ({field: node for field, node in fields.items() if is_node(node)}, method_start(label, fields))
            for label, fields in branches.fields.items()
        ]
    return [(fields_below(space, "method"), method_mapping(fixed.get("method")))]


def _menu(nodes: Mapping[str, Any], start: Mapping[str, Any]) -> tuple[int, ...]:
    node = nodes.get("scales")
    if isinstance(node, Choice):
        return tuple(scale for option in node.options for scale in option)
    name = start.get("row") or start.get("name", "distill")
    cls = METHODS[name] if name in METHODS else type(PAPER_ROWS[name])
    return scales_of(start) if cls is CellDistillation else ()


def _losses(node: Any) -> Mapping[str, Mapping[str, Any]]:
    return node.fields if isinstance(node, Branches) else {}


def _method_name(method: Method) -> str:
    row = next((name for name, row in PAPER_ROWS.items() if row == method), None)
    return row or next(name for name, cls in METHODS.items() if type(method) is cls)


def _cluster_weights(cells: CellDistillation | None) -> dict[int, float]:
    """Weights that have an effect: none without a cluster term, and none of a 1 x 1 Gram matrix."""
    if cells is None or not cells.cluster_weight:
        return {}
    weights = dict(zip(cells.scales, cells.scale_weights or (), strict=True))
    return {scale: weight for scale, weight in weights.items() if scale > 1 or cells.gram != "cells"}


def _base_weights(cells: CellDistillation | None) -> dict[int, float]:
    """Shares in the base term; without weights every cell counts alike."""
    if cells is None or not cells.base_weight:
        return {}
    total = sum(scale**2 for scale in cells.scales)
    shares = cells.base_scale_weights or tuple(scale**2 / total for scale in cells.scales)
    return dict(zip(cells.scales, shares, strict=True))


def _text(name: str, value: Any) -> str:
    if value is None:
        return "0" if "weight" in name and name != "weight_decay" else "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, tuple):
        return "+".join(_text(name, item) for item in value) or "none"
    return str(value) if isinstance(value, int | str) else _flat(plain_data(value))


def _flat(data: Any) -> str:
    if isinstance(data, Mapping):
        return "(" + ",".join(f"{name}={_flat(item)}" for name, item in data.items()) + ")"
    return str(data)
