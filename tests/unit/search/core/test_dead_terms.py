"""Which terms are called dead, and in what words."""

from typing import Any

import pytest

from icd.config.trial import TrialConfig
from icd.fields import annotations
from icd.methods import METHODS
from icd.search.core.dead_terms import READ_BY, DeadTerm, dead_kinds, dead_terms, noted_terms, percent
from icd.search.core.records import TrialRecord
from icd.search.suggest.search_space import SearchSpace
from tests.driving import sweep_of

FIELDS = ("cluster_weight", "cluster_scale_weights.s2", "cluster_scale_weights.s4", "base_loss.kd.temperature")
SEARCHED = ("method", *(f"method.{name}" for name in FIELDS), "training.cluster_temperature")


def config_of(**method: Any) -> TrialConfig:
    space = SearchSpace(sweep_of()[0])
    document = space.document(space.corners()[0])
    return space.read({**document, "method": {"name": "distill", "cluster_weight": 2.0, **method}})


def rows(*shares: float | None, term: str = "cluster") -> list[dict[str, Any]]:
    """Give a row for each epoch; None for one that was not measured."""
    return [
        {"epoch": epoch, "val/top1": 9.0}
        | ({} if share is None else {f"train/gradient_share/{term}": share, "train/gradient_share/ce": 1 - share})
        for epoch, share in enumerate(shares, 1)
    ]


def test_the_sentence() -> None:
    (dead,) = dead_terms(rows(0.002, 0.003, 0.001), config_of(), searched=SEARCHED)
    assert dead == DeadTerm(
        term="cluster",
        share=0.003,
        epoch=3,
        weight="cluster_weight",
        value=2.0,
        searched=("cluster_weight", "cluster_scale_weights"),
    )
    assert dead.sentence == (
        "cluster term contributes 0.3 % of the gradient at cluster_weight 2: "
        "the searched cluster scale weights cannot matter"
    )
    assert dead.brief == "cluster 0.3 % of the gradient at cluster_weight 2"


def test_a_term_of_a_plugin_without_a_weight() -> None:
    (dead,) = dead_terms(rows(0.003, term="mine"), config_of(), searched=SEARCHED)
    assert (dead.term, dead.weight, dead.brief) == ("mine", "", "mine 0.3 % of the gradient")
    assert dead.sentence == "mine term contributes 0.3 % of the gradient: it could as well be left out"
    record = TrialRecord(number=0, state="complete", curve={1: 9.0}, attributes={"dead_terms": [dead.to_data()]})
    assert noted_terms(record) == [dead]
    assert dead_kinds([record])[0].sentence.startswith("mine term, 1 of 1 trials: 0.3 % of the gradient: ")


@pytest.mark.parametrize(
    ("searched", "follows"),
    [
        ((), "it could as well be left out"),
        (("training.gram", "method.base_loss.kd.gram"), "it could as well be left out"),  # as training.momentum of CRD
        (("method.cluster_weight",), "it could as well be left out"),
        (("method.cluster_temperature",), "the searched cluster temperature cannot matter"),
        (
            ("method.gram", "method.cluster_scale_weights.s2", "method.cluster_temperature"),
            "the searched cluster scale weights, cluster temperature and gram cannot matter",
        ),
    ],
)
def test_what_follows(searched: tuple[str, ...], follows: str) -> None:
    (dead,) = dead_terms(rows(0.001), config_of(), searched=searched)
    assert dead.sentence.endswith(f": {follows}")


@pytest.mark.parametrize(
    ("shares", "warmup", "dead"),
    [
        ((0.001, 0.001), 0, True),
        ((0.001, 0.02), 0, False),
        ((0.02, 0.001), 0, False),
        ((0.02, 0.02, 0.001, 0.001), 3, True),  # the first two are of the warm-up
        ((0.001, 0.001, 0.02, 0.02), 3, False),
        ((0.001, 0.001), 3, False),  # it is not over yet
        ((0.001, 0.001), 2.5, False),
        ((0.001, None, 0.001), 0, True),
        ((None, None), 0, False),
        ((0.01,), 0, False),
        ((float("nan"), 0.001), 0, False),
        ((0.0,), 0, True),
    ],
)
def test_when_a_term_is_dead(shares: tuple[float | None, ...], warmup: float, dead: bool) -> None:
    assert bool(dead_terms(rows(*shares), config_of(warmup_epochs=warmup))) == dead


def test_cross_entropy_is_never_dead_and_another_threshold_can_be_asked_for() -> None:
    measured = rows(0.995, term="base")
    assert dead_terms(measured, config_of()) == []
    (dead,) = dead_terms(measured, config_of(), 1.0)
    assert (dead.term, dead.weight, dead.value) == ("base", "base_weight", 1.0)


def test_the_fields_of_a_term_are_fields_of_its_method() -> None:
    known = {name for cls in METHODS.values() for name in annotations(cls)}
    assert {name for names in READ_BY.values() for name in names} <= known
    assert {f"{term}_weight" for term in READ_BY} <= known


def test_notes_come_back_and_are_gathered() -> None:
    found = [
        dead_terms(rows(share), config_of(cluster_weight=weight), searched=SEARCHED)
        for share, weight in ((0.0002, 0.5), (0.004, 4.0))
    ]
    records = [
        TrialRecord(
            number=number,
            state="complete",
            curve={1: 9.0},
            attributes={"dead_terms": [term.to_data() for term in dead]},
        )
        for number, dead in enumerate(found)
    ]
    records += [TrialRecord(number=2, state="pruned", curve={1: 9.0}), TrialRecord(number=3, state="running")]
    assert [noted_terms(record) for record in records] == [*found, [], []]
    (kind,) = dead_kinds(records)
    assert kind.trials == (0, 1)
    assert kind.sentence == (
        "cluster term, 2 of 3 trials: 0.02 % to 0.4 % of the gradient at cluster_weight 0.5 to 4: "
        "the searched cluster scale weights cannot matter"
    )
    assert dead_kinds(records[2:]) == []


@pytest.mark.parametrize(
    ("share", "text"), [(0.0, "0 %"), (1e-9, "less than 0.01 %"), (0.0031, "0.31 %"), (0.5, "50 %")]
)
def test_percent(share: float, text: str) -> None:
    assert percent(share) == text
