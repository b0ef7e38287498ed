"""The harness for verbs that come after a search: drivers of ``icd benchmark`` and ``icd ablate``.

python tests/crash/verbs.py serve      (as the harness; ``drive`` takes ``table`` or ``ablate`` with its options)
"""

import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from icd.config.yaml import Document
from icd.errors import Interrupted
from icd.results.benchmark import run_benchmark
from icd.results.run_plan import run_plan
from icd.search import session
from icd.search.settings import Settings
from tests.crash import harness as bare
from tests.crash.forks import forked
from tests.documents import document_of

SEEDS = 2
TEMPERATURE = {"base_loss": {"kd": {"temperature": {"low": 1, "high": 8}}}}


def table_document(data: str) -> dict[str, Any]:
    """Two rows of two trials each, on images that are trained on in milliseconds."""
    document = {name: part for name, part in bare.SWEEP.items() if name not in ("enqueue", "pruner")}
    parts = {
        **document,
        "name": "table",
        "data": {**document["data"], "path": data},
        "ranges": {"method": {"KD": TEMPERATURE, "SD-KD": {**TEMPERATURE, "scales": [1, 2]}}},
        "sampler": "random",
        "budget": {"trials": 2},
    }
    return document_of(parts)


def drive(
    root: Path, *, table: str | None = None, ablate: str | None = None, environment: Mapping[str, str] | None = None
) -> int:
    """Start a driver in a fork; its process number.

    Args:
        root: Folder of results.
        table: File of the images of a table.
        ablate: Sweep to ablate.
        environment: Of the driver.
    """

    def act() -> int:
        vars(session)["_FLUSH_S"] = bare.FLUSH_S
        os.environ.update(environment or {})
        log, signals = (root / "driver.log").open("a"), list[int]()
        settings = Settings(
            root=root,
            executor="process",
            announce=lambda text: print(text, file=log, flush=True),
            launch=bare.launcher(None, root / "epochs.log"),
            stop=lambda: bool(signals),
        )
        signal.signal(signal.SIGINT, lambda got, frame: signals.append(got))
        try:
            if table is not None:
                run_benchmark(Document(table_document(table), "table.yaml"), settings, seeds=SEEDS)
            if ablate is not None:
                run_plan("ablate", ablate, settings, seeds=SEEDS)
        except Interrupted:
            return 128 + signals[0]
        return 0

    return forked(act)


def main() -> None:
    """Serve; a request without a verb is the harness's own."""
    search = bare.drive

    def either(root: Path, **more: Any) -> int:
        return drive(root, **more) if {"table", "ablate"} & more.keys() else search(root, **more)

    bare.drive = either
    bare.serve()


if __name__ == "__main__":
    main()
