"""The first seconds of a root: several processes at once, and kills inside the libraries' own first steps.

Everything is forked from one process that has imported the libraries, so that a start costs little.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import BrokenBarrierError
from typing import Any

import pytest

from tests.integration.ray_nodes import ROOT

_TOGETHER_S = 2.0  # how long one waits before its first table for the others to be there too
KILLED = 77


def run(what: str, folder: Path) -> Any:
    """Run a function of this file in a process of its own that has no threads; what it returns."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("ICD_", "MLFLOW_"))}
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.test_fresh_root", what, str(folder)],
        cwd=ROOT,
        env={**environment, "MLFLOW_DISABLE_TELEMETRY": "true"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What became of processes that opened fresh databases; the imports are half of the work, so all share them."""
    result: dict[str, Any] = run("fresh", tmp_path_factory.mktemp("fresh"))
    return result


@pytest.mark.parametrize("service", ["study", "mlflow"])
def test_processes_that_begin_at_once_all_begin(service: str, found: dict[str, Any]) -> None:
    assert found[service]["at once"] == [0, 0, 0]


@pytest.mark.parametrize("service", ["study", "mlflow"])
def test_a_kill_in_the_first_steps_costs_nothing(service: str, found: dict[str, Any]) -> None:
    for place, ended in found[service]["after kills"].items():
        assert ended == [KILLED, 0, 0], place


def test_mlflow_that_an_older_version_left_half_made_is_made_anew(found: dict[str, Any]) -> None:
    assert found["half made"] == [KILLED, 0]


def test_of_two_sweeps_one_trains_the_teacher_that_both_need(tmp_path: Path) -> None:
    found = run("two_sweeps", tmp_path)
    assert found["codes"] == [0, 0], found["logs"]
    assert [log.count("teacher epoch 3") for log in found["logs"]] in ([1, 0], [0, 1])
    assert [log.count("another process trains in") for log in found["logs"]] in ([1, 0], [0, 1])
    assert found["teachers"] == 1


# What runs in the process of its own


def open_service(folder: Path, service: str) -> None:
    from icd.search.study.database import open_storage
    from icd.search.tracking.mlflow_client import connect

    if service == "study":
        open_storage(f"sqlite:///{folder}/study.db").get_all_studies()
    else:
        name = f"by {os.getpid()}"
        client = connect(f"sqlite:///{folder}/mlflow.db")
        client.create_run(client.create_experiment(name))
        assert client.get_experiment_by_name(name) is not None


def on_statement(act: Callable[[int, str], None]) -> None:
    """Call before every statement that SQLAlchemy sends, with its place and its text."""
    import sqlalchemy

    count = 0

    def before(connection: Any, cursor: Any, statement: str, *more: Any) -> None:
        nonlocal count
        count += 1
        act(count, statement)

    sqlalchemy.event.listen(sqlalchemy.engine.Engine, "before_cursor_execute", before)


def die_at(place: int) -> None:
    on_statement(lambda count, _: os._exit(KILLED) if count == place else None)


def started(act: Callable[[], object]) -> int:
    from tests.crash.forks import forked

    def do() -> int:
        act()
        return 0

    return forked(do)


def codes(pids: list[int]) -> list[int]:
    return [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]


def at_once(folder: Path, service: str) -> list[int]:
    import multiprocessing

    barrier = multiprocessing.get_context("fork").Barrier(3)

    def act() -> None:
        def wait(_: int, statement: str) -> None:
            if "CREATE TABLE" in statement and not barrier.broken:
                with suppress(BrokenBarrierError):
                    barrier.wait(_TOGETHER_S)
                barrier.abort()

        on_statement(wait)
        open_service(folder, service)

    return codes([started(act) for _ in range(3)])


def fresh(folder: Path) -> dict[str, Any]:
    import mlflow.store.tracking.sqlalchemy_store
    import mlflow.tracking  # noqa: F401

    def place(name: str) -> Path:
        (folder / name).mkdir()
        return folder / name

    found: dict[str, Any] = {"half made": half_made(place("half"))}
    for service, statements in {"study": (10, 33, 45), "mlflow": (40, 300)}.items():
        beside = at_once(place(f"{service}-at-once"), service)
        killed = {at: after_kill(place(f"{service}-{at}"), service, at) for at in statements}
        found[service] = {"at once": beside, "after kills": killed}
    return found


def after_kill(root: Path, service: str, statement: int) -> list[int]:
    def killed() -> None:
        die_at(statement)
        open_service(root, service)

    return codes([started(killed)]) + codes([started(lambda: open_service(root, service)) for _ in range(2)])


def half_made(folder: Path) -> list[int]:
    """Die where a table was copied and the old one is not gone yet: the copy is in the way of whoever goes on."""

    def made_in_place() -> None:
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

        on_statement(lambda _, statement: os._exit(KILLED) if "DROP TABLE" in statement else None)
        SqlAlchemyStore(f"sqlite:///{folder}/mlflow.db", str(folder))

    return codes([started(made_in_place)]) + codes([started(lambda: open_service(folder, "mlflow"))])


def two_sweeps(folder: Path) -> dict[str, Any]:
    from icd.config.read_sweep import read_sweep
    from icd.config.yaml import Document
    from icd.search import run_sweep
    from icd.search.core import messages
    from icd.search.settings import Settings
    from icd.worker import main as worker
    from tests.crash import harness
    from tests.documents import document_of
    from tests.tiny import unpruned

    root = folder / "root"
    root.mkdir()
    harness.write_images(folder / "images.npz")
    harness.SWEEP["data"]["path"] = str(folder / "images.npz")
    harness.SWEEP["teacher"]["training"]["epochs"] = 3

    class Holding(worker.PipeChannel):
        """The training of the teacher goes on once the other sweep waits for it."""

        def send(self, message: messages.Up) -> None:
            super().send(message)
            if isinstance(message, messages.Line) and message.text.startswith("teacher epoch 1"):
                deadline = time.monotonic() + 400
                while not waiting() and time.monotonic() < deadline:
                    time.sleep(0.1)

    vars(worker)["PipeChannel"] = Holding

    def drive(name: str) -> None:
        document = document_of({**harness.SWEEP, **unpruned(1, 1), "enqueue": [], "name": name})
        said = (folder / f"{name}.log").open("a")

        def announce(text: str) -> None:
            print(text, file=said, flush=True)

        launch = harness.launcher(None, folder / "epochs.log")
        settings = Settings(root=root, executor="process", announce=announce, launch=launch)
        run_sweep.run(read_sweep(Document(document, f"{name}.yaml")), document, settings)

    def logs() -> list[str]:
        return [path.read_text() for path in sorted(folder.glob("*.log")) if path.name != "epochs.log"]

    def waiting() -> bool:
        return any("another process" in log for log in logs())

    ended = codes([started(lambda name=name: drive(name)) for name in ("one", "two")])  # type: ignore[misc]
    return {"codes": ended, "logs": logs(), "teachers": len(list((root / "teachers").glob("*/teacher.json")))}


def main() -> None:
    """Run one function; its result is the last line."""
    what, folder = sys.argv[1:]
    act = {"fresh": fresh, "two_sweeps": two_sweeps}[what]
    sys.stdout.write("\n" + json.dumps(act(Path(folder))) + "\n")


if __name__ == "__main__":
    main()
