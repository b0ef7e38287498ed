"""The sweep whose trials train nothing, on which bench/ times the driver: it must be driven to its end."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "bench"))
import no_op
import synthetic


def test_every_trial_of_the_made_up_sweep_is_begun_and_completes(tmp_path: Path) -> None:
    driver = synthetic.driver_for(tmp_path, synthetic.document("drive", trials=4, epochs=3))
    while (attempt := driver.next_attempt()) is not None:
        driver.on_finished(no_op.no_op(attempt, driver.on_epoch))
    assert [record.state for record in driver.ledger.records()] == ["complete"] * 4
