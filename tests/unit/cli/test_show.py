"""Tables of the reading verbs."""

from icd.cli.format import configuration, count_text
from icd.cli.sweep import duration
from icd.search.core.records import TrialRecord
from icd.text import columns


def test_columns() -> None:
    assert columns(["n", "name", "x"], [[1, "a", 0.123456], [10, "bcdef", None]], left=["name"]) == [
        " n  name        x",
        " 1  a      0.1235",
        "10  bcdef       -",
    ]
    assert columns(["n"], []) == ["n"]


def test_configuration() -> None:
    params = {"base_loss": "kd", "cluster_weight": 12.34567}
    record = TrialRecord(number=0, state="complete", params=params)
    assert configuration(record) == "base_loss=kd  cluster_weight=12.35"
    assert configuration(record, widest=15) == "base_loss=kd..."
    assert configuration(TrialRecord(number=0, state="complete", baseline="iCD-KD")) == "iCD-KD"


def test_counts() -> None:
    assert count_text({"running": 0, "complete": 3, "failed": 1}) == "3 complete, 1 failed"
    assert count_text({"running": 0}) == "none"


def test_durations() -> None:
    assert [duration(hours) for hours in (0.01, 0.5, 1.9, 2, 30.25)] == ["36 s", "30 min", "114 min", "2.0 h", "30.2 h"]
