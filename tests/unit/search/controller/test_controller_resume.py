"""A second driver goes on as the first would have; budgets and failures end a sweep."""

from pathlib import Path
from typing import Any

import pytest
from optuna.exceptions import StorageInternalError

from icd.config.read_sweep import read_sweep
from icd.config.read_trial import read_trial
from icd.config.trial import TrialConfig
from icd.config.yaml import Document
from icd.errors import ConfigError, StateError
from icd.search.core.attempts import Attempt
from icd.search.core.records import State, failed_too_often
from icd.search.run_sweep import _begun
from icd.search.settings import Settings
from icd.search.study.database import open_storage, storage_url
from icd.search.study.ledger import Ledger
from icd.search.suggest.search_source import retry_failed
from icd.search.sweep_status import has_ended, status_of, used_budget
from tests.driving import EPOCHS, POINTS, REPEATS, Hand
from tests.studies import Study, changed

REPEATING: dict[str, Any] = {"ranges": POINTS, "sampler": REPEATS, "budget": {"trials": 3}}

TPE: dict[str, Any] = {
    "ranges": {
        "scales": {"choices": [[1], [1, 2], [1, 2, 4]]},
        "cluster_weight": {"low": 0.5, "high": 64, "log": True},
        "base_loss": {"kd": {"temperature": {"low": 1, "high": 8}}, "dkd": {}},
    },
    "sampler": {"name": "tpe", "startup_trials": 3},
    "enqueue": ["KD", "iCD-KD"],
    "budget": {"trials": 10},
    "pruner": {"name": "median", "startup_trials": 2, "control_fraction": 0.3},
}


def table(hand: Hand) -> list[Any]:
    return [
        (r.number, r.state, dict(r.params), tuple(r.values), dict(r.curve), r.key, r.control, r.would_stop_at)
        for r in hand.ledger.records()
    ]


def test_running_trials_are_issued_again_as_they_were(tmp_path: Path) -> None:
    hand = Hand(tmp_path, enqueue=["KD"])
    attempts = [hand.driver.next_attempt() for _ in range(3)]
    assert all(attempts)
    again = hand.again(enqueue=["KD"])
    retaken = [again.driver.next_attempt() for _ in range(3)]
    for before, after in zip(attempts, retaken, strict=True):
        assert before is not None
        assert after is not None
        assert (after.number, after.runs, after.attempt) == (before.number, before.runs, 2)
    assert [record.baseline for record in again.ledger.records()] == ["KD", None, None]


class Died(BaseException):
    pass


@pytest.mark.parametrize("parameters_said", [0, 1, 2])
def test_an_ask_that_is_cut_off_leaves_nothing_and_changes_nothing(tmp_path: Path, parameters_said: int) -> None:
    (tmp_path / "whole").mkdir()
    hand = Hand(tmp_path / "whole", **TPE)
    hand.finish()
    (tmp_path / "cut").mkdir()
    cut = Hand(tmp_path / "cut", **TPE)
    for _ in range(5):
        attempt = cut.driver.next_attempt()
        assert attempt is not None
        cut.train(attempt)
    suggest, said = cut.space.suggest, 0

    def dying(trial: Any) -> Any:
        class Dying:
            def __getattr__(self, name: str) -> Any:
                def call(*arguments: Any, **keywords: Any) -> Any:
                    nonlocal said
                    if said == parameters_said:
                        raise Died
                    said += 1
                    return getattr(trial, name)(*arguments, **keywords)

                return call

        return suggest(Dying())  # type: ignore[arg-type]

    cut.space.suggest = dying  # type: ignore[method-assign]
    with pytest.raises(Died):
        cut.driver.next_attempt()
    assert len(cut.stored()) == 5
    again = cut.again(**TPE)
    again.finish()
    assert table(again) == table(hand)


@pytest.mark.parametrize("cut_after", [1, 4, 5, 8])
def test_a_driver_killed_between_trials_changes_nothing(tmp_path: Path, cut_after: int) -> None:
    for name in ("whole", "cut"):
        (tmp_path / name).mkdir()
    whole, cut = Hand(tmp_path / "whole", **TPE), Hand(tmp_path / "cut", **TPE)

    def value(number: int, epoch: int) -> float:
        return 50.0 + (number * 37 % 11) + epoch

    whole.finish(value)
    for _ in range(cut_after):
        attempt = cut.driver.next_attempt()
        assert attempt is not None
        cut.train(attempt, value)
    attempt = cut.driver.next_attempt()
    assert attempt is not None
    cut.epoch(attempt, 1, value(attempt.number, 1))
    again = cut.again(**TPE)
    again.finish(value)
    assert table(again) == table(whole)


