"""``icd doctor --cluster`` on two real nodes, one of them with another icd and without the shared folder."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from icd import __version__
from icd.cli.main import main
from tests.integration.ray_nodes import ROOT, cluster, secret


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """What the command says of a head that is well and a node that is not; ``files`` is what it left behind."""
    if subprocess.run(["unshare", "-m", "true"], check=False, capture_output=True).returncode:
        pytest.skip("a node cannot be given another view of the disk here")
    folder = tmp_path_factory.mktemp("cluster")
    root, other, data = folder / "root", folder / "other", folder / "data"
    for path in (root, data):
        path.mkdir()
    (data / "images.npz").write_bytes(b"1234")
    shutil.copytree(ROOT / "icd", other / "icd", ignore=shutil.ignore_patterns("__pycache__"))
    (other / "icd" / "__init__.py").write_text('__version__ = "0.0.9"\n')

    def doctor(address: str, where: object, **more: str) -> dict[str, Any]:
        done = subprocess.run(
            [
                *(sys.executable, "-m", "icd.cli.main", "doctor", "--cluster", "--address", address, "--json"),
                *("--root", str(where), "--data-root", str(data)),
            ],
            cwd=folder,  # Ray lets workers import from the driver's folder first
            env={**os.environ, "PYTHONPATH": str(ROOT), **more},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
        files = sorted(path.name for path in root.iterdir())
        return {"code": done.returncode, "err": done.stderr, "files": files, **json.loads(done.stdout)}

    with pytest.MonkeyPatch.context() as patch, secret() as token:
        for name in ("ICD_STORAGE_URL", "MLFLOW_TRACKING_URI", "ICD_DATA"):
            patch.delenv(name, raising=False)
        patch.setenv("ICD_CACHE", str(root / "cache"))  # so no node sees the driver's copies of a bucket
        with cluster(token, root, source=other) as (address, _):
            store = {"where": f"file://{folder}/store", "ICD_STORAGE_URL": f"sqlite:///{folder}/study.db"}
            yield {**doctor(address, root.name), "bucket": doctor(address, **store)}


def levels(told: dict[str, Any], where: str) -> dict[str, str]:
    found: dict[str, str] = {}
    order = ["pass", "warn", "fail"]
    for item in told["findings"]:
        if item["where"] == where:
            found[item["check"]] = max(found.get(item["check"], "pass"), item["level"], key=order.index)
    return found


def by_version(told: dict[str, Any]) -> tuple[str, str]:
    """Give the names of the well node and of the other one."""
    nodes = {item["where"] for item in told["findings"] if item["check"] == "answers"}
    (ill,) = {item["where"] for item in told["findings"] if "icd 0.0.9, but" in item["text"]}
    (well,) = nodes - {ill}
    return well, ill


def test_what_is_wrong_is_named(told: dict[str, Any]) -> None:
    assert told["code"] == 3, told["err"]
    well, ill = by_version(told)
    assert {check for check, level in levels(told, ill).items() if level == "fail"} == {"versions", "root"}
    assert "fail" not in levels(told, well).values()
    assert levels(told, "cluster") == {"token": "pass"}
    texts = [item["text"] for item in told["findings"] if item["where"] == ill and item["level"] == "fail"]
    assert any(f"icd 0.0.9, but the driver has {__version__}" in text for text in texts)
    assert any("No such file or directory" in text for text in texts)
    assert f"versions ({ill}), root ({ill})" in told["err"]
    assert "Traceback" not in told["err"]


def test_what_is_looked_at(told: dict[str, Any]) -> None:
    well, ill = by_version(told)
    assert set(levels(told, well)) == {"answers", "versions", "limits", "gpu", "teacher cache", "clock", "root"}
    assert levels(told, ill)["clock"] == levels(told, well)["clock"] == "pass"  # one machine, one clock
    caches = {item["text"] for item in told["findings"] if item["check"] == "teacher cache"}
    assert caches
    assert all(map(os.path.isabs, caches)), "a relative root is another folder on a node"


def test_nothing_is_left_behind(told: dict[str, Any]) -> None:
    assert told["files"] == []


def test_nodes_of_a_bucket_share_no_folder(told: dict[str, Any]) -> None:
    found = [
        item for item in told["bucket"]["findings"] if item["check"] == "root" and item["where"] in by_version(told)
    ]
    assert [item["level"] for item in found] == ["pass", "pass"], told["bucket"]["err"]
    assert all(item["text"].startswith("file:///") for item in found)


def test_no_cluster(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["doctor", "--cluster", "--address", "127.0.0.1:1", "--root", str(tmp_path / "root")]) == 3
    said = capsys.readouterr()
    assert "no Ray cluster answers at 127.0.0.1:1" in said.err
    assert said.out == ""
    assert not (tmp_path / "root").exists()
