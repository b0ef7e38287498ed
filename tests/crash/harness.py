"""Kills sweeps at chosen moments, resumes them, and compares with the sweep nobody touched.

Run as a script, one process without threads that has imported everything; drivers and workers are forked from it, so
that a driver costs milliseconds to start. Everything else is the real thing: process executor, sqlite, checkpoints,
MLflow.

    python tests/crash/harness.py points WORKDIR [--side driver|worker|confirm] [--from N] [--step K]
    python tests/crash/harness.py kills WORKDIR --kills 200 [--seed 0]
    python tests/crash/harness.py serve      (for tests: starts drivers on request, see ``serve``)
"""

import argparse
import json
import os
import random
import shutil
import signal
import sqlite3
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))
os.environ.update(OMP_NUM_THREADS="1", MLFLOW_DISABLE_TELEMETRY="true", MLFLOW_LOGGING_LEVEL="CRITICAL")

# Drivers forked from here need not import these, nor tie their tables together: that is a third of what they do.
import mlflow.store.tracking.sqlalchemy_store  # noqa: E402
import mlflow.tracking  # noqa: E402, F401
import numpy as np  # noqa: E402
import optuna.storages._rdb.models  # noqa: E402, F401
import sqlalchemy  # noqa: E402
import sqlalchemy.orm  # noqa: E402
import torch  # noqa: E402

from icd.config.read_sweep import read_sweep  # noqa: E402
from icd.config.sweep import Baseline  # noqa: E402
from icd.config.yaml import Document  # noqa: E402
from icd.errors import Interrupted  # noqa: E402
from icd.results.run_plan import run_plan  # noqa: E402
from icd.search import run_sweep, session  # noqa: E402
from icd.search.core.records import Stage  # noqa: E402
from icd.search.core.trial_request import TrialRequest  # noqa: E402
from icd.search.settings import Settings  # noqa: E402
from icd.search.study import sweep_index  # noqa: E402
from icd.search.study.sweep_files import sweep_files_of  # noqa: E402
from icd.search.suggest.search_space import SearchSpace  # noqa: E402
from icd.worker import main as worker  # noqa: E402
from icd.worker import run_trial  # noqa: E402
from tests.crash.forks import Fork, close_all_but, forked  # noqa: E402
from tests.documents import document_of  # noqa: E402
from tests.tiny import training, views  # noqa: E402

torch.set_num_threads(1)
torch.optim.SGD([torch.zeros(1)], lr=1.0)  # imports PyTorch's compiler, which takes a second, or a minute under load
sqlalchemy.orm.configure_mappers()

SWEEP: dict[str, Any] = {
    "name": "crash",
    "data": {"name": "npz", "val_fraction": 0.5},  # its path is filled in
    "teacher": {
        "arch": "resnet8",
        "stem": "conv7x7_s2",
        "weights": "train",
        "training": {"preset": "digits100", "epochs": 1, "augmentation": views()},
    },
    "student": {"arch": "resnet8", "stem": "conv7x7_s2"},
    "training": training(2),
    "ranges": {
        "scales": {"choices": [[1], [1, 2]]},
        "cluster_weight": {"low": 0.5, "high": 64, "log": True},
        "base_loss": {"kd": {"temperature": {"low": 1, "high": 8}}, "dkd": {}},
    },
    "enqueue": ["KD"],
    "sampler": {"name": "tpe", "startup_trials": 2},
    "pruner": {"name": "median", "min_epochs": 1, "startup_trials": 1, "control_fraction": 0.5},
    "budget": {"trials": 3},
    "resources": {"max_concurrent": 1, "hang_seconds": 60},
    "seed": 3,
}
CONFIRM = {"top": 1, "seeds": 2, "against": ["KD"]}
CRASHED = 77
FLUSH_S = 300.0  # a busy machine may need more than a driver's 30 s to tell MLflow all that tests look for


def write_images(path: Path) -> None:
    """Write 24 small images of two classes to train on, so that an epoch takes milliseconds."""
    chance = np.random.default_rng(0)
    images = chance.integers(0, 255, (24, 16, 16, 3), dtype=np.uint8)
    labels = np.arange(24) % 2
    images[labels == 1, :8] //= 2
    np.savez(path, x_train=images, y_train=labels, x_test=images, y_test=labels, class_names=np.array(["a", "b"]))