def test_a_duplicate_cut_off_before_its_end_is_told(tmp_path: Path) -> None:
    changes: dict[str, Any] = {"ranges": POINTS, "sampler": REPEATS, "budget": {"trials": 3}}
    hand = Hand(tmp_path, **changes)
    hand.finish()
    number = hand.states.index("duplicate")
    study_id = hand.storage.get_study_id_from_name(hand.sweep.name)
    storage = hand.storage
    trial_id = storage.create_new_trial(study_id)
    for name, distribution in storage.get_all_trials(study_id)[number].distributions.items():
        value = storage.get_all_trials(study_id)[number].params[name]
        storage.set_trial_param(trial_id, name, distribution.to_internal_repr(value), distribution)
    storage.set_trial_user_attr(trial_id, "key", hand.ledger.record(number).key)
    again = hand.again(**changes)
    assert again.driver.next_attempt() is None
    assert again.ledger.records()[-1].twin == hand.ledger.record(number).twin
    assert "running" not in again.states


@pytest.fixture
def _small_weights_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Play a combination that no corner of the space showed."""

    def strict(document: Document) -> TrialConfig:
        if 0.5 < document.data["method"]["cluster_weight"] < 8:
            raise ConfigError("method.cluster_weight: too small for these scales")
        return read_trial(document)

    monkeypatch.setattr("icd.search.suggest.search_space.read_trial", strict)


@pytest.mark.usefixtures("_small_weights_are_refused")
def test_a_combination_that_is_no_configuration_fails_and_the_sweep_goes_on(tmp_path: Path) -> None:
    hand = Hand(tmp_path, budget={"trials": 8})
    trained = hand.finish()
    refused = [record for record in hand.ledger.records() if record.state == "failed"]
    assert refused
    assert {r.number for r in refused} | set(trained) == set(range(8))
    assert all("too small for these scales" in record.reason for record in refused)
    assert len([line for line in hand.said if "too small" in line]) == len(refused)
    assert {int(view.key) for view in hand.tracker.begun} == set(trained)


@pytest.mark.usefixtures("_small_weights_are_refused")
def test_a_refusal_cut_off_before_its_end_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hand = Hand(tmp_path, budget={"trials": 8})
    tell = hand.ledger.tell

    def die(number: int, state: State, *args: Any, **attributes: Any) -> None:
        if state == "failed":
            raise KeyboardInterrupt
        tell(number, state, *args, **attributes)

    monkeypatch.setattr(hand.ledger, "tell", die)
    with pytest.raises(KeyboardInterrupt):
        hand.finish()
    number = len(hand.states) - 1
    assert hand.ledger.record(number).state == "running"
    again = hand.again(budget={"trials": 8})
    again.finish()
    assert again.ledger.record(number).state == "failed"
    assert "too small for these scales" in again.ledger.record(number).reason
    assert "running" not in again.states
    assert again.driver.source.tried == 8


def test_hours_count_over_drivers(tmp_path: Path) -> None:
    hand = Hand(tmp_path, budget={"trials": 9, "hours": 1.0})
    assert hand.driver.next_attempt() is not None
    hand.ledger.note_study(seconds=3601.0)
    again = hand.again(budget={"trials": 9, "hours": 1.0})
    assert again.finish() == [0], "what runs is ended, nothing new is begun"
    assert again.driver.stopped_by == "budget"


def test_gpu_hours_count_over_drivers(tmp_path: Path) -> None:
    changes: dict[str, Any] = {"budget": {"trials": 9, "gpu_hours": 0.05}}  # 180 s; a trial takes 40 s of half a GPU
    hand = Hand(tmp_path, gpus=0.5, **changes)
    for _ in range(5):
        attempt = hand.driver.next_attempt()
        assert attempt is not None
        hand.train(attempt)
    hand.gpus = 1.0
    again = hand.again(**changes)
    assert again.finish() == [5, 6, 7], "those that ended before are counted by the GPUs that they had"
    assert again.driver.stopped_by == "budget"
    again.ledger.note_study(gpus_per_trial=1.0)
    assert used_budget(again.ledger, again.stored())["gpu_hours"] == pytest.approx((5 * 20 + 3 * 40) / 3600)


def test_epochs_between_reports_cost_too(tmp_path: Path) -> None:
    training = {"preset": "digits100", "epochs": EPOCHS, "report_every": 2}
    hand = Hand(tmp_path, training=training, budget={"trials": 1})
    attempt = hand.driver.next_attempt()
    assert attempt is not None
    for epoch in (2, 4):
        hand.epoch(attempt, epoch, seconds=10.0)
    hand.end(attempt)
    assert hand.ledger.record(0).attributes["seconds"] == 40.0


def test_three_failures_at_the_start_end_the_sweep(tmp_path: Path) -> None:
    hand = Hand(tmp_path, budget={"trials": 9})
    for _ in range(3):
        attempt = hand.driver.next_attempt()
        assert attempt is not None
        hand.end(attempt, "error", "bug")
    assert hand.driver.next_attempt() is None
    assert hand.driver.done
    assert hand.driver.stopped_by == "failures"
    assert failed_too_often(hand.ledger.records(), 0.5)
    assert hand.said[-1] == "the first 3 trials all failed: starting no more"


@pytest.mark.parametrize(("failures", "too_often"), [(1, False), (2, True)])
def test_failed_too_often(tmp_path: Path, failures: int, too_often: bool) -> None:
    hand = Hand(tmp_path, budget={"trials": 4, "max_failed_fraction": 0.25})
    for _ in range(4 - failures):
        attempt = hand.driver.next_attempt()
        assert attempt is not None
        hand.train(attempt)
    for _ in range(failures):
        attempt = hand.driver.next_attempt()
        assert attempt is not None
        hand.end(attempt, "error", "bug")
    assert hand.driver.done
    assert failed_too_often(hand.ledger.records(), 0.25) is too_often


def test_a_study_that_stops_dead_terms_is_another(tmp_path: Path) -> None:
    study = Study(tmp_path)
    storage, settings = open_storage(storage_url(tmp_path)), Settings(root=tmp_path)
    assert _begun(storage, study.sweep, study.document, settings) is not None
    document = changed(pruner={**study.document["search"]["pruner"], "dead_terms": True})
    asking = read_sweep(Document(document, "test"))
    assert asking.digest() != study.sweep.digest()
    with pytest.raises(StateError, match=r"pruner.dead_terms: False -> True"):
        _begun(storage, asking, document, settings)
    assert read_sweep(Document(document, "test")) == asking


def test_a_finished_sweep_with_a_larger_budget_is_not_finished_even_if_its_driver_dies_at_once(tmp_path: Path) -> None:
    study = Study(tmp_path)
    study.trial("complete", [1, 2, 3, 4])
    study.ledger.note_study(stopped_by="budget")
    storage = open_storage(storage_url(tmp_path))

    def begun(trials: int, *, extend: bool = True) -> Ledger:
        settings = Settings(root=tmp_path, extend=extend)
        document = changed(budget={"trials": trials})
        found = _begun(storage, read_sweep(Document(document, "test")), document, settings)
        assert found is not None
        return found

    with pytest.raises(StateError, match=r"'icd resume by-hand --root \S+ keeps it, --extend .*trials: 6 -> 5$"):
        begun(5, extend=False)
    same = begun(6)
    assert has_ended(same, same.records(), [])
    more = begun(7)
    assert not has_ended(more, more.records(), [])
    assert status_of(tmp_path, "by-hand").state == "stopped"


def test_what_a_reader_sees_is_what_the_driver_knows(tmp_path: Path) -> None:
    hand = Hand(tmp_path, **TPE)
    hand.finish(lambda number, epoch: 90.0 - number + epoch)
    fresh = Ledger(hand.storage, "tiny").records()
    assert fresh == hand.ledger.records()


RETRY: dict[str, Any] = {"enqueue": ["KD"], "budget": {"trials": 5}}


def fail_first(hand: Hand, failures: int) -> None:
    """Let the first trials fail, and train what the budget leaves."""
    for _ in range(failures):
        attempt = hand.driver.next_attempt()
        assert attempt is not None
        hand.end(attempt, "setup", "the data file is damaged")
    hand.finish()


def test_failed_trials_are_trained_again_in_their_place(tmp_path: Path) -> None:
    hand = Hand(tmp_path, **RETRY)
    fail_first(hand, 2)
    assert hand.states == ["failed", "failed", "complete", "complete", "complete"]
    before = hand.ledger.records()
    assert retry_failed(hand.ledger) == [5, 6]
    again = hand.again(**RETRY)
    assert again.finish() == [5, 6]
    records = again.stored()
    assert [r.state for r in records] == ["retried"] * 2 + ["complete"] * 5
    assert [(r.baseline, r.key, r.params, r.control) for r in records[5:]] == [
        (r.baseline, r.key, r.params, r.control) for r in before[:2]
    ]
    assert records[0].reason == "the data file is damaged; tried again as trial 5"
    assert sum(r.counts for r in records) == 5, "the budget's trials are those that were trained"
    assert not failed_too_often(again.ledger.records(), 0.0)
    assert retry_failed(again.ledger) == []
    assert again.again(**RETRY).driver.done


def test_a_retry_that_fails_may_be_tried_again_and_a_kill_leaves_no_second_one(tmp_path: Path) -> None:
    hand = Hand(tmp_path, **RETRY)
    fail_first(hand, 1)
    assert retry_failed(hand.ledger) == [5]
    assert retry_failed(hand.again(**RETRY).ledger) == [], "it runs"  # a driver that was killed after it made trial 5
    again = hand.again(**RETRY)
    fail_first(again, 1)
    assert retry_failed(again.ledger) == [6]
    last = again.again(**RETRY)
    last.finish()
    assert [(r.number, r.state) for r in last.stored() if r.baseline] == [
        (0, "retried"),
        (5, "retried"),
        (6, "complete"),
    ]


def test_what_another_trial_has_trained_is_not_tried_again(tmp_path: Path) -> None:
    grid: dict[str, Any] = {"ranges": POINTS, "sampler": "grid", "budget": None}
    hand = Hand(tmp_path, **grid)
    fail_first(hand, 2)
    assert retry_failed(hand.ledger) == [3, 4]
    again = hand.again(**grid)
    again.finish()
    assert [r.state for r in again.stored()] == ["retried", "retried", "complete", "complete", "complete"]
    assert len({r.key for r in again.stored()}) == 3
    assert again.driver.stopped_by == "exhausted"


def repeating(root: Path) -> tuple[Hand, list[Attempt]]:
    """Begin every trial of a sweep that draws one point twice."""
    hand, attempts = Hand(root, **REPEATING), list[Attempt]()
    while (attempt := hand.driver.next_attempt()) is not None:
        attempts.append(attempt)
    return hand, attempts


def test_a_failed_trial_is_tried_again_though_it_has_a_duplicate(tmp_path: Path) -> None:
    hand, attempts = repeating(tmp_path)
    twin = next(record.twin for record in hand.ledger.records() if record.state == "duplicate")
    for attempt in attempts:
        hand.end(attempt, *(["setup", "no data"] if attempt.number == twin else ["stopped", "as asked"]))
    assert [hand.ledger.record(number).params for number in retry_failed(hand.ledger)] == [
        hand.ledger.record(twin or 0).params
    ]


@pytest.mark.parametrize("cut", ["should_prune", "_mark", "fetch", "costs", "tell"])
def test_a_kill_in_the_middle_of_pruning_leaves_the_trial_pruned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cut: str
) -> None:
    """Asked again after the kill, successive halving would let it pass the rung that it had judged."""
    pruner = {"name": "successive_halving", "min_epochs": 1, "reduction": 2, "control_fraction": 0}
    hand = Hand(tmp_path, pruner=pruner)
    first, second = hand.driver.next_attempt(), hand.driver.next_attempt()
    assert first is not None
    assert second is not None
    hand.train(first)

    def die(*given: object, **more: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(hand.ledger if hasattr(hand.ledger, cut) else hand.driver.recorder, cut, die)
    with pytest.raises(KeyboardInterrupt):
        hand.epoch(second, 1, 20.0)
    again = hand.again(pruner=pruner)
    record = again.stored()[1]
    assert (record.state, record.reason, record.attributes["seconds"]) == ("pruned", "pruned at epoch 1", 10.0)
    (trial,) = again.ledger.frozen([1])
    assert trial.system_attrs == {"completed_rung_0": 20.0}, "later trials are compared with it"
    attempt = again.driver.next_attempt()
    assert attempt is not None
    assert attempt.number == 2
    again.close()


def test_a_verdict_survives_a_database_that_went_away_once_it_was_committed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hand = Hand(tmp_path, pruner={"name": "successive_halving", "min_epochs": 1, "reduction": 2, "control_fraction": 0})
    first, second = hand.driver.next_attempt(), hand.driver.next_attempt()
    assert first is not None
    assert second is not None
    hand.train(first)
    mark = hand.storage.set_trial_system_attr

    def unheard(*given: Any) -> None:
        mark(*given)
        monkeypatch.undo()
        raise StorageInternalError("the answer is lost")

    monkeypatch.setattr(hand.storage, "set_trial_system_attr", unheard)
    assert not hand.epoch(second, 1, 20.0)
    assert hand.stored()[1].state == "pruned"


def test_a_trial_that_completes_has_no_reason_of_a_failure_that_was_not_committed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hand = Hand(tmp_path)
    attempt = hand.driver.next_attempt()
    assert attempt is not None

    def die(*given: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(hand.storage, "set_trial_state_values", die)
    with pytest.raises(KeyboardInterrupt):
        hand.end(attempt, "setup", "a file is missing")
    monkeypatch.undo()
    again = hand.again()
    attempt = again.driver.next_attempt()
    assert attempt is not None
    again.train(attempt)
    assert (again.stored()[0].state, again.stored()[0].reason) == ("complete", "")
    again.close()


def test_duplicates_do_not_hide_that_all_trials_fail(tmp_path: Path) -> None:
    hand, attempts = repeating(tmp_path)
    assert "duplicate" in hand.states
    for attempt in attempts[:2]:
        hand.end(attempt, "error", "KeyError")
    again = hand.again(**REPEATING)
    third = again.driver.next_attempt()
    assert third is not None
    again.end(third, "error", "KeyError")
    assert again.driver.stopped_by == "failures"
    again.close()
