"""Two pictures of a finished sweep for the README: its report, and its best trials compared in MLflow.

``python docs/screenshots.py SWEEP FOLDER [ROOT]``; ``make screenshots`` takes the quick start. Needs Chromium.
"""

import json
import shutil
import subprocess
import sys
import tempfile
import threading
import urllib.request
from pathlib import Path
from typing import Any

from PIL import Image

from icd.results.report import write_report
from icd.search import root_of, trials
from icd.search.study.sweep_index import tracking_uri
from icd.search.tracking.mlflow_pages import compare_url
from icd.search.tracking.servers import answers, free_port, mlflow_server

_SHOWN = 5  # trials side by side
_MENU, _ASSISTANT = 198, 460  # columns that MLflow puts beside every page


def picture(address: str, size: tuple[int, int], path: Path, *, left: int = 0, right: int = 0) -> None:
    """Open an address in Chromium and keep what a window shows, in 64 colours and without columns left and right."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        raise SystemExit("screenshots need Chromium: apt-get install chromium")
    with tempfile.TemporaryDirectory() as folder:
        words = [
            chromium,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--hide-scrollbars",
        ]
        words += [f"--user-data-dir={folder}/profile", f"--window-size={size[0]},{size[1]}"]
        words += ["--virtual-time-budget=30000", f"--screenshot={folder}/shot.png", address]
        subprocess.run(words, check=True, capture_output=True, timeout=240)
        with Image.open(f"{folder}/shot.png") as shot:
            shot.crop((left, 0, size[0] - right, size[1])).convert("RGB").quantize(64).save(path, optimize=True)
    print(path)


def asked(address: str, **body: Any) -> Any:
    """Ask MLflow's REST API."""
    data = json.dumps(body).encode() if body else None
    request = urllib.request.Request(address, data=data, headers={"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def main(name: str, folder: Path, root: Path) -> None:
    """Make both pictures of a sweep."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as work:
        page = Path(work) / "report.html"
        write_report(root, name, page)
        picture(page.as_uri(), (1280, 1000), folder / "report.png")
    best = sorted((record for record in trials(name, root=root) if record.values), key=lambda record: -record.values[0])
    with mlflow_server(root, tracking_uri(root), free_port()) as server:
        answers(server, threading.Event())
        api = f"{server.address}/api/2.0/mlflow"
        experiment = asked(f"{api}/experiments/get-by-name?experiment_name={name}")["experiment"]["experiment_id"]
        runs = asked(f"{api}/runs/search", experiment_ids=[experiment], max_results=1000)["runs"]
        ids = {run["info"]["run_name"][:4]: run["info"]["run_id"] for run in runs}
        shown = [ids[f"{record.number:04d}"] for record in best[:_SHOWN]]
        address = compare_url(server.address, experiment, shown)
        picture(address, (1760, 800), folder / "mlflow.png", left=_MENU, right=_ASSISTANT)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), root_of(sys.argv[3] if len(sys.argv) > 3 else None))
