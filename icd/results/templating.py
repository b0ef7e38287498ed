"""Writes texts from the templates beside this file: reports, cards, tables, statements."""

from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from icd.results.words import p_text, signed
from icd.text import plural, shown

if TYPE_CHECKING:
    from jinja2 import Environment


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
