"""What a machine says of itself, and what it says of a folder that it should share."""

import ast
import importlib.metadata
import json
import subprocess
import sys
from pathlib import Path

import pytest

import icd
from icd.doctor import node_facts
from icd.doctor.gpu_health import driver_rows, product_error
from icd.doctor.node_facts import NodeProbe, look_at_data, try_folder

ROOT = Path(__file__).parents[3]


def test_facts_are_plain_data() -> None:
    facts = NodeProbe().facts(False)
    assert json.loads(json.dumps(facts)) == facts
    assert facts["versions"]["icd"] == icd.__version__
    assert facts["versions"]["ray"] == importlib.metadata.version("ray")
    assert facts["gpus"] == {}
    assert facts["cores"] >= 1
    assert len(facts["source"]) == 12
    assert NodeProbe().facts(False)["source"] == facts["source"]


def test_what_is_sent_to_nodes_needs_pythons_library_alone() -> None:
    tree = ast.parse(Path(node_facts.__file__).read_text())
    top = {name for node in tree.body if isinstance(node, ast.Import) for name in (alias.name for alias in node.names)}
    top |= {str(node.module) for node in tree.body if isinstance(node, ast.ImportFrom)}
    assert {name.partition(".")[0] for name in top} <= sys.stdlib_module_names


def test_a_folder_that_is_shared(tmp_path: Path) -> None:
    (tmp_path / "driver").write_text("word")
    facts = NodeProbe().folder(str(tmp_path), "word", "one")
    assert facts["error"] == ""
    assert facts["milliseconds"] is not None
    assert facts["free_gb"] is not None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["driver", "one"]


def test_a_folder_that_is_another(tmp_path: Path) -> None:
    assert NodeProbe().folder(str(tmp_path / "away"), "word", "one")["error"] == "No such file or directory"
    (tmp_path / "driver").write_text("other")
    assert NodeProbe().folder(str(tmp_path), "word", "one")["error"] == "another folder has that name here"
    assert not (tmp_path / "one").exists()
    assert try_folder(tmp_path / "driver", "one")["error"] == "Not a directory"


def test_data_are_told_apart_by_names_and_sizes(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        (folder / "deep").mkdir(parents=True)
        (folder / "deep" / "b").write_bytes(b"12")
        (folder / "a").write_bytes(b"1")
    one, two = look_at_data(str(first)), look_at_data(str(second))
    assert (one["files"], one["error"]) == (2, "")
    assert one["digest"] == two["digest"]
    (second / "a").write_bytes(b"123")
    assert look_at_data(str(second))["digest"] != one["digest"]
    assert look_at_data(str(tmp_path / "third"))["error"] == "there is no such folder"


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


def test_the_check_of_gpus_is_a_process_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))  # no nvidia-smi
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    done = subprocess.run(
        [sys.executable, "-m", "icd.doctor.gpu_health"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == {"error": "", "driver": [], "torch": []}
