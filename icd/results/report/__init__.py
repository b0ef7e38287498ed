"""A sweep's report: one HTML file that needs nothing else, for a phone, a screen and paper."""

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from icd import __version__
from icd.errors import SetupError
from icd.results import tables
from icd.results.report import figures, rows
from icd.results.report.gather import Facts, gather, label_of
from icd.results.templating import rendered
from icd.results.words import unit_of
from icd.search.study.sweep_index import sweep_folder

__all__ = ["log_report", "page_of", "write_page", "write_report"]


def write_report(root: Path, name: str, output: Path) -> None:
    """Write the report of a sweep, however it stands, whole or not at all; an older one gives way.

    Raises:
        StateError: If there is no such sweep.
        SetupError: If the file cannot be written.
    """
    write_page(output, page_of(gather(root, name)))


def page_of(facts: Facts) -> str:
    """Write what is known of a sweep as HTML; every text is escaped."""
    created = str(facts.attributes.get("created", "")).replace("T", " ").replace("Z", " UTC")
    written = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
    page = rendered(
        "report.html.j2",
        title=f"Sweep {facts.name}",
        subtitle=f"Sweep begun {created}; {facts.state}. Written {written} by icd {__version__}.",
        facts=facts,
        figures=figures,
        tables=tables,
        rows=rows,
        headings=[],
        filters={"yaml": _yaml, "named": label_of, "reached": rows.reached, "unit": unit_of},
    )
    return page.lstrip()


def _yaml(document: Mapping[str, Any]) -> str:
    """Write a sweep's file as it is stored."""
    return yaml.safe_dump(dict(document), sort_keys=False, allow_unicode=True)


def write_page(output: Path, page: str) -> None:
    """Write a page, whole or not at all.

    Raises:
        SetupError: If the file cannot be written.
    """
    aside = output.with_name(f".{output.name}.{os.getpid()}.tmp")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        aside.write_text(page, encoding="utf-8")
        aside.replace(output)
    except OSError as error:
        raise SetupError(f"{output} cannot be written: {error.strerror}") from error


def log_report(root: Path, name: str, deadline_s: float, announce: Callable[[str], None]) -> int:
    """Give MLflow the ``report.html`` of a sweep's folder; returns how many runs it has not taken in time.

    Raises:
        StateError: If a driver runs: it logs a report by itself.
    """
    from icd.search.session import send_missing
    from icd.search.study.locks import driver_lock
    from icd.search.study.sweep_files import sweep_files_of

    folder = sweep_folder(root, name)
    with driver_lock(folder):
        sweep_files_of(folder).publish()
        return send_missing(root, name, deadline_s, announce)
