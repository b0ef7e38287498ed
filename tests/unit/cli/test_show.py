"""Tables of the reading verbs."""

from pathlib import Path

import pytest

from icd.cli.format import configuration, count_text, trial_text
from icd.cli.outcomes import _cut
from icd.cli.sweep import duration
from icd.search.core.records import TrialRecord
from icd.search.sweep_status import trial_row
from icd.text import cell_text, columns, size_text


def test_columns() -> None:
    assert columns(["n", "name", "x"], [[1, "a", 0.123456], [10, "bcdef", None]], left=["name"]) == [
        " n  name        x",
        " 1  a      0.1235",
        "10  bcdef       -",
    ]
    assert columns(["n"], []) == ["n"]
    assert columns(["n"], [[12345.6], [1e15]])[1:] == ["12346", "1e+15"]


LONG = "k" * 10


@pytest.mark.parametrize(
    ("texts", "shown"),
    [
        (["short", f"{'z' * 60}a", f"{'z' * 60}b"], ["short", "...zzzzzzzza", "...zzzzzzzzb"]),
        ([f"{LONG}1{'z' * 60}a", f"{LONG}1{'z' * 60}b", f"{LONG}3{'z' * 60}a"], None),
        ([f"a{'z' * 60}", f"b{'z' * 60}"], [f"a{'z' * 44}...", f"b{'z' * 44}..."]),
    ],
    ids=["a short one is whole", "all whole where two would look the same", "different at the beginning"],
)
def test_values_that_differ_look_different(texts: list[str], shown: list[str] | None) -> None:
    assert _cut(texts) == (shown or texts)


def test_sizes_have_three_digits_and_a_unit() -> None:
    sizes = (0, 999, 5150, 817_000, 999_600, 69_300_000, 64e9, 2.5e12)
    said = ["0 bytes", "999 bytes", "5.15 kB", "817 kB", "1 MB", "69.3 MB", "64 GB", "2.5 TB"]
    assert [size_text(size) for size in sizes] == said


@pytest.mark.parametrize(
    ("value", "text"), [(None, "-"), (True, "true"), (["a", 0.5, False], "a, 0.5, false"), ((), ""), (1234.5, "1234")]
)
def test_a_value_is_written_as_people_read_it(value: object, text: str) -> None:
    assert cell_text(value) == text


def test_configuration() -> None:
    params = {"base_loss": "kd", "cluster_weight": 12.34567}
    record = TrialRecord(number=0, state="complete", params=params)
    assert configuration(record) == "base_loss=kd  cluster_weight=12.35"
    assert configuration(record, widest=15) == "base_loss=kd..."
    assert configuration(TrialRecord(number=0, state="complete", baseline="iCD-KD")) == "iCD-KD"


def test_counts() -> None:
    assert count_text({"running": 0, "complete": 3, "failed": 1}) == "3 complete, 1 failed"
    assert count_text({"running": 0}) == "none"


def test_weights_of_a_trial_are_shown_as_its_configuration_has_them() -> None:
    raw = {"method.cluster_scale_weights.s2": 0.25, "method.cluster_scale_weights.s4": 1.0}
    record = TrialRecord(number=0, state="complete", params=raw)
    lines = trial_text(trial_row(record, ["val/top1"]), record, Path())
    assert "  method.cluster_scale_weights.s2: 0.2" in lines
    assert "  method.cluster_scale_weights.s4: 0.8" in lines


def test_durations() -> None:
    assert [duration(hours) for hours in (0.01, 0.5, 1.9, 2, 30.25)] == ["36 s", "30 min", "114 min", "2.0 h", "30.2 h"]
