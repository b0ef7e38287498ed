"""``icd methods``, ``icd models`` and ``icd datasets``: the tables, as they are."""

from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any

import click
import yaml

from icd.cli.main import write_json
from icd.errors import UsageError, did_you_mean

_JSON = click.option("--json", "as_json", is_flag=True, help="Print as JSON.")


@click.command()
@click.argument("name", required=False)
@_JSON
def methods(name: str | None, as_json: bool) -> None:
    """List methods and base losses with their fields and defaults, and the twelve rows of the paper's table.

    With a NAME of any of them: print it as YAML that can stand in a file.
    """
    if name is not None:
        click.echo(_pasted(name), nl=False)
        return
    from icd.config.trial import method_data
    from icd.losses import BASE_LOSSES
    from icd.methods import METHODS, PAPER_ROWS

    rows = {name: method_data(method) for name, method in PAPER_ROWS.items()}
    tables: dict[str, Mapping[str, Any]] = {"method": METHODS, "base_loss": BASE_LOSSES}
    if as_json:
        listed = {
            kind: {name: {"title": cls.title, "fields": _defaults(cls)} for name, cls in table.items()}
            for kind, table in tables.items()
        }
        write_json({**listed, "rows": rows})
        return
    for kind, table in tables.items():
        for name, cls in table.items():
            click.echo(f"{kind} {name}:  # {cls.title}")
            for field, default in _defaults(cls).items():
                click.echo(f"  {field}: {_flow(default)}")
    click.echo("rows of the paper's table:  # method: NAME, or method: {recipe: NAME, field: value}")
    for name, data in rows.items():
        click.echo(f"  {name}: {_flow(_row(data))}")


@click.command()
@_JSON
def models(as_json: bool) -> None:
    """List networks with the size of their feature map."""
    from icd.models import MODELS, feature_size

    listed: dict[str, dict[str, Any]] = {}
    for name, row in MODELS.items():
        sizes = {
            f"{stem} {size} px": list(feature_size(name, stem, size))
            for stem, size in (("conv3x3", 32), ("conv7x7_s2", 224), ("conv7x7_s2_pool", 224))
            if stem in row.stems
        }
        listed[name] = {"summary": row.summary, "paper_name": row.paper_name or name, "features": sizes}
    if as_json:
        write_json(listed)
        return
    for name, entry in listed.items():
        sizes_text = "; ".join(f"{k}: {' x '.join(map(str, v))}" for k, v in entry["features"].items())
        click.echo(f"{name:26s} {entry['summary']} [features {sizes_text}]")


@click.command()
@_JSON
def datasets(as_json: bool) -> None:
    """List data sets with their options."""
    from icd.data import DATASETS

    listed: dict[str, dict[str, Any]] = {
        name: {
            "summary": row.summary,
            "num_classes": row.num_classes,
            "preset": row.preset,
            "needs_path": row.needs_path,
            "options": dict(row.options),
        }
        for name, row in DATASETS.items()
    }
    if as_json:
        write_json(listed)
        return
    for name, entry in listed.items():
        options = "".join(f"  {option}: {default}" for option, default in entry["options"].items())
        click.echo(f"{name:14s} {entry['summary']} [preset {entry['preset']}]{options}")


def _defaults(cls: Any) -> dict[str, Any]:
    from icd.config.trial import plain_data

    found = {}
    for field in fields(cls):
        value = field.default_factory() if field.default_factory is not MISSING else field.default
        found[field.name] = plain_data(value)
    return found


def _pasted(name: str) -> str:
    """Write a method, row or base loss as a file may have it, with what every field means."""
    from icd.config.json_schema import descriptions
    from icd.config.trial import method_data
    from icd.losses import BASE_LOSSES
    from icd.methods import METHODS, PAPER_ROWS

    if name in BASE_LOSSES:
        cls: Any
        data, cls = {"base_loss": {name: _defaults(BASE_LOSSES[name])}}, BASE_LOSSES[name]
    elif name in METHODS or name in PAPER_ROWS:
        method = METHODS[name]() if name in METHODS else PAPER_ROWS[name]
        data, cls = method_data(method), type(method)
    else:
        known = [*PAPER_ROWS, *METHODS, *BASE_LOSSES]
        raise UsageError(f"no method, row or base loss {name!r}; {did_you_mean(name, known)}")
    lines, told = ["method:"], descriptions(cls)
    text = yaml.safe_dump(data, sort_keys=False, default_flow_style=None, width=10_000)
    for line in text.splitlines():
        field = line.strip().partition(":")[0]
        note = f"  # {told[field]}" if field in told else ""
        lines.append(f"  {line}{note}")
    return "\n".join([f"# {cls.title}", *lines]) + "\n"


def _row(data: dict[str, Any]) -> dict[str, Any]:
    shown = ("base_loss", "scales", "ce_weight", "base_weight", "cluster_weight", "warmup_epochs")
    return data if data["name"] != "distill" else {key: data[key] for key in shown if key in data}


def _flow(value: Any) -> str:
    """Write a value as YAML on one line, to be pasted into a file."""
    text = yaml.safe_dump(value, default_flow_style=True, width=1000, sort_keys=False)
    return text.removesuffix("...\n").strip()
