"""Sweeps side by side as a page."""

from collections.abc import Mapping

from icd import __version__
from icd.results.compare import Comparison
from icd.results.report.blocks import Page, Section, Table, Text


def comparison_page(found: Comparison) -> Page:
    """Lay out a comparison."""
    warnings = [Text(words, "warning") for words in found.warnings]
    fair = [Text("Same images, same split, same objective and same teachers.")]
    sections = [
        Section("May they be compared", warnings or fair),
        Section("What they found", [_table("Figures", found, found.figures)]),
        Section("What differs", [_table("Differences", found, found.differences)]),
    ]
    title = " / ".join(found.names)
    return Page(title=f"Sweeps {title}", subtitle=f"Compared by icd {__version__}.", sections=sections)


def _table(caption: str, found: Comparison, rows: Mapping[str, tuple[str, ...]]) -> Table:
    return Table(caption=caption, headers=["", *found.names], rows=[[row, *cells] for row, cells in rows.items()])
