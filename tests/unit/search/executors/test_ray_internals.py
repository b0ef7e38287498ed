"""What we use of Ray unpromised is still there, and any exception for a trial of Tune's ends that trial alone."""

import importlib
import inspect
from types import SimpleNamespace
from typing import Any

import pytest
import ray
from ray.air.execution._internal.tracked_actor import TrackedActor
from ray.air.execution._internal.tracked_actor_task import TrackedActorTask
from ray.exceptions import (
    ActorDiedError,
    ObjectStoreFullError,
    OutOfMemoryError,
    RayActorError,
    RuntimeEnvSetupError,
    WorkerCrashedError,
)
from ray.tune.execution import tune_controller

from icd.search.executors.ray.internals import USES, ForgivingActorManager, trials_end_alone


def look_up(name: str) -> Any:
    """Import as much of a dotted name as is a module, and take the rest as attributes."""
    words = name.split(".")
    for count in range(len(words) - 1, 0, -1):
        try:
            found: Any = importlib.import_module(".".join(words[:count]))
        except ModuleNotFoundError:
            continue
        for word in words[count:]:
            found = getattr(found, word)
        return found
    raise AttributeError(name)


@pytest.mark.parametrize("name", USES)
def test_ray_still_has(name: str) -> None:
    try:
        look_up(name)
    except AttributeError:
        pytest.fail(f"Ray {ray.__version__} has no {name}, of which we need: {USES[name]}")


def test_tune_makes_its_actors_with_our_manager() -> None:
    assert "RayActorManager(" in inspect.getsource(tune_controller.TuneController.__init__)
    with trials_end_alone():
        assert vars(tune_controller)["RayActorManager"] is ForgivingActorManager
    assert vars(tune_controller)["RayActorManager"] is not ForgivingActorManager


@pytest.fixture
def killed(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The actors that Ray was told to kill."""
    actors: list[Any] = []
    monkeypatch.setattr(ray, "kill", actors.append)
    return actors


@pytest.mark.parametrize("when", ["start", "task"])
@pytest.mark.parametrize(
    "raised",
    [
        OutOfMemoryError("1 worker(s) were killed due to the node running low on memory."),
        ObjectStoreFullError("full"),
        RuntimeEnvSetupError("no such package"),
        WorkerCrashedError(),
        ValueError("not even one of Ray's"),
        ActorDiedError(),
    ],
    ids=lambda raised: type(raised).__name__,
)
def test_an_exception_ends_its_own_trial(when: str, raised: Exception, killed: list[Any]) -> None:
    heard: list[tuple[str, Exception]] = []
    manager = ForgivingActorManager(SimpleNamespace(free_resources=lambda acquired_resource: None))  # type: ignore[arg-type]
    actor = TrackedActor(1, on_error=lambda _, error: heard.append(("actor", error)))
    manager._live_actors_to_ray_actors_resources[actor] = ("its process", None)  # type: ignore[assignment]
    if when == "start":
        manager._actor_start_failed(actor, raised)
    else:
        task = TrackedActorTask(actor, on_error=lambda _, error: heard.append(("task", error)))
        manager._actor_task_failed(task, raised)
    assert [who for who, _ in heard] == (["actor"] if when == "start" else ["actor", "task"])
    for _, error in heard:
        assert isinstance(error, RayActorError)
        assert str(raised) in str(error)
    assert killed == ([] if isinstance(raised, RayActorError) else ["its process"])  # it may not train on
