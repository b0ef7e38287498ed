"""``icd doctor --cluster``: a table of nodes and checks, then what is wrong, where, and what to do."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from icd.cli.diagnosis import Finding, diagnose, judge_service, worst
from icd.cli.main import write_json
from icd.cli.show import columns
from icd.errors import SetupError

if TYPE_CHECKING:
    from icd.search.service_facts import ServiceFacts

_SIGNS = {"pass": "ok", "warn": "warn", "fail": "FAIL"}


def check_cluster(address: str, root: Path, data_root: Path | None, *, timeout_s: float, as_json: bool) -> None:
    """Look at a cluster, print what was found.

    Raises:
        SetupError: If it cannot be joined, or something needs doing.
    """
    from icd.search.ray_facts import cluster_facts

    services = _services(root)
    facts = cluster_facts(address, root, data_root, timeout_s=timeout_s)
    findings = diagnose(facts, services)
    if as_json:
        told = [finding._asdict() for finding in findings]
        write_json({"ok": worst(findings) != "fail", "findings": told, "cluster": facts, "services": services})
    else:
        click.echo("\n".join(lines_of(facts["address"], findings)))
    bad = [finding for finding in findings if finding.level == "fail"]
    if bad:
        named = ", ".join(dict.fromkeys(f"{finding.check} ({finding.where})" for finding in bad))
        raise SetupError(f"needs attention: {named}")


def check_services(root: Path) -> list[Finding]:
    """Judge the database and the MLflow that this environment names."""
    return [finding for name, facts in _services(root).items() for finding in judge_service(name, facts)]


def _services(root: Path) -> dict[str, "ServiceFacts"]:
    from icd.search.service_facts import database_facts, tracking_facts
    from icd.search.storage import storage_url
    from icd.search.studies import tracking_uri

    return {"database": database_facts(storage_url(root)), "MLflow": tracking_facts(tracking_uri(root))}


def lines_of(address: str, findings: Sequence[Finding]) -> list[str]:
    """Write findings for people."""
    checks = list(dict.fromkeys(finding.check for finding in findings))
    places = list(dict.fromkeys(finding.where for finding in findings))
    rows = [[place, *(_sign(findings, place, check) for check in checks)] for place in places]
    nodes = len({finding.where for finding in findings if finding.check == "answers"})
    lines = [
        f"cluster at {address}: {nodes} node{'s' * (nodes != 1)}",
        "",
        *columns(["", *checks], rows, left=["", *checks]),
    ]
    problems = [finding for finding in findings if finding.level != "pass"]
    lines += [""] if problems else ["", "nothing needs doing"]
    for level in ("fail", "warn"):
        for finding in problems:
            if finding.level == level:
                advice = f"; {finding.advice}" if finding.advice else ""
                lines.append(f"{_SIGNS[level]:4s}  {finding.check}  {finding.where}: {finding.text}{advice}")
    return lines


def _sign(findings: Sequence[Finding], place: str, check: str) -> str:
    here = [finding for finding in findings if (finding.where, finding.check) == (place, check)]
    return _SIGNS[worst(here)] if here else "-"
