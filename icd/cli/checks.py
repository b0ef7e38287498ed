"""``icd doctor | check-plugin``: is this machine, a cluster or a plugin as it must be?"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from icd.cli.format import write
from icd.cli.options import DATA_ROOT, JSON, ROOT, Verb
from icd.errors import ConfigError, Problem, SetupError
from icd.text import columns, plural

if TYPE_CHECKING:
    from icd.doctor.diagnosis import Finding

_SIGNS = {"pass": "ok", "warn": "warn", "fail": "FAIL"}


@click.command(cls=Verb)
@JSON
@ROOT
@click.option("--cluster", is_flag=True, help="Check a Ray cluster: every node, its clock, folder, GPUs, network.")
@click.option("--address", default="auto", show_default=True, help="Check this cluster: auto, or HOST:PORT.")
@DATA_ROOT
@click.option(
    "--timeout",
    type=click.FloatRange(min=1),
    default=120.0,
    show_default=True,
    help="Wait so many seconds for a node.",
)
def doctor(as_json: bool, root: Path, cluster: bool, address: str, data_root: Path | None, timeout: float) -> None:
    """Check versions, imports, devices and write permission; exits with 3 if something needs doing."""
    from icd.doctor.diagnosis import worst

    if cluster:
        from icd.doctor.cluster import check_cluster

        address, findings = check_cluster(address, root, data_root, timeout_s=timeout)
        lines = cluster_lines(address, findings)
    else:
        from icd.doctor.machine import check_machine

        findings = check_machine(root)
        lines = [f"{_SIGNS[item.level]:4s} {item.check:13s} {_told(item)}" for item in findings]
    told = {"ok": worst(findings) != "fail", "findings": [finding._asdict() for finding in findings]}
    write(told, lines, as_json=as_json)
    failed = [f"{item.check} ({item.where})" if cluster else item.check for item in findings if item.level == "fail"]
    if failed:
        raise SetupError(f"needs attention: {', '.join(dict.fromkeys(failed))}")


def cluster_lines(address: str, findings: "Sequence[Finding]") -> list[str]:
    """Write findings for people."""
    checks = list(dict.fromkeys(finding.check for finding in findings))
    names = list(dict.fromkeys(finding.where for finding in findings))
    rows = [[where, *(_sign(findings, where, check) for check in checks)] for where in names]
    nodes = len({finding.where for finding in findings if finding.check == "answers"})
    table = columns(["", *checks], rows, left=["", *checks])
    problems = [finding for level in ("fail", "warn") for finding in findings if finding.level == level]
    told = [f"{_SIGNS[item.level]:4s}  {item.check}  {item.where}: {_told(item)}" for item in problems]
    return [f"cluster at {address}: {plural(nodes, 'node')}", "", *table, "", *(told or ["nothing needs doing"])]


def _told(finding: "Finding") -> str:
    return f"{finding.text}; {finding.advice}" if finding.advice else finding.text


def _sign(findings: "Sequence[Finding]", where: str, check: str) -> str:
    from icd.doctor.diagnosis import worst

    here = [finding for finding in findings if (finding.where, finding.check) == (where, check)]
    return _SIGNS[worst(here)] if here else "-"


@click.command(cls=Verb, name="check-plugin")
@click.argument("file")
@click.option("--data-root", type=click.Path(path_type=Path), help="Folder of data sets, for those that it registers.")
@click.option("--data-path", help="File or folder below it, for data sets that need one.")
@click.option("--image-size", type=click.IntRange(min=1), help="Of the images that its networks take.")
@JSON
def check_plugin(
    file: str, data_root: Path | None, data_path: str | None, image_size: int | None, as_json: bool
) -> None:
    """Import FILE, a plugin or the name of an installed module, and check everything that it registers.

    Says in plain words what fails, and ends with 2 then. The checks are those of ``icd.testing``.
    """
    from icd import testing
    from icd.plugins import resolve

    where = {"data_root": data_root, "data_path": data_path, "image_size": image_size}
    found = testing.check_plugin(resolve(file, Path.cwd()), **where)  # type: ignore[arg-type]
    lines = []
    for item in found:
        verdict = f"{len(item.failed)} of its checks fail" if item.failed else item.skipped or "passes"
        lines.append(f"{item.what} {item.name}: {verdict}")
    write([item._asdict() for item in found], lines, as_json=as_json)
    failed = [(item, line) for item in found for line in item.failed]
    if failed:
        raise ConfigError(
            Problem(source=item.source or Path(file).name, line=item.line, path=f"{item.what} {item.name}", rule=rule)
            for item, rule in failed
        )
