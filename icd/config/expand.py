"""Writes a trial's file out: short forms as mappings, a preset's and a row's settings below the file's own."""

from collections.abc import Mapping
from typing import Any

from icd.config.forms import WEIGHTS, full_form
from icd.config.training import PRESETS, preset_fields
from icd.config.trial import method_data
from icd.data import DATASETS
from icd.methods import METHODS, PAPER_ROWS
from icd.models import MODELS


def with_preset(value: Any, images: str, network: Any) -> Any:
    """Lay a training's own fields over its preset's, which is the data set's unless it names one."""
    value = full_form("training", {} if value is None else value)
    if not isinstance(value, dict):
        return value
    row = DATASETS.get(images)
    preset = value.get("preset", row.preset if row else None)
    arch = network.get("arch") if isinstance(network, dict) else network
    own = {name: item for name, item in value.items() if name != "preset"}
    found = preset_fields(_known(preset, PRESETS), MODELS[str(arch)].family if _is_key(arch, MODELS) else "", own)
    return {**found, "augmentation": _tagged("augmentation", found["augmentation"])}


def with_recipe(value: Any) -> Any:
    """Lay a method's own fields over those of the row that it starts from.

    New scales do not keep the weights of the row's scales. Weights may be given by the name of their scale.
    """
    value = full_form("method", value)
    if not isinstance(value, dict):
        return value
    row = value.get("recipe")
    own = {name: item for name, item in value.items() if name != "recipe"}
    start = method_data(PAPER_ROWS[str(row)]) if _is_key(row, PAPER_ROWS) else {"name": "distill"}
    if "scales" in own:
        start = {name: item for name, item in start.items() if name not in WEIGHTS}
    found = {**start, **own}
    for name in WEIGHTS:
        if isinstance(found.get(name), dict):
            found[name] = _in_order(found[name], found.get("scales", [1, 2, 4]))
    return {**found, "base_loss": _tagged("base_loss", found["base_loss"])} if "base_loss" in found else found


def _in_order(weights: Mapping[str, Any], scales: Any) -> Any:
    """Write ``{s1: 0.25, s2: 0.75}`` as the list that goes with the scales."""
    names = [f"s{scale}" for scale in scales] if isinstance(scales, list) else []
    return [weights[name] for name in names] if set(names) == set(weights) else weights


def _tagged(name: str, value: Any) -> Any:
    value = full_form(name, value)
    return {key: {} if inner is None else inner for key, inner in value.items()} if isinstance(value, dict) else value


def _known(name: Any, table: Mapping[str, Any]) -> str:
    return name if _is_key(name, table) else next(iter(table))


def _is_key(name: Any, table: Mapping[str, Any]) -> bool:
    return isinstance(name, str) and name in table


def method_name(value: Any) -> str:
    """Name the class of a method's file value; ``distill`` where that is wrong or absent."""
    name = with_recipe(value).get("name") if isinstance(value, dict | str) else None
    return str(name) if _is_key(name, METHODS) else "distill"
