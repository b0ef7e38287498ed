"""Paper rows and combinations on a small pair of real networks."""

from collections.abc import Mapping
from dataclasses import replace
from itertools import product
from typing import Any, NamedTuple, cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from icd.fields import FieldError
from icd.losses import BASE_LOSSES
from icd.losses.cells import cluster_loss
from icd.methods import (
    METHODS,
    PAPER_ROWS,
    CellDistillation,
    ContrastiveRepresentation,
    LiveOutputs,
    Method,
    MethodSetup,
    Step,
)
from icd.methods.base import warmup_factor, weighted
from icd.models import build_model
from icd.testing import METHOD_CHECKS, Check
from icd.testing.losses import values_of

CLASSES, BATCH = 10, 4
BASES = ("KD", "DKD", "NKD")
SETUP = MethodSetup(student_channels=64, teacher_channels=64, labels_N=np.arange(30) % 10, seed=1)
STEP = Step(torch.tensor([3, 1, 4, 1]), torch.tensor([3, 11, 4, 21]), epoch=5, step=0)


class Pair(NamedTuple):
    network: nn.Module
    student: LiveOutputs
    teacher: LiveOutputs


@pytest.fixture(scope="module")
def pair() -> Pair:
    images_BCHW = torch.randn(BATCH, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    student = build_model("resnet8", num_classes=CLASSES, seed=1).train()
    teacher = build_model("resnet14", num_classes=CLASSES, seed=2).eval()
    sides = [LiveOutputs(*net(images_BCHW), net.head) for net in (student, teacher)]
    return Pair(student, *sides)


def terms_of(method: Method, pair: Pair, step: Step = STEP) -> dict[str, Tensor]:
    return cast("dict[str, Tensor]", method.build(SETUP)(pair.student, pair.teacher, step))


def values(terms: Mapping[str, Tensor]) -> dict[str, float]:
    return {name: term.item() for name, term in terms.items()}


def test_paper_rows() -> None:
    plain, rivals = {"SP", "CRD", "LDRLD"}, ("KD+LS", "DKD+LS", "WTTM", "RLD", "ABKD", "DIST")
    rows = {prefix + base for prefix, base in product(("", "SD-", "iCD-"), (*BASES, *rivals))}
    assert set(PAPER_ROWS) == plain | rows
    assert list(PAPER_ROWS)[:12] == [*("SP", "CRD", "LDRLD"), *(p + b for b in BASES for p in ("", "SD-", "iCD-"))]


@pytest.mark.parametrize("name", [*METHODS.own, *PAPER_ROWS])
@pytest.mark.parametrize("check", METHOD_CHECKS, ids=lambda check: check.__name__)
def test_public_check(name: str, check: Check[Any]) -> None:
    check(PAPER_ROWS[name] if name in PAPER_ROWS else METHODS[name]())
    assert {type(method) for method in PAPER_ROWS.values()} < set(METHODS.values())


@pytest.mark.parametrize("row", PAPER_ROWS)
def test_every_row_gives_finite_terms_with_gradient(row: str, pair: Pair) -> None:
    terms = terms_of(PAPER_ROWS[row], pair)
    expected = {"SP": {"ce", "similarity"}, "CRD": {"ce", "contrast"}}.get(row, {"ce", "base"})
    assert set(terms) == expected | ({"cluster"} if row.startswith("iCD") else set())
    parameters = list(pair.network.parameters())
    for name, term in terms.items():
        assert term.shape == (), name
        assert torch.isfinite(term), name
        gradients = torch.autograd.grad(term, parameters, retain_graph=True, allow_unused=True)
        assert all(torch.isfinite(gradient).all() for gradient in gradients if gradient is not None), name
        assert gradients[0] is not None, name
        assert gradients[0].abs().max() > 0, name


@pytest.mark.parametrize("row", ["KD", "SP", "CRD"])
def test_smoothed_labels_change_cross_entropy_alone(row: str, pair: Pair) -> None:
    method, e = PAPER_ROWS[row], 0.3
    plain, smoothed = (values(terms_of(method, pair, STEP._replace(label_smoothing=e))) for e in (0.0, e))
    log_BK = pair.student.logits_BK.log_softmax(dim=1)
    share_BK = torch.full((BATCH, CLASSES), e / CLASSES).scatter_add(
        1, STEP.labels_B[:, None], torch.full((BATCH, 1), 1 - e)
    )
    weight = plain.pop("ce") / torch.nn.functional.cross_entropy(pair.student.logits_BK, STEP.labels_B).item()
    assert smoothed.pop("ce") == pytest.approx(-weight * (share_BK * log_BK).sum(dim=1).mean().item(), rel=1e-5)
    assert smoothed == plain


@pytest.mark.parametrize("name", METHODS)
def test_default_of_every_method_builds_and_has_a_title(name: str, pair: Pair) -> None:
    method = METHODS[name]()
    assert method.title
    assert all(torch.isfinite(term) for term in terms_of(method, pair).values())
    if method.needs_teacher:
        with pytest.raises(ValueError, match="needs a teacher"):
            method.build(SETUP)(pair.student, None, STEP)
    else:
        assert set(method.build(None)(pair.student, None, STEP)) == {"ce"}


@pytest.mark.parametrize("base", BASES)
def test_icd_is_sd_plus_the_cluster_term(base: str, pair: Pair) -> None:
    plain, sd, icd = (cast("CellDistillation", PAPER_ROWS[prefix + base]) for prefix in ("", "SD-", "iCD-"))
    assert replace(icd, cluster_weight=0.0) == sd
    if base != "NKD":  # global NKD has its own temperature and gamma
        assert replace(sd, scales=(1,), cluster_scale_weights=None) == plain
    with_cluster, without = terms_of(icd, pair), terms_of(sd, pair)
    cluster = cluster_loss(
        pair.student.cells((1, 2, 4), 4), pair.teacher.cells((1, 2, 4), 4), (1, 2, 4), (0, 1 / 3, 0.5)
    )
    assert with_cluster["cluster"].item() == pytest.approx(icd.cluster_weight * cluster.item(), rel=1e-5)
    del with_cluster["cluster"]
    assert values(with_cluster) == values(without)


@pytest.mark.parametrize(("name", "kind"), list(product(BASE_LOSSES, ("plain", "SD", "iCD"))))
def test_any_base_loss_combines(name: str, kind: str, pair: Pair) -> None:
    method = CellDistillation(
        base_loss=BASE_LOSSES[name](),
        scales=(1,) if kind == "plain" else (1, 2, 4),
        cluster_weight=2.0 if kind == "iCD" else 0.0,
    )
    terms = terms_of(method, pair)
    assert set(terms) == {"ce", "base"} | ({"cluster"} if kind == "iCD" else set())
    assert all(torch.isfinite(term) for term in terms.values())
    if kind == "plain":
        rows_B = values_of(method.base_loss, pair.student.logits_BK, pair.teacher.logits_BK, STEP.labels_B)
        assert terms["base"].item() == pytest.approx(rows_B.mean().item(), rel=1e-6)


@pytest.mark.parametrize("row", ["DKD", "SD-DKD", "iCD-DKD", "iCD-NKD"])
def test_warmup_acts_on_the_base_term_only(row: str, pair: Pair) -> None:
    early, late = (values(terms_of(PAPER_ROWS[row], pair, STEP._replace(epoch=epoch))) for epoch in (5, 20))
    assert early.pop("base") == pytest.approx(late.pop("base") * 5 / 20, rel=1e-6)
    assert early == late


@pytest.mark.parametrize("row", ["KD", "SD-KD", "iCD-KD", "LDRLD"])
def test_no_warmup_in_the_kd_family(row: str, pair: Pair) -> None:
    first, late = (values(terms_of(PAPER_ROWS[row], pair, STEP._replace(epoch=epoch))) for epoch in (1, 20))
    assert first == late


def test_warmup_factor() -> None:
    assert [warmup_factor(epoch, 4.0) for epoch in (1, 2, 4, 5)] == [0.25, 0.5, 1.0, 1.0]
    assert warmup_factor(1, 0.0) == 1.0


def test_weights_scale_their_own_term_only(pair: Pair) -> None:
    one = values(terms_of(CellDistillation(cluster_weight=1.0), pair))
    weights: dict[str, Any]
    for field, term in (("ce_weight", "ce"), ("base_weight", "base"), ("cluster_weight", "cluster")):
        weights = {"cluster_weight": 1.0, field: 3.0}
        changed = values(terms_of(CellDistillation(**weights), pair))
        assert changed == pytest.approx({**one, term: 3 * one[term]}, rel=1e-6)
        none = values(terms_of(CellDistillation(**{**weights, field: 0.0}), pair))
        assert set(none) == set(one) - {term}


def test_scale_1_alone_takes_the_global_logits() -> None:
    """At 7 x 7 the grid's cell 0 is not the network's own mean."""

    class Global(NamedTuple):
        logits_BK: Tensor

        def cells(self, scales: object, grid: object) -> Tensor:
            raise AssertionError("the plain method must not look at cells")

        def cells_right(self, scales: object, cells_BPK: Tensor, labels_B: Tensor) -> Tensor:
            raise AssertionError("the plain method must not look at cells")

        def logits_right(self, labels_B: Tensor) -> Tensor:
            return self.logits_BK.argmax(dim=1) == labels_B

    logits_BK = torch.randn(BATCH, CLASSES, generator=torch.Generator().manual_seed(0))
    method = CellDistillation(scales=(1,), cluster_weight=1.0)
    assert not method.has_cluster_term
    terms = method.terms(cast("LiveOutputs", Global(logits_BK)), cast("LiveOutputs", Global(logits_BK.flip(0))), STEP)
    assert set(terms) == {"ce", "base"}


class StoredSide(NamedTuple):
    logits_BK: Tensor
    cells_BPK: Tensor

    def cells(self, scales: object, grid: object) -> Tensor:
        return self.cells_BPK

    def cells_right(self, scales: object, cells_BPK: Tensor, labels_B: Tensor) -> Tensor:
        return cells_BPK.argmax(dim=2) == labels_B.unsqueeze(1)

    def logits_right(self, labels_B: Tensor) -> Tensor:
        return self.logits_BK.argmax(dim=1) == labels_B


@pytest.mark.parametrize(
    ("scales", "verdict", "from_cell"), [((1, 2), "cell", True), ((1, 2), "logits", False), ((2,), "cell", False)]
)
def test_whose_verdict_counts(scales: tuple[int, ...], verdict: str, from_cell: bool) -> None:
    """The teacher's cells are all right and its global logits wrong: consistent by cell, complementary by logits."""
    cells = sum(scale**2 for scale in scales)
    student = StoredSide(torch.zeros(1, 2), torch.zeros(1, cells, 2))
    teacher = StoredSide(torch.tensor([[0.0, 1.0]]), torch.tensor([[1.0, 0.0]]).repeat(1, cells, 1))
    method = CellDistillation(scales=scales, global_verdict=cast("object", verdict))  # type: ignore[arg-type]
    step = Step(torch.tensor([0]), torch.tensor([0]), 1, 0)
    base = method.terms(cast("LiveOutputs", student), cast("LiveOutputs", teacher), step)["base"]
    row = method.base_loss(student.cells_BPK[:, 0], teacher.cells_BPK[:, 0], step.labels_B)
    assert base.item() == pytest.approx((1 if from_cell else 2) * row.item(), rel=1e-6)


def test_base_scale_weights_are_shares_of_scales(pair: Pair) -> None:
    parts = [
        terms_of(CellDistillation(base_scale_weights=shares), pair)["base"].item()
        for shares in ((1, 0, 0), (0, 1, 0), (0, 0, 1))
    ]
    mixed = terms_of(CellDistillation(base_scale_weights=(2, 3, 5)), pair)["base"].item()
    assert mixed == pytest.approx(0.2 * parts[0] + 0.3 * parts[1] + 0.5 * parts[2], rel=1e-5)
    by_cells = terms_of(CellDistillation(base_scale_weights=(1, 4, 16)), pair)["base"].item()
    assert by_cells == pytest.approx(terms_of(CellDistillation(), pair)["base"].item(), rel=1e-5)


def test_equal_configurations_are_equal_values() -> None:
    one = CellDistillation(cluster_scale_weights=(1, 2, 3), base_scale_weights=(1, 2, 3))
    for other in (
        CellDistillation(cluster_scale_weights=(0.1, 0.2, 0.3), base_scale_weights=(0.1, 0.2, 0.3)),
        CellDistillation(scales=(4, 1, 2), cluster_scale_weights=(3, 1, 2), base_scale_weights=(3, 1, 2)),
        CellDistillation(base_scale_weights=(10, 20, 30)),  # 1, 2, 3 are the authors' scale weights
    ):
        assert other == one
        assert hash(other) == hash(one)
        assert repr(other) == repr(one)
    assert one.scales == (1, 2, 4)
    assert sum(one.cluster_scale_weights or ()) == pytest.approx(1, abs=1e-11)
    assert CellDistillation(cluster_scale_weights=(3, 1, 2)) != one
    assert CellDistillation(scales=(4, 1, 2)) == CellDistillation()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"scales": ()}, "scales must name at least one scale"),
        ({"scales": (1, 1)}, "scales must differ from each other"),
        ({"scales": (0, 2)}, r"scales\[0\] >= 1 must hold, but got 0"),
        ({"cluster_scale_weights": (1, 2)}, "cluster_scale_weights must give one weight for each of the 3 scales"),
        ({"cluster_scale_weights": (0, 0, 0)}, "cluster_scale_weights must have a sum above 0"),
        ({"base_scale_weights": (1, -1, 1)}, r"base_scale_weights\[1\] >= 0 must hold, but got -1"),
        ({"cluster_temperature": 0}, "cluster_temperature > 0 must hold, but got 0"),
        ({"gram": "rows"}, "gram must be one of 'cells', 'classes', 'samples', but got 'rows'"),
        ({"ce_weight": 0, "base_weight": 0}, "ce_weight, base_weight or cluster_weight must be above 0"),
    ],
)
def test_wrong_settings(fields: dict[str, object], message: str) -> None:
    with pytest.raises(FieldError, match=message):
        CellDistillation(**fields)  # type: ignore[arg-type]


