"""The example notebook runs from top to bottom in a fresh kernel."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from icd import search

EXAMPLES = Path(__file__).parents[2] / "examples"


# What jupyter's libraries do on their own event loops is not ours to warn about.
@pytest.mark.filterwarnings("ignore:::jupyter_client", "ignore:::nbclient", "ignore:::zmq", "ignore::ResourceWarning")
@pytest.mark.timeout(600)
def test_quickstart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ICD_ROOT", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(EXAMPLES.parent))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    notebook = nbformat.read(EXAMPLES / "quickstart.ipynb", as_version=4)
    assert all(not cell.get("outputs") for cell in notebook.cells)  # what is in git holds no results
    NotebookClient(notebook, timeout=500, kernel_name="python3", resources={"metadata": {"path": EXAMPLES}}).execute()

    records = search.trials("notebook", root=tmp_path)
    assert [record.state for record in records].count("running") == 0
    assert len([record for record in records if record.state != "duplicate"]) == 5
    last = notebook.cells[-1]["outputs"][0]["text"]
    assert last.startswith("# Trial ")
    assert (tmp_path / "best.safetensors").exists()
