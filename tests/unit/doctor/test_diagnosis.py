"""What is made of facts: every finding that can be, and none where all is well."""

import json
from typing import Any

import pytest

from icd.cli.machine import cluster_lines as lines_of
from icd.doctor.diagnosis import Finding, diagnose, judge_gpus, judge_limits, judge_service, worst
from icd.doctor.gpu_health import parse_rows

VERSIONS = {"torch": "2.14.1+cu130", "torchvision": "0.29.2", "ray": "2.60.0", "optuna": "5.0.0", "mlflow": "3.17.2"}
FACTS: dict[str, Any] = {
    "host": "one",
    "python": "3.11.9",
    "versions": {**VERSIONS, "icd": "0.1.0"},
    "source": "abc",
    "files_limit": 65536,
    "cores": 8,
    "shm_gb": 8.0,
    "gpus": {
        "error": "",
        "driver": [{"name": "A100", "total_mb": 40960, "free_mb": 40000, "ecc_errors": 0}],
        "torch": [{"name": "A100", "error": "", "total_mb": 40960, "free_mb": 40000, "product_error": 1e-6}],
    },
}
DATA: dict[str, Any] = {"path": "/data", "error": "", "files": 3, "digest": "d"}
NODE: dict[str, Any] = {
    "address": "10.0.0.2",
    "gpus": 1.0,
    "object_store_gb": 2.0,
    "error": "",
    "facts": FACTS,
    "skew_s": 0.01,
    "skew_limit_s": 0.001,
    "folder": {"path": "/shared", "error": "", "free_gb": 100.0, "milliseconds": 5.0},
    "seen_here": True,
    "data": DATA,
}
CLUSTER: Any = {
    "address": "10.0.0.1:6379",
    "open": False,
    "token_mode": 0o600,
    "root": "/shared",
    "root_error": "",
    "driver": {**FACTS, "gpus": {}},
    "data": DATA,
    "nodes": {"one": NODE},
}
SERVICE: Any = {"where": "postgresql://db/icd", "error": "", "milliseconds": 2.0, "filesystem": ""}


def fresh() -> Any:
    """Give the good cluster; no two parts of it are one object."""
    return json.loads(json.dumps(CLUSTER))


def cluster(*path: object, value: object) -> Any:
    """Give the good cluster with one fact changed."""
    changed = fresh()
    inner: Any = changed
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = value
    return changed


def node(*path: object, value: object) -> Any:
    return cluster("nodes", "one", *path, value=value)


def problems(found: list[Finding]) -> list[Finding]:
    return [finding for finding in found if finding.level != "pass"]


def test_a_cluster_that_is_well() -> None:
    found = diagnose(CLUSTER, {"database": SERVICE, "MLflow": SERVICE})
    assert problems(found) == []
    assert worst(found) == "pass"
    checks = {(finding.check, finding.where) for finding in found}
    assert checks == {
        *(("token", "cluster"), ("database", "driver"), ("MLflow", "driver")),
        *((check, "one") for check in ("answers", "versions", "clock", "root", "data", "limits", "gpu")),
    }
    assert "nothing needs doing" in lines_of("10.0.0.1:6379", found)


def version(package: str, value: str) -> Any:
    return node("facts", "versions", package, value=value)