def launcher(crash_at: int | None, epochs_log: Path) -> Callable[[int, Mapping[str, str], Path], Fork]:
    """Give a launch function; its first worker dies at its n-th durable operation."""
    left = [crash_at]

    def launch(pipe: int, environment: Mapping[str, str], log: Path) -> Fork:
        at, left[0] = left[0], None

        def act() -> int:
            os.setsid()
            file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(file, 1)
            os.dup2(file, 2)
            close_all_but({0, 1, 2, pipe})
            os.environ.update(environment)
            vars(run_trial)["keep_grams"] = lambda *arguments: None  # 0.5 s a trial for matrices nobody compares
            log_epochs(epochs_log)
            if at is not None:
                count_operations(at)
            worker.serve_pipe(Connection(pipe))
            return 0

        return Fork(forked(act))

    return launch


def log_epochs(path: Path) -> None:
    """Write a line for every epoch this worker has trained to its last step, whatever becomes of it."""
    log, attempt = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), run_trial.train_attempt

    def watched(given: Any, send: Any, *, progress: Callable[[int, int, int], None]) -> Any:
        def look(epoch: int, step: int, steps: int) -> None:
            if step == steps:
                stand_still(path.parent, given.context.folder.name, given.number, epoch)
                os.write(log, f"{given.number} {epoch}\n".encode())
            progress(epoch, step, steps)

        return attempt(given, send, progress=look)

    run_trial.train_attempt = watched  # type: ignore[assignment]  # a worker gives no notice


def stand_still(root: Path, *place: str | int) -> None:
    """Stand at the last step of an epoch, with those before it stored and answered, as long as ``served.Hold`` says."""
    name = "-".join(map(str, place))
    hold = root / f"hold-{name}"
    if hold.exists():
        (root / f"reached-{name}").touch()
    while hold.exists():
        time.sleep(0.01)


def count_operations(crash_at: int | None, tell: Callable[[int], None] = lambda count: None) -> None:
    """Count what this process's main thread or its trials make durable, and die just before the n-th time."""
    count = 0

    def durable(act: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **keywords: Any) -> Any:
            nonlocal count
            if threading.current_thread().name.startswith(("MainThread", "trial ")):
                count += 1
                tell(count)
                if count == crash_at:
                    os._exit(CRASHED)
            return act(*arguments, **keywords)

        return counted

    os.fsync, os.replace = durable(os.fsync), durable(os.replace)
    sqlalchemy.event.listen(sqlalchemy.engine.Engine, "commit", durable(lambda connection: None))


def drive(
    root: Path,
    *,
    crash_at: int | None = None,
    worker_crash_at: int | None = None,
    changes: Any = None,
    extend: bool = False,
    fork_workers: bool = True,
    confirm: dict[str, Any] | None = None,
    environment: Mapping[str, str] | None = None,
    flush_s: float = FLUSH_S,
) -> int:
    """Start a driver in a fork; its process number. It takes signals as ``icd sweep`` does.

    With ``confirm`` it is that of a confirmation; these are its options. ``flush_s`` are what it waits for MLflow.
    """

    def act() -> int:
        vars(session)["_FLUSH_S"] = flush_s
        os.environ.update(environment or {})
        # A worker inherits nothing of this: it is forked before the count starts to matter, or counts for itself.
        document = document_of({**SWEEP, **(changes or {})})
        sweep = read_sweep(Document(document, "crash.yaml"))
        log = (root / "driver.log").open("a")
        said: list[int] = []
        if crash_at is not None or worker_crash_at is None:
            launch = launcher(None, root / "epochs.log")
        else:
            launch = launcher(worker_crash_at, root / "epochs.log")

        def tell(count: int) -> None:
            said[:] = [count]

        def counting_launch(*arguments: Any) -> Fork:
            fork = launch(*arguments)
            if not said:
                said.append(0)
                count_operations(crash_at, tell)
            return fork

        settings = Settings(
            root=root,
            executor="process",
            announce=lambda text: print(text, file=log, flush=True),
            launch=counting_launch if fork_workers else None,
            extend=extend,
            stop=lambda: bool(signals),
        )
        signals: list[int] = []
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda got, frame: signals.append(got))
        try:
            if confirm is None:
                run_sweep.run(sweep, document, settings)
            else:
                run_plan("confirm", sweep.name, settings, **confirm)
        except Interrupted:
            return 128 + signals[0]
        (root / "operations").write_text(str(said[0] if said else 0))
        return 0

    return forked(act)


