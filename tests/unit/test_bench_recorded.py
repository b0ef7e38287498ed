"""The tables of recorded curves: which pairs count, and what a short schedule foretells."""

import json
import sys
from pathlib import Path

import numpy as np
import optuna
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "bench"))
import portfolio
import recorded
from surrogate import Surrogate

LONG = [[1.0, 3.0, 90.0], [2.0, 2.0, 80.0], [3.0, 1.0, 79.8]]


def table_of(path: Path, curves: list[list[float]], ends: list[str] | None = None) -> Path:
    rows = [
        {
            "parameters": {"training.lr": 0.1 + place / 100},
            "top1": curve,
            "end": (ends or ["complete"] * len(curves))[place],
        }
        for place, curve in enumerate(curves)
    ]
    path.write_text(json.dumps({"name": "pair", "metric": "val/top1", "curves": rows}))
    return path


def test_pairs_in_order_are_counted_among_those_far_enough_apart(tmp_path: Path) -> None:
    table = recorded.RecordedCurves.read(table_of(tmp_path / "long.json", LONG))
    assert table.concordance(table.after(1 / 3)) == (0.0, 3)
    assert table.concordance(table.after(2 / 3)) == (1.0, 3)
    assert table.concordance([5.0, 5.0, 6.0], apart=1.0) == (0.25, 2)  # a tie counts half; 80 and 79.8 are too close


def test_trainings_that_were_cut_off_are_left_out(tmp_path: Path) -> None:
    path = table_of(tmp_path / "long.json", LONG, ["complete", "gpu", "complete"])
    assert [curve for _, curve in recorded.RecordedCurves.read(path).curves] == [LONG[0], LONG[2]]


def test_a_short_table_is_matched_by_its_parameters(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    long = table_of(tmp_path / "long.json", LONG)
    short = table_of(tmp_path / "short.json", [[70.0], [60.0]], ["complete", "complete"])
    assert recorded.main([str(long), "--short", str(short)]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert "short.json: 2 trainings that both tables have" in printed
    assert printed[-3].startswith("| epoch 1 of 3 | 0.00 (1)")
    assert printed[-2].startswith("| end of a schedule of 1 | 1.00 (1)")


def test_the_interval_of_a_gain_holds_it(tmp_path: Path) -> None:
    table = recorded.RecordedCurves.read(table_of(tmp_path / "long.json", [[float(n)] for n in range(12)]))
    right, wrong = table.after(1), [-value for value in table.after(1)]
    assert recorded.gain(table, right, right) == (0.0, 0.0)
    assert recorded.gain(table, wrong, right) == (1.0, 1.0)


def test_what_the_best_of_another_table_reach_here(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert recorded.expected_best([1.0, 2.0, 4.0], 2) == pytest.approx((2 + 4 + 4) / 3)
    here = table_of(tmp_path / "here.json", [[float(n)] for n in range(12)])
    there = table_of(tmp_path / "there.json", [[float(-n)] for n in range(12)])
    assert recorded.main([str(here), "--starts", str(there)]) == 0
    printed = capsys.readouterr().out
    assert "rank correlation -1.00" in printed
    assert "the 5 best there reach here 0.00, 1.00, 2.00, 3.00, 4.00" in printed


def test_a_study_may_train_and_prune_them(tmp_path: Path) -> None:
    table = recorded.RecordedCurves.read(table_of(tmp_path / "long.json", LONG))
    pruner = optuna.pruners.ThresholdPruner(lower=2.5)
    study = optuna.create_study(
        direction="maximize", sampler=optuna.samplers.GridSampler({"row": [0, 1, 2]}), pruner=pruner
    )
    study.optimize(table.objective, n_trials=3)
    assert [trial.state.name for trial in study.trials if trial.params["row"] < 2] == ["PRUNED", "PRUNED"]


@pytest.mark.parametrize(
    ("name", "count", "epochs"), [("", 128, 24), ("-wrn", 46, 24), ("-again", 10, 24), ("-e8", 20, 8), ("-e3", 20, 3)]
)
def test_the_recorded_tables_hold_the_same_configurations(name: str, count: int, epochs: int) -> None:
    folder = Path(recorded.__file__).with_name("recordings")
    long = recorded.RecordedCurves.read(folder / "curves-digits100.json")
    own, table = long.shared(recorded.RecordedCurves.read(folder / f"curves-digits100{name}.json"))
    assert len(own.curves) == count
    assert {len(curve) for _, curve in table.curves} == {epochs}


def test_trees_foretell_configurations_of_a_recorded_space_by_those_near_them() -> None:
    path = Path(recorded.__file__).parent / "recordings" / "curves-digits100.json"
    task = Surrogate(path, 0, 27)
    rows = sorted(json.loads(path.read_text())["curves"], key=lambda row: row["top1"][-1])
    low, high = ([task.true(row["parameters"]) for row in some] for some in (rows[:3], rows[-3:]))
    assert max(low) < task.median < min(high)
    assert task.median < task.best
    one, other = task.curve(task.sample[0], 1), task.curve(task.sample[0], 2)
    assert one.shape == (27,)
    assert 0 < abs(one[-1] - other[-1]) < 5 * 0.5
    assert (one == task.curve(task.sample[0], 1)).all()


def test_a_portfolio_has_what_is_good_everywhere_and_then_what_the_first_lacks() -> None:
    values = np.array([[9.0, 8.0, 1.0, 2.0], [1.0, 8.0, 9.0, 2.0]])
    assert portfolio.portfolio(values, 3, range(4)) == [1, 0, 2]
    assert portfolio.portfolio(values, 2, [0, 3]) == [0, 3]  # only of those that are allowed


def test_what_other_tables_choose_is_told_beside_the_best_of_random_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = []
    for name, last in (("one", [0.1, 3.0, 2.0]), ("other", [7.0, 9.0, 8.0]), ("third", [50.0, 60.0, 70.0])):
        rows = [
            {"parameters": {"training.lr": 0.1 + at / 100}, "top1": [v], "end": "complete"} for at, v in enumerate(last)
        ]
        files.append(tmp_path / f"{name}.json")
        files[-1].write_text(json.dumps({"name": name, "curves": rows}))
    assert portfolio.main([*map(str, files), "--size", "1"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("3 configurations that all tables have, 3 near the preset's rate")
    assert "one.json: the others choose 3.00" in said
    assert "| 1 | 60.00 | 60.00 |" in said  # the mean of three, and what the two others found best
