"""Sweeps whose trials train nothing, on which bench/ times and judges the driver: they must be driven to their ends."""

import sys
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "bench"))
import no_op
import search_efficiency
import synthetic
import tables

RECORDED = Path(tables.__file__).parent / "recordings" / "curves-digits100.json"


def test_every_trial_of_the_made_up_sweep_is_begun_and_completes(tmp_path: Path) -> None:
    driver = synthetic.driver_for(tmp_path, synthetic.document("drive", trials=4, epochs=3))
    while (attempt := driver.next_attempt()) is not None:
        driver.on_finished(no_op.no_op(attempt, driver.on_epoch))
    assert [record.state for record in driver.ledger.records()] == ["complete"] * 4


@pytest.mark.parametrize("family", ["power", str(RECORDED)])
def test_curves_that_are_made_up_are_searched_until_the_budget_is_used(family: str) -> None:
    found = search_efficiency.run((family, 0, "random"), 5, None)
    assert len(found["regret"]) == 10
    assert found["complete"] >= 1


def test_a_table_is_searched_evaluation_by_evaluation() -> None:
    values_AB = np.arange(64.0).reshape(8, 8)
    table = tables.Table("made up", {"a": [*range(8)], "b": [*range(8)]}, True, values_AB, np.ones((8, 8)))
    found = list(islice(tables.ours(table, seed=0, workers=2, sampler="random"), 5))
    assert len(set(found)) == 5
    assert set(found) <= set(values_AB.ravel())
