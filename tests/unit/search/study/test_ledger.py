"""The ledger: what it commits, commits once, and can say again after its process is gone."""

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from optuna.study import StudyDirection

from icd.errors import StateError
from icd.search.core.records import TrialRecord, best
from icd.search.study.database import open_storage
from icd.search.study.ledger import Ledger
from icd.search.suggest.samplers import drive
from tests.driving import EPOCHS, empty_database, sweep_of

SWEEP, _ = sweep_of()


@pytest.fixture
def database(tmp_path: Path) -> str:
    (tmp_path / "study.db").write_bytes(empty_database())
    return f"sqlite:///{tmp_path / 'study.db'}"


@pytest.fixture
def ledger(database: str) -> Ledger:
    made = Ledger.create(open_storage(database), SWEEP, {"uid": "u", "digest": "d"})
    drive(made, SWEEP, None, EPOCHS)
    return made


def again(database: str) -> Ledger:
    return Ledger(open_storage(database), SWEEP.name)


def ask(ledger: Ledger) -> int:
    return ledger.ask(
        lambda trial: {"x": trial.suggest_float("x", 0, 1)}, lambda number, document: {"key": f"k{number}"}
    )


def test_a_whole_study_is_not_made_again(database: str, ledger: Ledger) -> None:
    with pytest.raises(StateError, match="sweep 'tiny' exists already"):
        Ledger.create(open_storage(database), SWEEP, {"uid": "other", "digest": "d"})
    assert again(database).attributes == {"uid": "u", "digest": "d"}
    assert Ledger.names(open_storage(database)) == ["tiny"]


@pytest.mark.parametrize("noted", [{}, {"icd:format": 3, "uid": "first"}])
def test_a_study_that_was_begun_is_made_anew(database: str, noted: dict[str, Any]) -> None:
    storage = open_storage(database)
    study_id = storage.create_new_study([StudyDirection.MINIMIZE, StudyDirection.MINIMIZE], "tiny")
    for name, value in noted.items():
        storage.set_study_user_attr(study_id, name, value)
    made = Ledger.create(open_storage(database), SWEEP, {"uid": "second", "digest": "d"})
    assert made.attributes == {"uid": "second", "digest": "d"}
    assert made.study.directions == [StudyDirection.MAXIMIZE]


@pytest.mark.parametrize(("noted", "trials"), [({}, 1), ({"owner": "Anna"}, 0), ({"icd:format": 3}, 1)])
def test_a_study_of_another_program_is_left_as_it_is(database: str, noted: dict[str, Any], trials: int) -> None:
    storage = open_storage(database)
    study_id = storage.create_new_study([StudyDirection.MAXIMIZE], "tiny")
    for name, value in noted.items():
        storage.set_study_user_attr(study_id, name, value)
    for _ in range(trials):
        storage.create_new_trial(study_id)
    with pytest.raises(StateError, match="study 'tiny' is no sweep of icd, and is left as it is"):
        Ledger.create(storage, SWEEP, {"uid": "u", "digest": "d"})
    with pytest.raises(StateError, match="is no sweep of icd"):
        Ledger.remove(storage, "tiny")
    assert storage.get_study_user_attrs(study_id) == noted
    assert storage.get_n_trials(study_id) == trials


def test_everything_is_on_the_disk_when_the_call_returns(database: str, ledger: Ledger) -> None:
    number = ask(ledger)
    assert again(database).record(number).params == ledger.record(number).params
    ledger.note(number, key="k", attempts=1)
    assert (again(database).record(number).key, again(database).record(number).attempts) == ("k", 1)
    ledger.add_epoch(number, 1, 0.5)
    assert again(database).record(number).curve == {1: 0.5}
    ledger.tell(number, "complete", [0.7], seconds=3.0, reason="")
    stored = again(database).record(number)
    assert (stored.state, stored.values, stored.attributes["seconds"]) == ("complete", (0.7,), 3.0)
    assert stored.ended is not None
    assert stored == ledger.record(number)


def test_saying_it_twice_changes_nothing(database: str, ledger: Ledger) -> None:
    number = ask(ledger)
    for value in (0.5, 0.9):
        ledger.add_epoch(number, 1, value)
    ledger.tell(number, "complete", [0.7], reason="first")
    ledger.tell(number, "failed", reason="second")
    ledger.add_epoch(number, 2, 0.9)
    for record in (ledger.record(number), again(database).record(number)):
        assert (record.state, record.values, record.reason, record.curve) == ("complete", (0.7,), "first", {1: 0.5})


def test_a_driver_that_was_taken_for_dead_is_stopped(database: str, ledger: Ledger) -> None:
    number = ask(ledger)
    late = again(database)
    drive(late, SWEEP, None, EPOCHS)
    ledger.tell(number, "complete", [0.7])
    with pytest.raises(StateError, match="another driver has ended a trial of sweep 'tiny' meanwhile"):
        late.tell(number, "failed", reason="late")
    assert again(database).record(number).state == "complete"


def test_a_trial_that_another_process_made_meanwhile_stops_this_one(database: str, ledger: Ledger) -> None:
    late = again(database)
    drive(late, SWEEP, None, EPOCHS)
    assert ask(ledger) == 0
    with pytest.raises(StateError, match="another process writes this study: trial 0 became 1"):
        ask(late)


