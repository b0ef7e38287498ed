"""A driver whose console goes away goes on, and its exit code is what happened to the sweep."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from icd.search.sweep_status import status_of
from tests.documents import document_of
from tests.integration.ray_nodes import ROOT
from tests.integration.ray_sweeps import document

pytestmark = pytest.mark.timeout(600)


@pytest.mark.parametrize("kind", ["pipe", "full disk"])
def test_a_sweep_ends_well_where_nothing_can_be_printed(kind: str, tmp_path: Path) -> None:
    file, plan = tmp_path / "sweep.yaml", {**document(tmp_path, epochs=1, trials=1, max_concurrent=1), "name": "alone"}
    file.write_text(yaml.safe_dump(document_of(plan)))
    if kind == "pipe":
        reading, number = os.pipe()
        os.close(reading)
    else:
        number = os.open("/dev/full", os.O_WRONLY)
    root = tmp_path / "root"
    words = ["sweep", str(file), "--executor", "process", "--root", str(root)]
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ICD_", "MLFLOW_"))}
    done = subprocess.run(
        [sys.executable, "-m", "icd.cli.main", *words], cwd=ROOT, env=kept, stdout=number, stderr=number, check=False
    )
    os.close(number)
    assert done.returncode == 0
    assert status_of(root, "alone").state == "finished"
