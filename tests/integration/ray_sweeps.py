"""Small real sweeps on Ray: tiny images, real training, checkpoints after every epoch; drivers as processes."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from tests.documents import document_of
from tests.integration.ray_nodes import ROOT
from tests.tiny import training


def document(folder: Path, *, epochs: int, trials: int, **resources: Any) -> dict[str, Any]:
    """Give a sweep over images that are written below ``folder``; its results do not depend on time."""
    from tests.crash.harness import SWEEP, write_images

    images = folder / "images.npz"
    if not images.exists():
        write_images(images)
    return {
        **SWEEP,
        "data": {"name": "npz", "val_fraction": 0.5, "path": str(images)},
        "training": training(epochs),
        "enqueue": [],
        "sampler": {"name": "random"},
        "pruner": {"name": "none"},
        "budget": {"trials": trials},
        "resources": {"hang_seconds": 60, "retries": 20, **resources},
    }


def start(
    root: Path | str,
    sweep: dict[str, Any],
    executor: str,
    address: str = "local",
    *,
    home: Path | None = None,
    environment: Mapping[str, str] = MappingProxyType({}),
    before: Sequence[str] = (),
) -> subprocess.Popen[str]:
    """Start a driver, for a new sweep or one that was begun.

    What it says goes to ``driver.log`` in ``home``; that is the root, where the root is a folder. ``before`` are words
    before the command.
    """
    home = home or Path(root)
    home.mkdir(exist_ok=True)
    with (home / "driver.log").open("a") as log:
        return subprocess.Popen(
            [
                *before,
                sys.executable,
                "-m",
                "tests.integration.ray_sweeps",
                str(root),
                executor,
                address,
                json.dumps(sweep),
            ],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            text=True,
            start_new_session=True,
            env={**os.environ, **environment},
        )


def main() -> None:
    """Drive: ROOT EXECUTOR ADDRESS SWEEP."""
    from icd.cli.signals import stop_requested, stopping_politely
    from icd.config.read_sweep import read_sweep
    from icd.config.yaml import Document
    from icd.errors import Interrupted
    from icd.search import run_sweep, session
    from icd.search.settings import Settings
    from icd.storage.bucket import local_root

    root, executor, address, document = *sys.argv[1:4], document_of(json.loads(sys.argv[4]))

    def tell(text: str) -> None:
        sys.stdout.write(text + "\n")

    settings = Settings(
        root=local_root(root),
        executor="ray" if executor == "ray" else "process",
        address=address,
        announce=tell,
        stop=stop_requested,
    )
    vars(session)["_FLUSH_S"] = 300.0  # a busy machine may need longer than a driver would wait
    try:
        with stopping_politely():
            run_sweep.run(read_sweep(Document(document, "sweep.yaml")), document, settings)
    except Interrupted:
        sys.exit(130)


if __name__ == "__main__":
    main()
