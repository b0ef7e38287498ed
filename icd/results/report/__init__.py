"""A sweep's report: one HTML file that needs nothing else, for a phone, a screen and paper."""

import json
import time
from pathlib import Path

from icd import __version__
from icd.config.yaml import yaml_text
from icd.results import tables
from icd.results.report import figures
from icd.results.report.charts import differences_chart
from icd.results.report.gather import Facts, gather
from icd.results.words import label_of, measured, rendered, unit_of
from icd.search.core.dead_terms import dead_kinds
from icd.search.core.device_usage import device_hours, mixed_cost, uses
from icd.search.sweep_status import counts_of
from icd.storage.durable import write_durably

__all__ = ["page_of", "write_report"]


def write_report(root: Path, name: str, output: Path) -> None:
    """Write the report of a sweep, however it stands, whole or not at all; an older one gives way.

    Raises:
        StateError: If there is no such sweep.
        SetupError: If the file cannot be written.
    """
    write_durably(output, page_of(gather(root, name)).encode(), parents=True)


def page_of(facts: Facts) -> str:
    """Write what is known of a sweep as HTML; every text is escaped."""
    created = str(facts.attributes.get("created", "")).replace("T", " ").replace("Z", " UTC")
    written = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
    attributes, space = facts.attributes, json.loads(facts.attributes["space"])
    page = rendered(
        "report.html.j2",
        title=f"Sweep {facts.name}",
        created=created,
        written=written,
        version=__version__,
        facts=facts,
        counts=counts_of(facts.records),
        dead=dead_kinds(facts.records),
        mixed_cost=mixed_cost(facts.metrics, uses(facts.records)),
        cpu_hours=device_hours(facts.records, "cpus", facts.sweep["resources"]["cpus_per_trial"]),
        document=yaml_text(json.loads(attributes["document"]), allow_unicode=True),
        searched=[[row["name"], row["values"], row["condition"]] for row in space["searched"]],
        teachers=[[f"teacher {json.loads(name)['arch']}", own] for name, own in attributes.get("teachers", {}).items()],
        figures=figures,
        differences_chart=differences_chart,
        tables=tables,
        headings=[],
        filters={"named": label_of, "measured": measured, "unit": unit_of},
    )
    return page.lstrip()
