"""What a cluster lacks: facts of its nodes and of the services that a driver uses, judged."""

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from icd.doctor.diagnosis import Finding, diagnose, judge_service

if TYPE_CHECKING:
    from icd.doctor.ray_facts import ClusterFacts
    from icd.doctor.service_facts import ServiceFacts


class Checked(NamedTuple):
    """A cluster with what was found of it, and what that means."""

    findings: list[Finding]
    cluster: "ClusterFacts"
    services: "dict[str, ServiceFacts]"


def check_cluster(address: str, root: Path, data_root: Path | None, *, timeout_s: float) -> Checked:
    """Look at every node of a cluster, and at the database and MLflow.

    Raises:
        SetupError: If it cannot be joined.
    """
    from icd.doctor.ray_facts import cluster_facts

    services = _services(root)
    facts = cluster_facts(address, root, data_root, timeout_s=timeout_s)
    return Checked(diagnose(facts, services), facts, services)


def check_services(root: Path) -> list[Finding]:
    """Judge the database and the MLflow that this environment names."""
    return [finding for name, facts in _services(root).items() for finding in judge_service(name, facts)]


def _services(root: Path) -> dict[str, "ServiceFacts"]:
    from icd.doctor.service_facts import database_facts, tracking_facts
    from icd.search.study.database import storage_url
    from icd.search.study.sweep_index import tracking_uri

    return {"database": database_facts(storage_url(root)), "MLflow": tracking_facts(tracking_uri(root))}