@pytest.mark.parametrize("marks", [{"digest": "d"}, {"digest": "d", "icd:format": 2}])
def test_a_database_of_another_format_is_refused(database: str, ledger: Ledger, marks: dict[str, Any]) -> None:
    storage = open_storage(database)
    Ledger.refuse_earlier(storage)
    study_id = storage.create_new_study([optuna.study.StudyDirection.MAXIMIZE], "older")
    Ledger.refuse_earlier(storage)  # it was only begun
    for name, value in marks.items():
        storage.set_study_user_attr(study_id, name, value)
    with pytest.raises(StateError, match="sweep 'older' was made by a version of icd with another format"):
        Ledger.refuse_earlier(storage)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_values_are_finite(ledger: Ledger, value: float) -> None:
    number = ask(ledger)
    with pytest.raises(ValueError, match="must be finite"):
        ledger.add_epoch(number, 1, value)
    assert ledger.record(number).curve == {}


def test_a_pruned_trial_has_the_value_of_its_last_epoch(ledger: Ledger, database: str) -> None:
    number = ask(ledger)
    for epoch, value in ((1, 0.9), (2, 0.3)):
        ledger.add_epoch(number, epoch, value)
    ledger.tell(number, "pruned", reason="pruned at epoch 2")
    (trial,) = again(database).study.trials
    assert (trial.state, trial.value) == (optuna.trial.TrialState.PRUNED, 0.3)
    record = again(database).record(number)
    assert (record.state, record.values, record.reason) == ("pruned", (), "pruned at epoch 2")


def test_a_baseline_is_one_commit_and_one_trial(ledger: Ledger, database: str) -> None:
    first = ledger.add_baseline("KD", {}, {}, {"key": "k", "control": True})
    assert ledger.add_baseline("KD", {}, {}, {"key": "k", "control": True}) == first
    (record,) = again(database).records()
    assert (record.baseline, record.key, record.control, record.state) == ("KD", "k", True, "running")
    assert record.attributes == {}, "marks of ours stay inside"


def test_a_list_of_runs_has_a_study_and_numbers_of_its_own(ledger: Ledger, database: str) -> None:
    def begin(stage: str, round_: int, seed: int) -> int:
        return ledger.add_baseline(f"KD seed {seed}", {}, {}, {"stage": stage, "round": round_, "seed": seed})

    first = ask(ledger)
    lists = [("confirm", 1, 101), ("ablate", 1, 101), ("race", 1, 103), ("confirm", 2, 104), ("confirm", 1, 102)]
    numbers = [100_000, 200_000, 300_000, 400_000, 100_001]
    assert [begin(*run) for run in [*lists, lists[0]]] == [*numbers, 100_000], "each run once"
    ledger.tell(200_000, "failed", reason="it broke")
    assert ask(ledger) == first + 1, "the search sees none of them"
    found = again(database)
    assert [record.number for record in found.records()] == [0, 1]
    assert [record.number for record in found.records("confirm")] == [100_000, 100_001, 400_000]
    assert (found.record(200_000).stage, found.record(200_000).state) == ("ablate", "failed")
    names = [study.study_name for study in open_storage(database).get_all_studies()]
    assert sorted(names) == ["tiny", "tiny/ablate/1", "tiny/confirm/1", "tiny/confirm/2", "tiny/race/1"]
    Ledger.remove(open_storage(database), "tiny")
    assert open_storage(database).get_all_studies() == []


class DiedError(Exception):
    """Stands for the death of the process."""


def test_an_ask_that_is_cut_off_leaves_nothing(ledger: Ledger, database: str) -> None:
    def dying(number: int, document: Any) -> Any:
        raise DiedError

    with pytest.raises(DiedError):
        ledger.ask(lambda trial: {"x": trial.suggest_float("x", 0, 1)}, dying)
    assert again(database).records() == ledger.records() == []
    number = ask(ledger)
    (record,) = again(database).records()
    assert (record.number, record.key, record.params) == (number, "k0", ledger.record(0).params)


def test_an_ask_whose_commit_was_not_confirmed_is_not_made_twice(
    ledger: Ledger, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = RDBStorage.create_new_trial

    def cut_off(self: RDBStorage, *args: Any, **more: Any) -> int:
        monkeypatch.setattr(RDBStorage, "create_new_trial", create)
        create(self, *args, **more)
        raise StorageInternalError("the connection was lost")

    monkeypatch.setattr(RDBStorage, "create_new_trial", cut_off)
    assert ask(ledger) == 0
    assert [record.key for record in again(database).records()] == ["k0"]
    assert ask(ledger) == 1


def test_states_come_back(ledger: Ledger) -> None:
    for state in ("complete", "pruned", "failed", "duplicate"):
        number = ask(ledger)
        more: dict[str, Any] = {"twin": 0} if state == "duplicate" else {}
        ledger.tell(number, state, [0.5] if state == "complete" else None, **more)
    assert [record.state for record in ledger.records()] == ["complete", "pruned", "failed", "duplicate"]
    assert ledger.records()[3].twin == 0


@pytest.mark.parametrize(("maximize", "winner"), [(True, 1), (False, 0)])
def test_best(maximize: bool, winner: int) -> None:
    def record(number: int, state: Any, *values: float) -> TrialRecord:
        return TrialRecord(number=number, state=state, values=values)

    records = [record(0, "complete", 1.0), record(1, "complete", 2.0), record(2, "complete", 2.0), record(3, "pruned")]
    found = best(records, maximize=maximize)
    assert found is not None
    assert found.number == winner
    assert best(records[3:], maximize=maximize) is None


def test_times_are_utc(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    number, now = ask(ledger), datetime.now(UTC)
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        ledger.tell(ask(ledger), "failed", reason="no")
        started, ended = ledger.record(1).started, ledger.record(1).ended
    finally:
        monkeypatch.undo()
        time.tzset()
    for moment in (ledger.record(number).started, started, ended):
        assert moment is not None
        assert moment.endswith("Z")
        assert abs(datetime.fromisoformat(moment) - now) < timedelta(minutes=5)