def test_crd_depends_on_seed_and_moment_only(pair: Pair) -> None:
    method = ContrastiveRepresentation(num_negatives=8, width=8)
    state = torch.get_rng_state()
    first, again = (values(terms_of(method, pair)) for _ in range(2))
    assert first == again
    assert torch.equal(torch.get_rng_state(), state), "building must leave the global generator alone"
    assert values(terms_of(method, pair, STEP._replace(step=1)))["contrast"] != first["contrast"]
    with pytest.raises(FieldError, match="momentum < 1 must hold, but got 1"):
        ContrastiveRepresentation(momentum=1.0)
    with pytest.raises(ValueError, match="needs channels, labels and seed"):
        method.build(None)


def test_a_configuration_read_back_is_the_same_value() -> None:
    method = CellDistillation(cluster_scale_weights=(6, 9, 2))
    assert replace(method) == method


def test_huge_weights_do_not_vanish() -> None:
    assert CellDistillation(cluster_scale_weights=(1e308, 1e308, 1e308), cluster_weight=1.0).has_cluster_term


@pytest.mark.parametrize("warmup_epochs", [0.0, 3.0, 7.0, 20.0])
def test_a_term_has_the_same_bits_whether_the_epoch_is_a_number_or_a_tensor(warmup_epochs: float) -> None:
    terms = torch.rand(50, generator=torch.Generator().manual_seed(0))
    for epoch in range(1, 25):
        on_device = torch.full((), float(epoch), dtype=torch.float64)
        for term in terms:
            expected = weighted(0.9 * warmup_factor(epoch, warmup_epochs), term)
            found = weighted(0.9 * warmup_factor(on_device, warmup_epochs), term)
            assert found.dtype == torch.float32
            assert torch.equal(found, expected)