GPU = ("facts", "gpus", "torch", 0)
CASES: dict[str, tuple[Any, str, str, str, str]] = {
    "open": (cluster("open", value=True), "token", "cluster", "fail", "everybody who reaches it"),
    "unknown": (cluster("open", value=None), "token", "cluster", "warn", "could not be found out"),
    "token for others": (cluster("token_mode", value=0o644), "token", "driver", "fail", "mode 0644"),
    "token for a group": (cluster("token_mode", value=0o640), "token", "driver", "fail", "mode 0640"),
    "driver's root": (cluster("root_error", value="Permission denied"), "root", "driver", "fail", "Permission denied"),
    "no answer": (node("error", value="no answer for 120 s"), "answers", "one", "fail", "no answer for 120 s"),
    "no icd": (version("icd", "cannot be imported: x"), "versions", "one", "fail", "cannot be imported: x"),
    "other icd": (version("icd", "0.0.9"), "versions", "one", "fail", "icd 0.0.9, but the driver has 0.1.0"),
    "other source": (node("facts", "source", value="def"), "versions", "one", "fail", "other source: def, here abc"),
    "python": (node("facts", "python", value="3.12.1"), "versions", "one", "fail", "Python 3.12.1"),
    "python's patch": (node("facts", "python", value="3.11.8"), "versions", "one", "warn", "Python 3.11.8"),
    "ray": (version("ray", "2.59.0"), "versions", "one", "fail", "ray 2.59.0, but the driver has 2.60.0"),
    "no torch": (version("torch", "missing"), "versions", "one", "fail", "torch missing"),
    "torch": (version("torch", "2.13.0+cu130"), "versions", "one", "fail", "torch 2.13.0+cu130"),
    "torch's build": (version("torch", "2.14.1+cpu"), "versions", "one", "warn", "torch 2.14.1+cpu"),
    "torchvision": (version("torchvision", "0.28.0"), "versions", "one", "fail", "torchvision 0.28.0"),
    "optuna": (version("optuna", "missing"), "versions", "one", "warn", "optuna missing"),
    "mlflow": (version("mlflow", "3.18.0"), "versions", "one", "warn", "mlflow 3.18.0"),
    "clock": (node("skew_s", value=-2.0), "clock", "one", "warn", "-2.000 s"),
    "clock far off": (node("skew_s", value=61.0), "clock", "one", "fail", "+61.000 s"),
    "no folder": (node("folder", "error", value="No such file"), "root", "one", "fail", "/shared: No such file"),
    "not seen": (node("seen_here", value=False), "root", "one", "fail", "the driver does not see"),
    "no room": (node("folder", "free_gb", value=0.9), "root", "one", "fail", "0.9 GB free"),
    "slow folder": (node("folder", "milliseconds", value=1500.0), "root", "one", "warn", "1500 ms"),
    "no data": (node("data", "error", value="there is no such folder"), "data", "one", "fail", "no such folder"),
    "other data": (node("data", "digest", value="e"), "data", "one", "fail", "but the driver has 3 files, d"),
    "no data here": (cluster("data", "error", value="there is no such folder"), "data", "one", "warn", "the driver:"),
    "files": (node("facts", "files_limit", value=1024), "limits", "one", "warn", "1024 files only"),
    "shared memory": (node("facts", "shm_gb", value=0.064), "limits", "one", "warn", "/dev/shm has 0.06 GB"),
    "gpu check": (node("facts", "gpus", "error", value="nvidia-smi hangs"), "gpu", "one", "fail", "nvidia-smi hangs"),
    "gpus missing": (node("gpus", value=2.0), "gpu", "one", "fail", "Ray has 2 GPUs, torch sees 1"),
    "ecc": (node("facts", "gpus", "driver", 0, "ecc_errors", value=3), "gpu", "one", "fail", "3 uncorrected"),
    "gpu fails": (node(*GPU, "error", value="out of memory"), "gpu", "one", "fail", "cuda:0 (A100): out of memory"),
    "wrong product": (node(*GPU, "product_error", value=0.5), "gpu", "one", "fail", "off by 5.0e-01"),
    "no product": (node(*GPU, "product_error", value=float("nan")), "gpu", "one", "fail", "off by nan"),
    "gpu in use": (node(*GPU, "free_mb", value=20000), "gpu", "one", "warn", "19.5 of 40.0 GB free"),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_one_problem(case: tuple[Any, str, str, str, str]) -> None:
    facts, check, where, level, text = case
    (finding,) = problems(diagnose(facts, {}))
    assert (finding.check, finding.where, finding.level) == (check, where, level)
    assert text in finding.text
    assert finding.advice
    said = "\n".join(lines_of("10.0.0.1:6379", diagnose(facts, {})))
    assert f"{'FAIL' if level == 'fail' else 'warn'}  {check}  {where}: {finding.text}; {finding.advice}" in said


def test_versions_below_their_floors() -> None:
    facts = fresh()
    for versions in (facts["driver"]["versions"], facts["nodes"]["one"]["facts"]["versions"]):
        versions["ray"] = "2.52.0"
    found = problems(diagnose(facts, {}))
    assert [(finding.where, finding.level) for finding in found] == [("driver", "fail"), ("one", "fail")]
    assert all("CVE-2026-27482" in finding.text for finding in found)


@pytest.mark.parametrize("skew", [1.4, -1.4])
def test_a_clock_that_is_read_badly_is_not_called_wrong(skew: float) -> None:
    facts = node("skew_s", value=skew)
    facts["nodes"]["one"]["skew_limit_s"] = 0.5
    assert problems(diagnose(facts, {})) == []
    assert any(f"{skew:+.3f} s" in finding.text and "500.0 ms" in finding.text for finding in diagnose(facts, {}))


def test_a_node_that_says_nothing_has_one_finding() -> None:
    silent = {**NODE, "error": "no answer for 5 s", "facts": None, "folder": None, "data": None}
    silent |= {"skew_s": None, "skew_limit_s": None, "seen_here": False}
    facts: Any = {**CLUSTER, "nodes": {"one": NODE, "two": silent}}
    found = diagnose(facts, {})
    assert [finding.check for finding in found if finding.where == "two"] == ["answers"]
    table = lines_of("10.0.0.1:6379", found)
    assert table[0] == "cluster at 10.0.0.1:6379: 2 nodes"
    assert table[2].split() == ["token", "answers", "versions", "limits", "gpu", "clock", "root", "data"]
    rows = {line.split()[0]: line.split()[1:] for line in table[3:6]}
    assert rows["two"] == ["-", "FAIL", *["-"] * 6]
    assert rows["one"] == ["-", *["ok"] * 7]


def test_data_that_nobody_has_may_not_be_needed() -> None:
    facts = cluster("data", "error", value="there is no such folder")
    facts["nodes"]["one"]["data"] = {**DATA, "error": "there is no such folder"}
    (finding,) = problems(diagnose(facts, {}))
    assert (finding.check, finding.where, finding.level) == ("data", "one", "warn")
    assert finding.text == "/data: there is no such folder, on the driver neither"
    assert "for data of your own" in finding.advice


def test_no_gpus_are_no_fault() -> None:
    facts = node("gpus", value=0.0)
    facts["nodes"]["one"]["facts"]["gpus"] = {}
    assert problems(diagnose(facts, {})) == []


@pytest.mark.parametrize(
    ("change", "level", "text"),
    [
        ({}, "pass", "answers in 2.0 ms"),
        ({"milliseconds": None, "filesystem": "ext4"}, "pass", "postgresql://db/icd"),
        ({"error": "permission denied for schema public"}, "fail", "permission denied"),
        ({"filesystem": "nfs4"}, "warn", "on nfs4"),
        ({"filesystem": "fuse.sshfs"}, "warn", "on fuse.sshfs"),
        ({"milliseconds": 80.0}, "warn", "80.0 ms"),
    ],
)
def test_services(change: dict[str, Any], level: str, text: str) -> None:
    service: Any = {**SERVICE, **change}
    (finding,) = judge_service("database", service)
    assert (finding.check, finding.where, finding.level) == ("database", "driver", level)
    assert text in finding.text
    assert bool(finding.advice) == (level != "pass")


def test_one_machine_is_judged_by_the_same_rules() -> None:
    facts: Any = {**FACTS, "shm_gb": None, "files_limit": -1}  # no /dev/shm; no limit
    assert [finding.level for finding in judge_limits("here", facts, 1.0)] == ["pass"]
    assert [finding.text for finding in judge_gpus("here", 0, facts)] == ["none"]


def test_rows_of_the_driver() -> None:
    rows = parse_rows("NVIDIA H200, 143771, 143000, 0\n\nTesla T4, 15360, 15000, [N/A]\n")
    assert rows == [
        {"name": "NVIDIA H200", "total_mb": 143771, "free_mb": 143000, "ecc_errors": 0},
        {"name": "Tesla T4", "total_mb": 15360, "free_mb": 15000, "ecc_errors": None},
    ]
    with pytest.raises(ValueError, match="argument"):
        parse_rows("No devices were found")
