"""Numbers and plain data in words, and texts from the templates in this folder: reports, cards, tables, statements."""

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from icd.search.core.records import TrialRecord
from icd.text import cell_text, plural, shown

if TYPE_CHECKING:
    from jinja2 import Environment

_UNITS = {"top1": "%", "top5": "%", "ece": "%", "seconds": "s"}
_FINEST = 6  # decimals


def measured(metric: str, value: float) -> str:
    """Write a metric's value with its unit."""
    unit = _UNITS.get(metric.rpartition("/")[2], "")
    digits = f"{value:.2f}" if unit == "%" else cell_text(value)
    return f"{digits} {unit}".strip()


def signed(value: float | None) -> str:
    """Write a difference in points with its sign; one that is not 0 has as many decimals as show that."""
    if value is None:
        return "-"
    digits = next((digits for digits in range(2, _FINEST + 1) if round(value, digits)), 2)
    return f"{round(value, digits) + 0.0:+.{digits}f}"


def p_text(p: float, alpha: float) -> str:
    """Write a p-value with as many digits as show on which side of alpha it is."""
    digits = next((n for n in range(2, _FINEST) if (float(f"{p:.{n}g}") <= alpha) == (p <= alpha)), _FINEST)
    return f"{p:.{digits}g}"


def unit_of(metric: str) -> str:
    """What differences of a metric are counted in."""
    return "points" if _UNITS.get(metric.rpartition("/")[2]) == "%" else _UNITS.get(metric.rpartition("/")[2], "")


def flattened(data: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Give a configuration's values by dotted path; lists stay whole."""
    found: dict[str, Any] = {}
    for name, value in data.items():
        path = f"{prefix}{name}"
        found |= flattened(value, f"{path}.") if isinstance(value, Mapping) and value else {path: value}
    return found


def flat_text(value: Any, digits: int = 6) -> str:
    """Write a plain value in one line."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {flat_text(item, digits)}" for name, item in value.items())
    if isinstance(value, list | tuple):
        return f"[{', '.join(flat_text(item, digits) for item in value)}]"
    return f"{value:.{digits}g}" if isinstance(value, float) else "none" if value is None else str(value)


def label_of(record: TrialRecord) -> str:
    """Name a trial in a few words: its number, and its baseline or its choices."""
    choices = [value for value in record.params.values() if isinstance(value, str)]
    words = record.baseline or " ".join(choices[:3])
    return f"trial {record.number} {words}".strip()


def rendered(template: str, **values: Any) -> str:
    """Write a template's text; in one for HTML every value is escaped.

    Of the values ``filters`` holds filters beside ``shown``, ``plural``, ``signed`` and ``p_text``.
    """
    environment = _environment(is_html=".html." in template)
    environment.filters |= values.pop("filters", {})
    return environment.get_template(template).render(values)


@cache
def _environment(*, is_html: bool) -> "Environment":
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    folder = files("icd.results") / "templates"
    environment = Environment(
        loader=FunctionLoader(lambda name: (folder / name).read_text(encoding="utf-8")),
        autoescape=is_html,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        comment_start_string="{##",  # LaTeX has {#
    )
    environment.filters |= {"shown": shown, "plural": plural, "signed": signed, "p_text": p_text}
    return environment
