"""What is made of facts: every finding that can be, and none where all is well."""

import json
import math
from typing import Any

import pytest

from icd.cli.checks import cluster_lines as lines_of
from icd.doctor.diagnosis import Finding, floors, judge_clock, judge_gpus, judge_limits, judge_node, worst
from icd.doctor.gpu_health import parse_rows
from icd.doctor.machine import gpus_here

VERSIONS = {
    "Python": "3.11.9",
    "torch": "2.14.1+cu130",
    "torchvision": "0.29.2",
    "ray": "2.60.0",
    "optuna": "5.0.0",
    "mlflow": "3.17.2",
    "icd": "0.1.0",
}
FACTS: Any = {
    "versions": VERSIONS,
    "source": "abc",
    "files_limit": 65536,
    "gpus": {
        "error": "",
        "driver": [{"name": "A100", "ecc_errors": 0}],
        "torch": [{"name": "A100", "error": "", "total_mb": 40960, "free_mb": 40000, "product_error": 1e-6}],
    },
    "data_error": "",
}
DRIVER: Any = {**FACTS, "gpus": {}}


def node(*path: object, value: object) -> Any:
    """Give the good node with one fact changed."""
    changed = json.loads(json.dumps(FACTS))
    inner: Any = changed
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = value
    return changed


def judged(facts: Any, driver: Any = DRIVER, gpus: float = 1.0) -> list[Finding]:
    return list(judge_node("one", facts, driver, gpus=gpus))


def problems(found: list[Finding]) -> list[Finding]:
    return [finding for finding in found if finding.level != "pass"]


def test_a_node_that_is_well() -> None:
    found = judged(FACTS)
    assert problems(found) == []
    assert worst(found) == "pass"
    assert [finding.check for finding in found] == ["versions", "limits", "gpu"]
    assert "nothing needs doing" in lines_of("10.0.0.1:6379", found)


def version(package: str, value: str) -> Any:
    return node("versions", package, value=value)