def wait(pid: int) -> int:
    """Exit code of a fork."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def table(root: Path, stage: Stage = "search") -> list[dict[str, Any]]:
    """Everything about the trials that must not depend on what happened to the driver."""
    rows = []
    for record in sweep_index.find(root, "crash").records(stage):
        keep = {
            name: record.attributes.get(name) for name in ("student_sha256", "exit_reason", "epochs", "arm", "seed")
        }
        rows.append(
            {
                "number": record.number,
                "state": record.state,
                "params": dict(record.params),
                "values": list(record.values),
                "curve": dict(record.curve),
                "key": record.key,
                "baseline": record.baseline,
                "start": record.start,
                "control": record.control,
                "would_stop_at": record.would_stop_at,
                "twin": record.twin,
                **keep,
            }
        )
    return rows


def tables(root: Path) -> list[dict[str, Any]]:
    """Give the trials of the search and of its confirmation."""
    return [*table(root), *table(root, "confirm")]


def tracking_faults(root: Path, rows: list[dict[str, Any]]) -> list[str]:
    """Say where MLflow does not hold exactly one finished run per trial and arm, and each metric once."""
    faults = []
    with sqlite3.connect(root / "mlflow.db") as database:
        runs = dict(
            database.execute(
                "select t.value, count(*) from runs r join tags t on t.run_uuid = r.run_uuid "
                "where t.key = 'icd.trial' group by t.value"
            ).fetchall()
        )
        running = database.execute("select count(*) from runs where status = 'RUNNING'").fetchone()[0]
        twice = database.execute(
            "select count(*) from (select 1 from metrics group by run_uuid, key, step having count(*) > 1)"
        ).fetchone()[0]
        tops = database.execute(
            "select count(*) from metrics m join tags t on t.run_uuid = m.run_uuid where t.key = 'icd.stage' "
            "and t.value = 'trial' and m.key in ('val/top1', 'test/top1')"
        ).fetchone()[0]
    trained = [row for row in rows if row["state"] != "duplicate"]
    epochs = sum(len(row["curve"]) for row in trained)
    numbers = sorted(name.partition("/")[2] for name in runs if "/arms/" not in name)
    if numbers != sorted([*(f"{row['number']:04d}" for row in trained), "summary"]) or set(runs.values()) != {1}:
        faults.append(f"runs {runs}")
    if running:
        faults.append(f"{running} runs RUNNING")
    if twice:
        faults.append(f"{twice} metrics twice")
    if tops != epochs:
        faults.append(f"{tops} of {epochs} top1 rows")
    return faults


def repeated_epochs(root: Path) -> dict[str, int]:
    """How many epochs workers trained more than once, by trial."""
    lines = (root / "epochs.log").read_text().split("\n")[:-1] if (root / "epochs.log").exists() else []
    repeated: dict[str, int] = {}
    for line, count in Counter(lines).items():
        number = line.partition(" ")[0]
        repeated[number] = repeated.get(number, 0) + count - 1
    return {number: count for number, count in repeated.items() if count}


def ask_for_a_trial(root: Path) -> None:
    """Ask for a trial, as ``icd try`` does, before the sweep is there: its first driver finds the request."""
    space = SearchSpace(read_sweep(Document(document_of(SWEEP), "crash.yaml")))
    document = space.baseline(Baseline(label="", changes={"method": {"recipe": "iCD-KD", "cluster_weight": 3.0}}))
    request = TrialRequest(name="asked", label="try it", document=document, key="")
    sweep_files_of(sweep_index.sweep_folder(root, "crash")).ask_to_try(request)


def template(workdir: Path, *, asked: bool = False) -> tuple[Path, list[dict[str, Any]], int]:
    """Run the sweep undisturbed; give a root with its teacher and empty databases, the table, and the operations.

    With ``asked`` one of its trials is asked for while it runs.
    """
    from optuna.storages import RDBStorage

    first = workdir / "undisturbed"
    shutil.rmtree(workdir, ignore_errors=True)
    first.mkdir(parents=True)
    SWEEP["data"]["path"] = str(workdir / "images.npz")
    write_images(workdir / "images.npz")
    if asked:
        SWEEP["budget"] = {"trials": 4}  # the one that is asked for is none less of the sampler's
        ask_for_a_trial(first)
    code = wait(drive(first))
    if code:
        raise SystemExit(f"the undisturbed sweep ended with {code}: {(first / 'driver.log').read_text()}")
    fresh = workdir / "template"
    fresh.mkdir()
    if asked:
        ask_for_a_trial(fresh)
    shutil.copytree(first / "teachers", fresh / "teachers")
    RDBStorage(f"sqlite:///{fresh / 'study.db'}").engine.dispose()
    shutil.copy(first / "mlflow.db", fresh / "mlflow.db")
    with sqlite3.connect(fresh / "mlflow.db") as database:
        for name in ("metrics", "latest_metrics", "params", "tags", "experiment_tags", "runs"):
            database.execute(f"delete from {name}")
        database.execute("delete from experiments where experiment_id != 0")
    return fresh, table(first), int((first / "operations").read_text())


def check(root: Path, expected: list[dict[str, Any]], label: str, kills: int) -> list[str]:
    """Compare a sweep that was killed and resumed with the one that was not disturbed."""
    found = tables(root)
    faults = [f"{label}: {fault}" for fault in tracking_faults(root, found)]
    if len(found) != len(expected):
        faults.append(f"{label}: {len(found)} trials instead of {len(expected)}")
    if any((root / "sweeps" / "crash" / "try").glob("*")):
        faults.append(f"{label}: a request is left")
    for before, after in zip(expected, found, strict=False):
        changed = {name: (before[name], after[name]) for name in before if before[name] != after[name]}
        if changed:
            faults.append(f"{label}: trial {before['number']} differs: {changed}")
    repeated = repeated_epochs(root)
    if sum(repeated.values()) > kills:  # one trial runs at a time
        faults.append(f"{label}: {kills} kills, but epochs were trained again: {repeated}")
    trained = sum(len(row["curve"]) for row in expected if row["state"] != "duplicate")
    ran = len((root / "epochs.log").read_text().splitlines()) - sum(repeated.values())
    if ran != trained:
        faults.append(f"{label}: {ran} of {trained} epochs were trained")
    return faults


def one_point(fresh: Path, root: Path, expected: list[dict[str, Any]], side: str, point: int) -> tuple[bool, list[str]]:
    """Crash at one point and resume; whether it crashed, and what is wrong."""
    shutil.copytree(fresh, root)
    label, confirm = f"{side} {point}", CONFIRM if side == "confirm" else None
    if side != "worker":
        code = wait(drive(root, crash_at=point, confirm=confirm))
        if code not in (0, CRASHED):
            return True, [f"{label}: exit code {code}: {(root / 'driver.log').read_text()[-500:]}"]
        crashed = code == CRASHED
    else:
        code = wait(drive(root, worker_crash_at=point))
        crashed = "process exited with code 77" in (root / "driver.log").read_text()
    if code:
        code = wait(drive(root, confirm=confirm))
        if code:
            return True, [f"{label}: resume ended with {code}: {(root / 'driver.log').read_text()[-500:]}"]
    faults = check(root, expected, label, kills=int(crashed))
    if not faults:
        shutil.rmtree(root)
    return crashed, faults


def run_points(workdir: Path, side: str, first: int, step: int) -> dict[str, Any]:
    """Crash at every ``step``-th point of a side until a point lies beyond the end; ``confirm`` has a driver too."""
    started = time.monotonic()
    fresh, expected, operations = template(workdir, asked=True)
    if side == "confirm":
        fresh = workdir / "undisturbed"
        shutil.copytree(fresh, workdir / "confirmed")
        if wait(drive(workdir / "confirmed", confirm=CONFIRM)):
            raise SystemExit(f"the undisturbed confirmation failed: {(workdir / 'confirmed/driver.log').read_text()}")
        expected, operations = tables(workdir / "confirmed"), int((workdir / "confirmed/operations").read_text())
    faults: list[str] = []
    points, point = 0, first
    while True:
        crashed, found = one_point(fresh, workdir / f"{side}-{point}", expected, side, point)
        faults += found
        if not crashed:
            break
        points, point = points + 1, point + step
    return {
        "side": side,
        "points": points,
        "operations_of_the_driver": operations,
        "trials": len(expected),
        "states": [row["state"] for row in expected],
        "faults": faults,
        "seconds": round(time.monotonic() - started, 1),
    }


def run_kills(workdir: Path, kills: int, seed: int) -> dict[str, Any]:
    """Kill drivers and workers with signal 9 at random moments, sweep after sweep, until enough kills are done."""
    chance, started, faults, done, sweeps_run = random.Random(seed), time.monotonic(), [], 0, 0
    fresh, expected, _ = template(workdir, asked=True)
    took = 4.0
    while done < kills:
        root = workdir / f"sweep-{sweeps_run}"
        shutil.copytree(fresh, root)
        before = done
        while True:
            pid = drive(root)
            moment = time.monotonic() + chance.uniform(0, took)
            ended = 0
            while time.monotonic() < moment and not ended:
                ended, status = os.waitpid(pid, os.WNOHANG)
                time.sleep(0.002)
            if ended:
                code = os.waitstatus_to_exitcode(status)
                if code:
                    faults.append(f"sweep {sweeps_run}: exit code {code}: {(root / 'driver.log').read_text()[-300:]}")
                break
            victim = _worker_of(pid) if chance.random() < 0.5 else None
            os.kill(victim or pid, signal.SIGKILL)
            done += 1
            if victim is None:
                wait(pid)
            else:
                code = wait(pid)
                if code == 0:
                    break
                faults.append(f"sweep {sweeps_run}: exit code {code} after a worker's death")
        faults += check(root, expected, f"sweep {sweeps_run}", kills=done - before)
        shutil.rmtree(root)
        sweeps_run += 1
    return {"kills": done, "sweeps": sweeps_run, "faults": faults, "seconds": round(time.monotonic() - started, 1)}


def _worker_of(pid: int) -> int | None:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(children[0]) if children else None


def serve() -> None:
    """Start drivers for tests: one JSON object a line in, one out; whoever closes the input ends it.

    ``{"drive": ROOT, ...}`` with the arguments of ``drive`` gives its process number, ``{"poll": PID}`` its exit code
    or null, ``{"template": WORKDIR}`` makes a root to copy.
    """
    for line in sys.stdin:
        given: dict[str, Any] = json.loads(line)
        answer: str | int | None = None
        if "template" in given:
            answer = str(template(Path(given["template"]))[0])
        elif "drive" in given:
            answer = drive(Path(given.pop("drive")), **given)
        elif (done := os.waitpid(given["poll"], os.WNOHANG))[0]:
            answer = os.waitstatus_to_exitcode(done[1])
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def main() -> int:
    """Entry of the script; prints one JSON object and ends with 1 if anything is wrong."""
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["points", "kills", "serve"])
    parser.add_argument("workdir", type=Path, nargs="?")
    parser.add_argument("--side", default="driver", choices=["driver", "worker", "confirm"])
    parser.add_argument("--from", dest="first", type=int, default=1)
    parser.add_argument("--step", type=int, default=1)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    if given.what == "serve":
        serve()
        return 0
    if given.what == "points":
        report = run_points(given.workdir, given.side, given.first, given.step)
    else:
        report = run_kills(given.workdir, given.kills, given.seed)
    sys.stdout.write(json.dumps(report, indent=1) + "\n")
    return 1 if report["faults"] else 0


if __name__ == "__main__":
    sys.exit(main())
