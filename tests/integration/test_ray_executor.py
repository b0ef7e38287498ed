"""Ray Tune as an executor, on a Ray of our own: every attempt ends once, whatever its process does."""

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from icd.config.sweep import Resources
from icd.errors import SetupError
from icd.machine import usable_cpus
from icd.search.core.attempts import AttemptResult
from icd.search.core.messages import Heartbeat
from icd.search.executors.ray.cluster import fitting
from icd.search.executors.ray.executor import RayExecutor
from tests.integration.ray_fakes import EPOCHS, FakePolicy, fake_attempt, runner


def nothing() -> None:
    """Tick."""


@pytest.fixture(scope="module")
def said() -> list[str]:
    return []


@pytest.fixture(scope="module")
def executor(tmp_path_factory: pytest.TempPathFactory, said: list[str]) -> Iterator[RayExecutor]:
    executor = RayExecutor(Resources(), tmp_path_factory.mktemp("sweep"), announce=said.append, attempt=fake_attempt)
    yield executor
    executor.close()


@pytest.fixture
def run(executor: RayExecutor, tmp_path: Path) -> Callable[..., FakePolicy]:
    return runner(executor, tmp_path)


def test_all_trials_complete_in_silence(
    run: Callable[..., FakePolicy], said: list[str], capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    capfd.readouterr()
    policy = run([{"seconds": 0.02}] * 12)
    assert sorted(outcome.number for outcome in policy.ends) == list(range(12))
    assert {outcome.kind for outcome in policy.ends} == {"complete"}
    assert len(policy.epochs) == 12 * EPOCHS
    assert policy.most == usable_cpus()
    assert len({outcome.result["pid"] for outcome in policy.ends}) <= policy.most  # processes are used again
    assert capfd.readouterr() == ("", "")
    assert len(said) == 1
    assert said[0].startswith("ray 2.")
    left = {path.name for path in (tmp_path / "trials" / "0000").iterdir()}
    assert left == {"attempt", "pid", "alive"}


def test_no_pickle_holds_the_policy(run: Callable[..., FakePolicy], tmp_path: Path) -> None:
    run([{}])
    files = [path for path in (tmp_path / "tune").rglob("*") if path.is_file()]
    assert files
    assert not [path for path in files if b"FakePolicy" in path.read_bytes()]
    run([{}])
    assert len(list((tmp_path / "tune").iterdir())) == 1  # what nobody reads is removed


def test_the_policy_stops_a_trial_once(run: Callable[..., FakePolicy]) -> None:
    policy = run([{"training": {"epochs": 50}}, {}, {}], stop_after={0: 2, 1: EPOCHS})
    assert policy.kinds(0) == ["stopped"]
    assert policy.kinds(1) == ["complete"]  # after its last epoch nothing is left to stop
    assert max(epoch.epoch for epoch in policy.epochs if epoch.number == 0) == 2


def test_a_trial_that_raises_is_an_error(run: Callable[..., FakePolicy]) -> None:
    policy = run([{"do": "raise"}, {}])
    (outcome,) = [outcome for outcome in policy.ends if outcome.number == 0]
    assert outcome.kind == "error"
    assert outcome.reason == "ZeroDivisionError: as asked"
    assert policy.kinds(1) == ["complete"]


def test_stopping_ends_the_run(run: Callable[..., FakePolicy], executor: RayExecutor, tmp_path: Path) -> None:
    seen: list[Any] = []

    def tick(policy: FakePolicy) -> None:
        seen.append(dict(executor.progress()))
        if sum(map(bool, seen)) > 2:  # it ticks while epochs are under way, which wait for this file
            (tmp_path / "go").touch()
        policy.stopping = bool(policy.epochs)

    policy = run([{"training": {"epochs": 1000}, "sick": None}] * 4, tick)
    assert len(policy.ends) == policy.most
    assert {outcome.kind for outcome in policy.ends} == {"stopped"}
    assert {type(beat) for progress in seen for beat in progress.values()} == {Heartbeat}


def test_stopping_before_a_trial_has_begun_ends_the_run(run: Callable[..., FakePolicy]) -> None:
    def tick(policy: FakePolicy) -> None:
        policy.stopping = bool(policy.running)

    policy = run([{"training": {"epochs": 1000}, "seconds": 1}] * 2, tick)
    assert {outcome.kind for outcome in policy.ends} == {"stopped"}
    assert policy.epochs == []


def test_what_the_policy_raises_comes_out(run: Callable[..., FakePolicy], monkeypatch: pytest.MonkeyPatch) -> None:
    def end(self: FakePolicy, outcome: AttemptResult) -> None:
        raise SetupError("the database is gone")

    monkeypatch.setattr(FakePolicy, "on_finished", end)
    with pytest.raises(SetupError, match="the database is gone"):
        run([{}])


def test_what_the_tick_raises_comes_out(run: Callable[..., FakePolicy]) -> None:
    def tick(policy: FakePolicy) -> None:
        raise SetupError("the lease is gone")

    with pytest.raises(SetupError, match="the lease is gone"):
        run([{}], tick)


def test_signal_handlers_stay(run: Callable[..., FakePolicy]) -> None:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
    before = [signal.getsignal(number) for number in numbers]
    during: list[Any] = []
    run([{}], lambda policy: during.append([signal.getsignal(number) for number in numbers]))
    assert during[-1] == before
    assert [signal.getsignal(number) for number in numbers] == before


@pytest.mark.parametrize(
    ("node", "trial", "places"),
    [
        ((4, 0), (1, 0), 4),
        ((4, 0), (1.5, 0), 2),
        ((8, 2), (1, 1), 2),
        ((8, 2), (1, 0.25), 8),
        ((8, 2), (1, 0.3), 6),
        ((8, 0), (1, 1), 0),
        ((0.5, 1), (1, 1), 0),
    ],
)
def test_how_many_fit(node: tuple[float, float], trial: tuple[float, float], places: int) -> None:
    assert fitting(*node, *trial) == places


# Whole drivers, in processes of their own
