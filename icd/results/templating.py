"""Writes texts from the templates beside this file: reports, cards, tables."""

from importlib.resources import files
from typing import Any

from icd.text import plural, shown


def rendered(template: str, **values: Any) -> str:
    """Write a template's text; in one for HTML every value is escaped.

    Args:
        template: Its name.
        **values: What it names; ``filters`` holds filters beside ``shown`` and ``plural``.
    """
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    folder = files("icd.results") / "templates"
    environment = Environment(
        loader=FunctionLoader(lambda name: (folder / name).read_text(encoding="utf-8")),
        autoescape=".html." in template,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        comment_start_string="{##",  # LaTeX has {#
    )
    environment.filters |= {"shown": shown, "plural": plural, **values.pop("filters", {})}
    return environment.get_template(template).render(values)
