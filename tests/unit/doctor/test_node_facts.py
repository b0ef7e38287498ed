"""What a machine says of itself."""

import ast
import importlib.metadata
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import icd
from icd.doctor import node_facts
from icd.doctor.gpu_health import driver_rows, product_error

ROOT = Path(__file__).parents[3]


def test_facts_are_plain_data() -> None:
    facts = node_facts.node_facts(False)
    assert json.loads(json.dumps(facts)) == facts
    assert facts["versions"]["icd"] == icd.__version__
    assert facts["versions"]["ray"] == importlib.metadata.version("ray")
    assert facts["gpus"] == {}
    assert len(facts["source"]) == 12
    assert node_facts.node_facts(False)["source"] == facts["source"]


def test_what_is_sent_to_nodes_needs_pythons_library_alone() -> None:
    tree = ast.parse(Path(node_facts.__file__).read_text())
    top = {name for node in tree.body if isinstance(node, ast.Import) for name in (alias.name for alias in node.names)}
    top |= {str(node.module) for node in tree.body if isinstance(node, ast.ImportFrom)}
    assert {name.partition(".")[0] for name in top} <= sys.stdlib_module_names


def test_data_that_are_not_there_are_named(tmp_path: Path) -> None:
    assert node_facts.node_facts(False, str(tmp_path))["data_error"] == ""
    assert node_facts.node_facts(False, "/away")["data_error"] == "/away: there is no such folder"


def test_a_product_on_a_device_is_compared() -> None:
    assert 0 < product_error("cpu") < 1e-5


@pytest.mark.parametrize(
    ("script", "error"),
    [("echo Unable to determine the device handle; exit 15", "ended with code 15: Unable"), ("", "")],
)
def test_a_driver_that_fails_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, error: str) -> None:
    if script:
        (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    if error:
        with pytest.raises(RuntimeError, match=error):
            driver_rows()
    else:
        assert driver_rows() == []


@pytest.mark.parametrize(
    ("parent", "above", "seen"),
    [
        ("bash", b"CUDA_VISIBLE_DEVICES=7\0", "1"),
        ("raylet", b"CUDA_VISIBLE_DEVICES=7\0", "7"),
        ("raylet", b"A=\0", None),
    ],
)
def test_gpus_are_those_of_this_process_but_below_a_raylet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parent: str, above: bytes, seen: str | None
) -> None:
    folder = tmp_path / str(os.getppid())
    folder.mkdir()
    (folder / "comm").write_text(f"{parent}\n")
    (folder / "environ").write_bytes(above)
    monkeypatch.setattr(node_facts, "_PROCESSES", tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert node_facts._raylet_environment().get("CUDA_VISIBLE_DEVICES") == seen


def test_the_check_of_gpus_is_a_process_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))  # no nvidia-smi
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    done = subprocess.run(
        [sys.executable, "-m", "icd.doctor.gpu_health"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == {"error": "", "driver": [], "torch": []}