AWAY = "/data: there is no such folder"
CASES: dict[str, tuple[Any, str, str, str]] = {
    "no icd": (version("icd", "cannot be imported: x"), "versions", "fail", "cannot be imported: x"),
    "other icd": (version("icd", "0.0.9"), "versions", "fail", "icd 0.0.9, but the driver has 0.1.0"),
    "other source": (node("source", value="def"), "versions", "fail", "other source: def, here abc"),
    "python": (version("Python", "3.12.1"), "versions", "fail", "Python 3.12.1, but the driver has 3.11.9"),
    "python's patch": (version("Python", "3.11.8"), "versions", "warn", "Python 3.11.8"),
    "ray": (version("ray", "2.59.0"), "versions", "fail", "ray 2.59.0, but the driver has 2.60.0"),
    "no torch": (version("torch", "missing"), "versions", "fail", "torch missing"),
    "torch": (version("torch", "2.13.0+cu130"), "versions", "fail", "torch 2.13.0+cu130"),
    "torch's build": (version("torch", "2.14.1+cpu"), "versions", "warn", "torch 2.14.1+cpu"),
    "torchvision": (version("torchvision", "0.28.0"), "versions", "fail", "torchvision 0.28.0"),
    "optuna": (version("optuna", "missing"), "versions", "warn", "optuna missing"),
    "mlflow": (version("mlflow", "3.18.0"), "versions", "warn", "mlflow 3.18.0"),
    "no data": (node("data_error", value=AWAY), "data", "fail", "no such folder"),
    "files": (node("files_limit", value=1024), "limits", "warn", "1024 files only"),
    "gpu check": (node("gpus", "error", value="nvidia-smi hangs"), "gpu", "fail", "nvidia-smi hangs"),
    "gpus missing": (node("gpus", "torch", value=[]), "gpu", "fail", "torch sees 0 of 1 GPUs"),
    "ecc": (node("gpus", "driver", 0, "ecc_errors", value=3), "gpu", "fail", "3 uncorrected"),
    "gpu fails": (node("gpus", "torch", 0, "error", value="out of memory"), "gpu", "fail", "cuda:0 (A100): out of"),
    "no product": (node("gpus", "torch", 0, "product_error", value=math.nan), "gpu", "fail", "off by nan"),
    "wrong product": (node("gpus", "torch", 0, "product_error", value=0.5), "gpu", "fail", "off by 5.0e-01"),
    "gpu in use": (node("gpus", "torch", 0, "free_mb", value=20000), "gpu", "warn", "19.5 of 40.0 GB free"),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_one_problem(case: tuple[Any, str, str, str]) -> None:
    facts, check, level, text = case
    (finding,) = problems(judged(facts))
    assert (finding.check, finding.where, finding.level) == (check, "one", level)
    assert text in finding.text
    assert finding.advice
    said = "\n".join(lines_of("10.0.0.1:6379", judged(facts)))
    assert f"{'FAIL' if level == 'fail' else 'warn'}  {check}  one: {finding.text}; {finding.advice}" in said


def test_versions_below_their_floors() -> None:
    old = version("ray", "2.52.0")
    for found in (floors("one", old), problems(judged(old, old))):
        (finding,) = found
        assert (finding.where, finding.level) == ("one", "fail")
        assert "CVE-2026-27482" in finding.text


@pytest.mark.parametrize(
    ("skew", "limit", "level"),
    [(0.01, 0.001, "pass"), (-2.0, 0.001, "warn"), (61.0, 0.001, "fail"), (1.4, 0.5, "pass"), (-1.4, 0.5, "pass")],
)
def test_a_clock_that_is_read_badly_is_not_called_wrong(skew: float, limit: float, level: str) -> None:
    finding = judge_clock("one", skew, limit)
    assert (finding.level, bool(finding.advice)) == (level, level != "pass")
    assert f"{skew:+.3f} s" in finding.text
    assert f"{1000 * limit:.1f} ms" in finding.text


def test_a_table_of_nodes_and_checks() -> None:
    answers = [Finding("answers", "one", "pass", "to every question"), Finding("answers", "two", "fail", "none", "x")]
    table = lines_of("10.0.0.1:6379", [Finding("token", "cluster", "pass", ""), *answers, *judged(FACTS)])
    assert table[0] == "cluster at 10.0.0.1:6379: 2 nodes"
    assert table[2].split() == ["token", "answers", "versions", "limits", "gpu"]
    rows = {line.split()[0]: line.split()[1:] for line in table[3:6]}
    assert rows["two"] == ["-", "FAIL", *["-"] * 3]
    assert rows["one"] == ["-", *["ok"] * 4]


def test_data_that_nobody_has_may_not_be_needed() -> None:
    (finding,) = problems(judged(node("data_error", value=AWAY), {**DRIVER, "data_error": AWAY}))
    assert (finding.check, finding.where, finding.level) == ("data", "one", "warn")
    assert finding.text == AWAY


def test_no_gpus_are_no_fault() -> None:
    assert problems(judged(node("gpus", value={}), gpus=0.0)) == []


def test_one_machine_is_judged_by_the_same_rules() -> None:
    facts: Any = {**FACTS, "files_limit": -1}  # no limit
    assert judge_limits("here", facts).level == "pass"
    assert [finding.text for finding in judge_gpus("here", 0, facts)] == ["none"]


@pytest.mark.parametrize("hidden", [None, "", "0"])
def test_gpus_that_the_driver_lists_and_torch_does_not_see_are_told(
    monkeypatch: pytest.MonkeyPatch, hidden: str | None
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if hidden is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    facts = node("gpus", "torch", value=[])
    facts["gpus"]["driver"][0]["ecc_errors"] = 3
    found = [finding.text for finding in gpus_here(facts)]
    told = ["torch sees 0 of 1 GPUs", "GPU 0 (A100): 3 uncorrected memory errors"]
    assert found == (["none"] if hidden == "" else told)
    assert gpus_here(FACTS)[0].level == "pass"


def test_rows_of_the_driver() -> None:
    rows = parse_rows("NVIDIA H200, 0\n\nTesla T4, [N/A]\n")
    assert rows == [{"name": "NVIDIA H200", "ecc_errors": 0}, {"name": "Tesla T4", "ecc_errors": None}]
    with pytest.raises(ValueError, match="unpack"):
        parse_rows("No devices were found")
