"""Cell logits, SD wrap and cluster loss against loops, and against the mistakes that look plausible."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from icd.losses import KnowledgeDistillation
from icd.losses.cells import Gram, bins, cell_logits, cluster_loss, paper_scale_weights, scale_loss

BATCH, CLASSES, SCALES = 8, 5, (1, 2, 4)
CELLS = 21
GRAMS: tuple[Gram, ...] = ("cells", "classes", "samples")
KD = KnowledgeDistillation()


def random(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


STUDENT, TEACHER = 2 * random(1, BATCH, CELLS, CLASSES), 2 * random(2, BATCH, CELLS, CLASSES)
# Half of the images get the teacher's own verdict as label, so that it is right on some and wrong on others.
LABELS = TEACHER[:, 0].argmax(1).where(torch.arange(BATCH) % 2 == 0, torch.arange(BATCH) % CLASSES)
RIGHT = TEACHER[:, 0].argmax(1) == LABELS


def naive_cells(features_BCHW: Tensor, head: nn.Linear, scales: tuple[int, ...], grid: int | None) -> Tensor:
    cells = []
    for scale in scales:
        through_grid = grid is not None and grid % scale == 0
        base = F.adaptive_avg_pool2d(features_BCHW, grid) if through_grid else features_BCHW
        cells.append(F.adaptive_avg_pool2d(base, scale).flatten(2).transpose(1, 2))
    logits_BPK: Tensor = head(torch.cat(cells, dim=1))
    return logits_BPK


@pytest.fixture
def head() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(6, CLASSES).double()


@pytest.mark.parametrize("side", [2, 4, 7, 8, 14, 28])
@pytest.mark.parametrize("grid", [4, None])
@pytest.mark.parametrize("scales", [(1,), (1, 2, 4), (2, 4), (1, 2, 4, 8), (4, 1)], ids=str)
def test_cells_are_adaptive_averages(head: nn.Linear, side: int, grid: int | None, scales: tuple[int, ...]) -> None:
    features_BCHW = random(3, 2, 6, side, side)
    cells_BPK = cell_logits(features_BCHW, head, scales, grid=grid)
    assert cells_BPK.shape == (2, sum(scale**2 for scale in scales), CLASSES)
    torch.testing.assert_close(cells_BPK, naive_cells(features_BCHW, head, scales, grid), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("side", "scales", "grid", "rows"),
    [(2, SCALES, 4, 4), (8, SCALES, 4, 16), (8, (1, 2), 4, 5), (8, SCALES, None, 21), (8, (1, 2, 4, 8), 4, 64)],
)
def test_the_head_sees_as_few_rows_as_can_be(
    head: nn.Linear, side: int, scales: tuple[int, ...], grid: int | None, rows: int
) -> None:
    seen = []
    head.register_forward_hook(lambda module, inputs, output: seen.append(output.shape[1]))
    cell_logits(random(3, 2, 6, side, side), head, scales, grid=grid)
    assert seen == [rows]


def test_averaging_of_a_large_map_never_holds_a_map_for_each_of_its_places(monkeypatch: pytest.MonkeyPatch) -> None:
    places, pool, sizes = torch.eye(32 * 30, dtype=torch.float64).reshape(-1, 1, 32, 30), F.adaptive_avg_pool2d, []

    def pooled(maps: Tensor, scale: int) -> Tensor:
        sizes.append(len(maps))
        return pool(maps, scale)

    monkeypatch.setattr(F, "adaptive_avg_pool2d", pooled)
    assert torch.equal(bins(32, 30, 7), pool(places, 7).flatten(1).T)
    assert sizes == [256, 256, 256, 192]


def test_cells_of_a_map_that_is_not_square(head: nn.Linear) -> None:
    features_BCHW = random(3, 2, 6, 5, 9)
    expected_BPK = naive_cells(features_BCHW, head, SCALES, 4)
    torch.testing.assert_close(cell_logits(features_BCHW, head, SCALES), expected_BPK, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("side", [2, 4, 7, 8, 14, 28])
def test_scale_1_without_grid_is_the_head_of_the_mean(head: nn.Linear, side: int) -> None:
    features_BCHW = random(3, 2, 6, side, side)
    cells_BPK = cell_logits(features_BCHW, head, (1,), grid=None)
    torch.testing.assert_close(cells_BPK[:, 0], head(features_BCHW.mean((2, 3))), rtol=1e-12, atol=1e-12)


def test_grid_matters_where_4_does_not_divide_the_map(head: nn.Linear) -> None:
    for side, same in ((8, True), (28, True), (7, False), (14, False)):
        features_BCHW = random(3, 2, 6, side, side)
        with_grid, without = (cell_logits(features_BCHW, head, (1, 2), grid=grid) for grid in (4, None))
        assert torch.allclose(with_grid, without) == same, side


def test_cells_are_row_major_from_coarse_to_fine() -> None:
    head = nn.Linear(1, 2, bias=False).double()
    nn.init.ones_(head.weight)
    features_BCHW = torch.arange(16, dtype=torch.float64).reshape(1, 1, 4, 4)
    cells_P = cell_logits(features_BCHW, head, SCALES)[0, :, 0]
    assert cells_P.tolist() == pytest.approx([7.5, 2.5, 4.5, 10.5, 12.5, *range(16)])


def test_cells_carry_gradients_to_features_and_head(head: nn.Linear) -> None:
    features_BCHW = random(3, 1, 6, 7, 7).requires_grad_()
    cell_logits(features_BCHW, head, SCALES).sum().backward()
    assert features_BCHW.grad is not None
    assert features_BCHW.grad.min() != 0
    assert head.weight.grad is not None


# ------------------------------------------------------------------------------------------------- SD wrap

SD_MISTAKES = (
    "right by the student",
    "2 for every wrong cell",
    "2 only where the cell is wrong",
    "2 only where the cell is right",
    "uniform",
    "sum of weights",
    "batch only",
    "per scale",
)


def naive_scale_loss(mistake: str = "none") -> float:
    judged = STUDENT if mistake == "right by the student" else TEACHER
    total = weight_sum = 0.0
    for b in range(BATCH):
        whole = bool(judged[b, 0].argmax() == LABELS[b])
        for p in range(CELLS):
            cell = bool(judged[b, p].argmax() == LABELS[b])
            double = {
                "2 for every wrong cell": not cell,
                "2 only where the cell is wrong": whole and not cell,
                "2 only where the cell is right": cell and not whole,
                "uniform": False,
            }.get(mistake, cell != whole)
            weight = 2.0 if double else 1.0
            per_scale = 1 / 3 / (1 if p == 0 else 4 if p < 5 else 16)
            share = {"sum of weights": 1.0, "batch only": 1.0, "per scale": per_scale}.get(mistake, 1 / CELLS)
            value = KD(STUDENT[b, [p]], TEACHER[b, [p]], LABELS[[b]]).item()
            total, weight_sum = total + weight * share * value, weight_sum + weight
    return total / (weight_sum if mistake == "sum of weights" else BATCH)


def test_scale_loss_is_the_loop_over_cells() -> None:
    cell_right_BP = TEACHER.argmax(2) == LABELS.unsqueeze(1)
    assert (cell_right_BP & ~RIGHT.unsqueeze(1)).any(), "the data must disagree in both directions"
    assert (~cell_right_BP & RIGHT.unsqueeze(1)).any(), "the data must disagree in both directions"
    assert scale_loss(KD, STUDENT, TEACHER, LABELS, RIGHT).item() == pytest.approx(naive_scale_loss(), rel=1e-12)


@pytest.mark.parametrize("mistake", SD_MISTAKES)
def test_scale_loss_is_not_a_plausible_mistake(mistake: str) -> None:
    value = scale_loss(KD, STUDENT, TEACHER, LABELS, RIGHT).item()
    assert abs(value / naive_scale_loss(mistake) - 1) > 1e-3


@pytest.mark.parametrize("right", [True, False])
def test_complementary_cells_count_twice_in_both_directions(right: bool) -> None:
    """One image, two cells: the teacher is right on the one and wrong on the other."""
    student_BPK = torch.zeros(1, 2, 2, dtype=torch.float64)
    teacher_BPK = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]], dtype=torch.float64)
    label_B, right_B = torch.tensor([0 if right else 1]), torch.tensor([right])
    value = KD(student_BPK[0], teacher_BPK[0], label_B.repeat(2))
    loss = scale_loss(KD, student_BPK, teacher_BPK, label_B, right_B)
    torch.testing.assert_close(loss, (value[0] + 2 * value[1]) / 2)
    weighted = scale_loss(
        KD, student_BPK, teacher_BPK, label_B, right_B, consistent_weight=3.0, complementary_weight=5.0
    )
    torch.testing.assert_close(weighted, (3 * value[0] + 5 * value[1]) / 2)


def test_scale_loss_with_cell_weights() -> None:
    ones, weights_P = torch.full((CELLS,), 1 / CELLS, dtype=torch.float64), torch.zeros(CELLS, dtype=torch.float64)
    plain = scale_loss(KD, STUDENT, TEACHER, LABELS, RIGHT)
    torch.testing.assert_close(scale_loss(KD, STUDENT, TEACHER, LABELS, RIGHT, cell_weights_P=ones), plain)
    weights_P[0] = 1.0
    alone = scale_loss(KD, STUDENT, TEACHER, LABELS, RIGHT, cell_weights_P=weights_P)
    torch.testing.assert_close(alone, KD(STUDENT[:, 0], TEACHER[:, 0], LABELS).mean())


def test_scale_loss_gradient_and_equality() -> None:
    student, teacher = STUDENT[:2].clone().requires_grad_(), TEACHER[:2].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda s: scale_loss(KD, s, teacher, LABELS[:2], RIGHT[:2]), (student,))
    scale_loss(KD, student, teacher, LABELS[:2], RIGHT[:2]).backward()
    assert teacher.grad is None
    assert scale_loss(KD, TEACHER, TEACHER, LABELS, RIGHT).item() == pytest.approx(0, abs=1e-12)


def test_a_loss_that_is_not_finite_stays_so() -> None:
    broken = STUDENT.clone()
    broken[0, 1, 0] = float("nan")
    assert not torch.isfinite(scale_loss(KD, broken, TEACHER, LABELS, RIGHT))
    assert not torch.isfinite(cluster_loss(broken[:, 1:5], TEACHER[:, 1:5], (2,), (1.0,)))


# ------------------------------------------------------------------------------------------------ cluster loss

WEIGHTS = paper_scale_weights(SCALES)
CLUSTER_MISTAKES = (
    "normalised over cells",
    "not normalised",
    "temperature 1",
    "temperature squared",
    "mean over rows",
    "one matrix",
    "equal weights",
)


def naive_cluster_loss(mistake: str = "none") -> float:
    sides = []
    for cells_BPK in (TEACHER, STUDENT):
        norm = cells_BPK.norm(dim=1 if mistake == "normalised over cells" else 2, keepdim=True)
        sides.append(cells_BPK if mistake == "not normalised" else cells_BPK / norm)
    blocks = ((0, 1), (1, 5), (5, 21)) if mistake != "one matrix" else ((0, 21),)
    weights = (1 / 3,) * 3 if mistake == "equal weights" else (1 / 6, 2 / 6, 3 / 6)
    tau = 1.0 if mistake == "temperature 1" else 2.0
    total = 0.0
    for (start, end), weight in zip(blocks, weights if mistake != "one matrix" else (1.0,), strict=True):
        for b in range(BATCH):
            for i in range(start, end):
                teacher, student = ((side[b, start:end] @ side[b, i] / tau).softmax(0) for side in sides)
                row = float((teacher * (teacher / student).log()).sum())
                total += weight * row / (end - start if mistake == "mean over rows" else 1)
    return total / BATCH * (4 if mistake == "temperature squared" else 1)


def test_cluster_loss_is_the_loop_over_images_and_rows() -> None:
    value = cluster_loss(STUDENT, TEACHER, SCALES, WEIGHTS).item()
    assert value == pytest.approx(naive_cluster_loss(), rel=1e-11)
    squared = cluster_loss(STUDENT, TEACHER, SCALES, WEIGHTS, temperature_squared=True).item()
    assert squared == pytest.approx(naive_cluster_loss("temperature squared"), rel=1e-11)
    cold = cluster_loss(STUDENT, TEACHER, SCALES, WEIGHTS, temperature=1.0).item()
    assert cold == pytest.approx(naive_cluster_loss("temperature 1"), rel=1e-11)


@pytest.mark.parametrize("mistake", CLUSTER_MISTAKES)
def test_cluster_loss_is_not_a_plausible_mistake(mistake: str) -> None:
    value = cluster_loss(STUDENT, TEACHER, SCALES, WEIGHTS).item()
    assert abs(value / naive_cluster_loss(mistake) - 1) > 1e-2


def test_paper_weights() -> None:
    assert paper_scale_weights((1, 2, 4)) == pytest.approx((1 / 6, 2 / 6, 3 / 6))
    assert paper_scale_weights((1, 2)) == pytest.approx((1 / 3, 2 / 3))
    assert paper_scale_weights((1, 4)) == pytest.approx((1 / 4, 3 / 4))
    assert paper_scale_weights((1,)) == (1,)


@pytest.mark.parametrize("gram", GRAMS)
def test_cluster_loss_at_equality(gram: Gram) -> None:
    student = TEACHER.clone().requires_grad_()
    loss = cluster_loss(student, TEACHER, SCALES, WEIGHTS, gram=gram)
    assert abs(loss.item()) < 1e-12
    assert torch.autograd.grad(loss, student)[0].abs().max() < 1e-12


def test_scale_1_adds_exactly_nothing() -> None:
    student = STUDENT[:, :1].clone().requires_grad_()
    loss = cluster_loss(student, TEACHER[:, :1], (1,), (1.0,))
    assert loss.item() == 0
    assert loss.shape == ()
    whole = STUDENT.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(cluster_loss(whole, TEACHER, SCALES, WEIGHTS), whole)
    assert (gradient[:, 0] == 0).all()
    assert (gradient[:, 1:] != 0).any(dim=2).all()


@pytest.mark.parametrize("gram", GRAMS)
def test_length_of_a_cells_logits_does_not_matter(gram: Gram) -> None:
    factor = random(4, BATCH, CELLS, 1).exp()
    value = cluster_loss(STUDENT, TEACHER, SCALES, WEIGHTS, gram=gram)
    scaled = cluster_loss(STUDENT * factor, TEACHER / factor, SCALES, WEIGHTS, gram=gram)
    torch.testing.assert_close(scaled, value, rtol=1e-10, atol=1e-14)


def test_three_grams_differ() -> None:
    values = [cluster_loss(STUDENT, TEACHER, SCALES, WEIGHTS, gram=gram).item() for gram in GRAMS]
    assert min(values) > 0
    assert len({round(value, 6) for value in values}) == len(GRAMS)


@pytest.mark.parametrize("gram", GRAMS)
def test_other_grams_by_hand(gram: Gram) -> None:
    student, teacher = (F.normalize(side[:, :1], dim=2)[:, 0] for side in (STUDENT, TEACHER))
    matrices = {
        "cells": [(student[b : b + 1] @ student[b : b + 1].T, teacher[b : b + 1] @ teacher[b : b + 1].T) for b in [0]],
        "classes": [(torch.outer(student[b], student[b]), torch.outer(teacher[b], teacher[b])) for b in range(BATCH)],
        "samples": [(student @ student.T, teacher @ teacher.T)],
    }[gram]
    rows = [
        F.kl_div((s / 2).log_softmax(1), (t / 2).log_softmax(1), log_target=True, reduction="sum") for s, t in matrices
    ]
    loss = cluster_loss(STUDENT[:, :1], TEACHER[:, :1], (1,), (1.0,), gram=gram)
    torch.testing.assert_close(loss, torch.stack(rows).sum() / BATCH, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("gram", GRAMS)
def test_cluster_gradient(gram: Gram) -> None:
    student, teacher = STUDENT[:2, :5].clone().requires_grad_(), TEACHER[:2, :5].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda s: cluster_loss(s, teacher, (1, 2), (0.25, 0.75), gram=gram), (student,))
    cluster_loss(student, teacher, (1, 2), (0.25, 0.75), gram=gram).backward()
    assert teacher.grad is None


@pytest.mark.parametrize("gram", GRAMS)
@pytest.mark.parametrize("size", [0.0, 1e4])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_cluster_loss_of_extreme_logits(gram: Gram, size: float, dtype: torch.dtype) -> None:
    student = (size * STUDENT.sign()).to(dtype).requires_grad_()
    loss = cluster_loss(student, TEACHER.to(dtype), SCALES, WEIGHTS, gram=gram)
    assert loss.dtype == torch.float32
    assert torch.isfinite(loss)
    assert torch.isfinite(torch.autograd.grad(loss, student)[0]).all()


@pytest.mark.parametrize("gram", GRAMS)
def test_mixed_precision_leaves_the_cluster_loss_alone(gram: Gram) -> None:
    student, teacher = (side.float() for side in (STUDENT, TEACHER))
    exact = cluster_loss(student, teacher, SCALES, (0.2, 0.3, 0.5), gram=gram)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(cluster_loss(student, teacher, SCALES, (0.2, 0.3, 0.5), gram=gram), exact)
