"""What curves that are there say of a pruner's rungs."""

import json
from pathlib import Path
from typing import Any

import pytest

from icd import search
from icd.errors import DataError
from icd.results.pruning import audit_sweep
from icd.search.foresight import FEWEST_PAIRS, concordance, first_from, foresight
from tests.driving import EPOCHS, Hand, sweep_of

HALVING: dict[str, Any] = {"name": "successive_halving", "min_epochs": 1, "reduction": 2}


def test_concordance_counts_pairs_by_hand() -> None:
    curves = [{1: 5, 2: 1, 3: 10}, {1: 5, 2: 2, 3: 20}, {1: 4, 2: 4, 3: 30}, {1: 9, 2: 3, 3: 30}, {3: 7}]
    found = concordance(curves, 1)  # of 5 pairs with other ends: 1 tie, 2 right (trial 3), 2 wrong (trial 2)
    assert (found.concordance, found.pairs) == ((0.5 + 2) / 5, 5)
    assert concordance(curves, 2).concordance == 1.0
    assert (concordance([{1: 1, 2: 1}], 1).concordance, concordance([], 1).pairs) == (None, 0)
    assert first_from({3: 1.0, 6: 2.0, 9: 3.0}, 4) == 2.0
    assert first_from({3: 1.0}, 1) is None


def table(path: Path, curves: list[list[float]]) -> Path:
    path.write_text(json.dumps({"curves": [{"top1": curve} for curve in curves]}))
    return path


def test_a_table_of_longer_curves_counts_by_its_share_of_the_epochs(tmp_path: Path) -> None:
    sweep, _ = sweep_of(pruner=HALVING)  # four epochs: rungs at 1 and 2
    up, late = [[float(n)] * 8 for n in range(10)], [[-float(n)] * 2 + [float(n)] * 6 for n in range(10)]
    assert [r.concordance for r in foresight(sweep, tmp_path, 4, table(tmp_path / "up", up)).rungs] == [1.0, 1.0]
    found = foresight(sweep, tmp_path, 4, table(tmp_path / "late", late))
    assert [(rung.epoch, rung.concordance, rung.pairs) for rung in found.rungs] == [(1, 0.0, 45), (2, 1.0, 45)]
    assert found.warning(sweep).endswith("fewer than 75%; take min_epochs: 2")
    few = foresight(sweep, tmp_path, 4, table(tmp_path / "few", late[:9]))
    assert few.rungs[0].pairs < FEWEST_PAIRS
    assert few.warning(sweep) == ""
    with pytest.raises(DataError, match="no table of curves"):
        foresight(sweep, tmp_path, 4, tmp_path)


def test_a_sweep_that_searches_epochs_compares_them_as_its_pruner_and_its_audit_do(tmp_path: Path) -> None:
    training = {"preset": "digits100", "epochs": {"low": 2, "high": EPOCHS}}
    hand = Hand(tmp_path, training=training, pruner={**HALVING, "control_fraction": 1.0}, budget={"trials": 9})
    hand.finish(lambda number, epoch: float(number * (1 if epoch > 1 else -1)))
    records = hand.ledger.records()
    assert len({record.epochs for record in records}) > 1
    audit = audit_sweep(hand.sweep.to_data()["search"] | {"objectives": [{"direction": "maximize"}]}, records)
    assert audit is not None
    assert foresight(hand.sweep, tmp_path, EPOCHS).rungs == audit.rungs


def test_trials_of_the_sweep_itself_warn_before_it_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ICD_STORAGE_URL", raising=False)
    parts: dict[str, Any] = {"budget": {"trials": 12}, "pruner": {**HALVING, "control_fraction": 1.0}}
    hand = Hand(tmp_path, **parts)
    hand.finish(lambda number, epoch: float(number if epoch > 1 else -number))
    _, document = sweep_of(**parts)
    said: list[str] = []
    plan = search.plan(document, root=tmp_path, announce=said.append)
    assert plan.foresight.source == "12 trials of sweep tiny"
    assert any(line.startswith("WARNING: search.pruner stops trials from epoch 1 on, which orders 0%") for line in said)
