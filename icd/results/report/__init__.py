"""A sweep's report: one HTML file that needs nothing else, for a phone, a screen and paper."""

import os
import time
from importlib.resources import files
from pathlib import Path

from icd import __version__
from icd.errors import SetupError
from icd.results.report.ablation_part import worth
from icd.results.report.blocks import Page
from icd.results.report.gather import Facts, gather
from icd.results.report.results_part import best_configurations, confirmed, finding
from icd.results.report.search_part import cost, failures, provenance, pruning, searched
from icd.results.report.terms_part import gram_maps, term_shares
from icd.results.report.trials_part import front, learning_curves, slices

__all__ = ["page_of", "rendered", "write_page", "write_report"]

# In reading order; a part that has nothing to say gives None.
_PARTS = (
    finding,
    worth,
    confirmed,
    best_configurations,
    slices,
    learning_curves,
    term_shares,
    gram_maps,
    front,
    searched,
    cost,
    pruning,
    provenance,
    failures,
)


def write_report(root: Path, name: str, output: Path) -> None:
    """Write the report of a sweep, whole or not at all; an older one gives way.

    Args:
        root: Folder of results.
        name: Of the sweep, however it stands.
        output: HTML file to write.

    Raises:
        StateError: If there is no such sweep.
        SetupError: If the file cannot be written.
    """
    write_page(output, page_of(gather(root, name)))


def page_of(facts: Facts) -> Page:
    """Lay out what is known of a sweep."""
    sections = [part(facts) for part in _PARTS]
    created = str(facts.attributes.get("created", "")).replace("T", " ").replace("Z", " UTC")
    written = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
    subtitle = f"Sweep begun {created}; {facts.state}. Written {written} by icd {__version__}."
    return Page(
        title=f"Sweep {facts.name}",
        subtitle=subtitle,
        link=facts.leaderboard,
        sections=[section for section in sections if section is not None],
    )


def rendered(page: Page) -> str:
    """Write a page as HTML; every text is escaped."""
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    folder = files("icd.results.report")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string((folder / "page.html.j2").read_text(encoding="utf-8"))
    style = Markup((folder / "style.css").read_text(encoding="utf-8"))
    return template.render(page=page, style=style).lstrip()


def write_page(output: Path, page: Page) -> None:
    """Write a page, whole or not at all.

    Raises:
        SetupError: If the file cannot be written.
    """
    aside = output.with_name(f".{output.name}.{os.getpid()}.tmp")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        aside.write_text(rendered(page), encoding="utf-8")
        aside.replace(output)
    except OSError as error:
        raise SetupError(f"{output} cannot be written: {error.strerror}") from error
