"""A sweep whose trials train nothing: the real space, ledger and driver on disk, and no-op attempts."""

import os
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from optuna.storages import BaseStorage

from icd.config.read_sweep import read_sweep
from icd.config.sweep import SweepConfig
from icd.config.yaml import Document
from icd.search.controller.controller import SweepController
from icd.search.core.attempts import RunContext
from icd.search.core.preparation import PreflightResult
from icd.search.study.database import open_storage
from icd.search.study.ledger import Ledger
from icd.search.suggest.samplers import drive
from icd.search.suggest.search_space import SearchSpace
from icd.search.tracking.experiment import Experiment
from icd.search.tracking.tracker import Tracker


def document(name: str, *, trials: int, epochs: int, pruner: str = "none", seed: int = 0) -> dict[str, Any]:
    """Give a sweep file with the space of search_spaces/cub200."""
    temperature = {"low": 1, "high": 8}
    return {
        "name": name,
        "data": {"name": "npz", "path": "nowhere.npz", "val_fraction": 0.5},
        "teacher": {"arch": "resnet8x4", "weights": "train"},
        "student": {"arch": "resnet8"},
        "training": {"preset": "digits100", "epochs": epochs},
        "method": {
            "base_loss": {
                "choices": {
                    "kd": {"temperature": temperature},
                    "dkd": {"temperature": temperature, "beta": {"low": 0.5, "high": 16, "log": True}},
                    "nkd": {"temperature": temperature, "gamma": {"low": 0.5, "high": 16, "log": True}},
                    "ldrld": {"temperature": temperature, "k": {"low": 3, "high": 12}},
                }
            },
            "scales": {"subsets_of": [1, 2, 4]},
            "cluster_scale_weights": {"low": 0.05, "high": 1},
            "cluster_weight": {"low": 0.5, "high": 512, "log": True},
            "cluster_temperature": {"low": 0.1, "high": 4, "log": True},
            "complementary_weight": {"low": 1, "high": 4},
            "ce_weight": {"low": 0.1, "high": 1},
            "base_weight": {"low": 0.3, "high": 3, "log": True},
        },
        "seed": seed,
        "search": {
            "sampler": {"name": "tpe", "seed": seed},
            "pruner": {"name": pruner, "min_epochs": 3, "reduction": 3, "control_fraction": 0.15},
            "budget": {"trials": trials},
        },
    }


def sweep_of(plain: Mapping[str, Any]) -> SweepConfig:
    """Read such a file."""
    return read_sweep(Document(dict(plain), "synthetic.yaml"))


class _AnyTeacher(dict[str, str]):
    """A digest for whatever teacher is asked for."""

    def get(self, name: str, default: Any = None) -> Any:
        return "e" * 64


PREPARED = PreflightResult(
    data_digest="d" * 64,
    data="nothing",
    num_classes=10,
    teachers=_AnyTeacher(),
    teacher_lines=[],
    gpus=0,
    device="none",
)


def driver_for(
    folder: Path,
    plain: Mapping[str, Any],
    url: str | None = None,
    before: Callable[[BaseStorage, Ledger, SearchSpace], None] = lambda storage, ledger, space: None,
) -> SweepController:
    """Make a driver as ``icd.search.run_sweep.run`` does, with what is prepared made up; ``before`` fills the study."""
    sweep = sweep_of(plain)
    space = SearchSpace(sweep)
    storage = open_storage(url or f"sqlite:///{folder / 'study.db'}")
    ledger = Ledger.create(storage, sweep, {"uid": sweep.name, "digest": sweep.digest()})
    before(storage, ledger, space)
    epochs = sweep.template["training"]["epochs"]
    drive(ledger, sweep, space.untried(), epochs)
    place = folder / "sweeps" / sweep.name
    place.mkdir(parents=True)
    site, tracker = RunContext(folder=place, root=folder), Tracker(lambda line: None)
    return SweepController(sweep, space, ledger, tracker, PREPARED, site, lambda line: None)


def track(driver: SweepController, database: Path) -> Tracker:
    """Let MLflow follow a driver from a thread, as it does in a sweep."""
    uri, tracker = f"sqlite:///{database}", driver.tracker
    tracker.start(Experiment(driver.context.folder, uri, driver.ledger.name, "uid", tracker.refuse))
    return tracker


# Measuring


def rss_mb() -> float:
    """Memory of this process."""
    with Path("/proc/self/statm").open() as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def cpu_s(children: bool = False) -> float:
    """CPU seconds of this process."""
    times = os.times()
    return times.user + times.system + (times.children_user + times.children_system if children else 0)


def spread(seconds: Sequence[float]) -> dict[str, float]:
    """Give p50, p99 and the sum, in milliseconds."""
    ordered = sorted(seconds)
    return {
        "p50_ms": round(1000 * statistics.median(ordered), 3),
        "p99_ms": round(1000 * ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))], 3),
        "sum_ms": round(1000 * sum(ordered), 1),
        "count": len(ordered),
    }


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Least-squares slope."""
    mean_x = statistics.fmean(x for x, _ in points)
    mean_y = statistics.fmean(y for _, y in points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / sum((x - mean_x) ** 2 for x, _ in points)


def table(rows: Sequence[Mapping[str, Any]], heads: Sequence[str]) -> None:
    """Print a table on stderr."""
    cells = [list(heads), *([_cell(row.get(head, "")) for head in heads] for row in rows)]
    widths = [max(len(row[place]) for row in cells) for place in range(len(heads))]
    for row in cells:
        print("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)), file=sys.stderr)


def _cell(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) and abs(value) < 1000 else str(value)


def machine() -> dict[str, Any]:
    """Say where it ran."""
    from importlib.metadata import version

    names = ("ray", "optuna", "mlflow", "sqlalchemy", "numpy")
    found = {name: version(name) for name in names}
    return {"cores": len(os.sched_getaffinity(0)), "load": os.getloadavg()[0], "versions": found}
