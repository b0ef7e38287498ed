"""CRD: the estimate, the memory and the draw."""

from math import log

import numpy as np
import pytest
import torch
from torch import Tensor

from icd.losses.contrastive import ContrastiveMemory, ContrastMode, draw_contrasts, nce_loss

IMAGES, BATCH = 12, 3
INDICES = torch.tensor([4, 0, 7])
CONTRASTS = torch.tensor([[4, 1, 2, 3], [0, 5, 6, 8], [7, 9, 10, 11]])


def random(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def memory() -> ContrastiveMemory:
    torch.manual_seed(0)
    made = ContrastiveMemory(5, 6, IMAGES, width=4, temperature=0.5, momentum=0.25)
    partition = made.partition
    made.double()
    made.partition, made.temperature = partition, torch.tensor(0.5)
    return made


def unit(rows: Tensor) -> Tensor:
    norms: Tensor = rows.norm(dim=1, keepdim=True)
    return rows / norms


def raw_scores(memory_ND: Tensor, embedding_BD: Tensor) -> Tensor:
    scores = [[(memory_ND[j] @ embedding_BD[b]).item() / 0.5 for j in CONTRASTS[b].tolist()] for b in range(BATCH)]
    return torch.tensor(scores, dtype=torch.float64).exp()


def test_nce_by_hand() -> None:
    scores_BJ = torch.tensor([[0.3, 0.1, 0.2]], dtype=torch.float64)
    noise = 2 / 10
    expected = -(
        log(0.3 / (0.3 + noise + 1e-7)) + log(noise / (0.1 + noise + 1e-7)) + log(noise / (0.2 + noise + 1e-7))
    )
    assert nce_loss(scores_BJ, num_images=10).item() == pytest.approx(expected, rel=1e-12)
    assert nce_loss(scores_BJ.repeat(4, 1), num_images=10).item() == pytest.approx(expected, rel=1e-12)


def test_nce_has_its_epsilon() -> None:
    scores_BJ = torch.tensor([[1e-7, 1e-7]], dtype=torch.float64)
    noise = 1 / 10**7
    assert nce_loss(scores_BJ, num_images=10**7).item() == pytest.approx(-2 * log(noise / (3 * noise)), rel=1e-9)


def test_nce_gradient() -> None:
    scores_BJ = (random(1, BATCH, 5).exp() / 10).requires_grad_()
    assert torch.autograd.gradcheck(lambda scores: nce_loss(scores, num_images=IMAGES), (scores_BJ,))


def test_each_side_is_compared_with_the_other_sides_memory() -> None:
    crd = memory()
    before = {"student": crd.student_memory.clone(), "teacher": crd.teacher_memory.clone()}
    student_BD = unit(crd.student_embedding(random(1, BATCH, 5)))
    teacher_BD = unit(crd.teacher_embedding(random(2, BATCH, 6)))
    student_loss, teacher_loss = crd(random(1, BATCH, 5), random(2, BATCH, 6), INDICES, CONTRASTS)
    for side, loss, raw_BJ in (
        (0, student_loss, raw_scores(before["teacher"], student_BD)),
        (1, teacher_loss, raw_scores(before["student"], teacher_BD)),
    ):
        expected = nce_loss(raw_BJ / (raw_BJ.mean() * IMAGES), num_images=IMAGES)
        assert crd.partition[side].item() == pytest.approx(float(raw_BJ.mean() * IMAGES), rel=1e-6)
        assert loss.item() == pytest.approx(expected.item(), rel=1e-6)


def test_partition_is_set_once() -> None:
    crd = memory()
    crd(random(1, BATCH, 5), random(2, BATCH, 6), INDICES, CONTRASTS)
    first = crd.partition.clone()
    crd(random(3, BATCH, 5), random(4, BATCH, 6), INDICES, CONTRASTS)
    assert torch.equal(crd.partition, first)
    assert (first > 0).all()


def test_memory_moves_towards_the_new_embedding_at_the_batch_only() -> None:
    crd = memory()
    before = {"student": crd.student_memory.clone(), "teacher": crd.teacher_memory.clone()}
    features = {"student": random(1, BATCH, 5), "teacher": random(2, BATCH, 6)}
    crd(features["student"], features["teacher"], INDICES, CONTRASTS)
    others = [n for n in range(IMAGES) if n not in INDICES.tolist()]
    for side, embed in (("student", crd.student_embedding), ("teacher", crd.teacher_embedding)):
        after = getattr(crd, f"{side}_memory")
        expected = unit(0.25 * before[side][INDICES] + 0.75 * unit(embed(features[side])))
        torch.testing.assert_close(after[INDICES], expected.detach(), rtol=1e-12, atol=1e-12)
        assert torch.equal(after[others], before[side][others])
        assert not after.requires_grad


def test_gradients_reach_both_embeddings_and_the_student_not_the_teacher() -> None:
    crd = memory()
    student_BC, teacher_BC = random(1, BATCH, 5).requires_grad_(), random(2, BATCH, 6).requires_grad_()
    student_loss, teacher_loss = crd(student_BC, teacher_BC, INDICES, CONTRASTS)
    (student_loss + teacher_loss).backward()
    assert teacher_BC.grad is None
    assert student_BC.grad is not None
    assert all(parameter.grad is not None for parameter in crd.parameters())


def test_forward_gradient() -> None:
    def total(student_BC: Tensor) -> Tensor:
        crd = memory()
        crd.partition = torch.tensor([9.0, 11.0])
        return torch.stack(crd(student_BC, random(2, BATCH, 6), INDICES, CONTRASTS)).sum()

    assert torch.autograd.gradcheck(total, (random(1, BATCH, 5).requires_grad_(),))


def test_memory_survives_a_state_dict() -> None:
    crd, other = memory(), memory()
    crd(random(1, BATCH, 5), random(2, BATCH, 6), INDICES, CONTRASTS)
    other.load_state_dict(crd.state_dict())
    assert torch.equal(other.partition, crd.partition)
    assert torch.equal(other.student_memory, crd.student_memory)
    assert torch.equal(other.teacher_memory, crd.teacher_memory)


LABELS = np.array([0, 1, 2] * 4)


def draw(mode: ContrastMode, *, count: int = 5, seed: int = 0, indices: tuple[int, ...] = (0, 4, 11)) -> np.ndarray:
    generator = np.random.Generator(np.random.Philox(key=seed))
    return draw_contrasts(np.array(indices), LABELS, count, mode=mode, generator=generator)


@pytest.mark.parametrize("mode", ["exact", "relaxed"])
@pytest.mark.parametrize("count", [1, 8, 9, 40])
def test_draw(mode: ContrastMode, count: int) -> None:
    for seed in range(10):
        contrasts_BJ = draw(mode, count=count, seed=seed)
        assert contrasts_BJ.shape == (3, 1 + count)
        assert np.issubdtype(contrasts_BJ.dtype, np.integer)
        for index, (positive, *negatives) in zip((0, 4, 11), contrasts_BJ.tolist(), strict=True):
            assert LABELS[positive] == LABELS[index]
            assert not [n for n in negatives if LABELS[n] == LABELS[index]]
            assert (len(set(negatives)) == count) == (count <= 8), "8 images are of other classes"


def test_positives() -> None:
    assert draw("exact")[:, 0].tolist() == [0, 4, 11]
    seen = {int(draw("relaxed", seed=seed)[0, 0]) for seed in range(60)}
    assert seen == {0, 3, 6, 9}, "any image of the class, itself included"


@pytest.mark.parametrize("mode", ["exact", "relaxed"])
def test_every_negative_can_be_drawn_and_the_generator_decides(mode: ContrastMode) -> None:
    assert np.array_equal(draw(mode, seed=3), draw(mode, seed=3))
    assert not np.array_equal(draw(mode, seed=3), draw(mode, seed=4))
    seen = {int(n) for seed in range(60) for n in draw(mode, seed=seed, count=2)[0, 1:]}
    assert seen == set(np.flatnonzero(LABELS != 0).tolist())


def test_one_class_has_nothing_to_contrast() -> None:
    with pytest.raises(ValueError, match="at least two classes"):
        draw_contrasts(np.array([0]), np.zeros(4), 2, mode="exact", generator=np.random.default_rng(0))


def test_mixed_precision_changes_nothing() -> None:
    torch.manual_seed(0)
    plain, mixed = (ContrastiveMemory(5, 6, IMAGES, width=4) for _ in range(2))
    mixed.load_state_dict(plain.state_dict())
    student_BC, teacher_BC = torch.randn(BATCH, 5), torch.randn(BATCH, 6)
    wanted = plain(student_BC, teacher_BC, INDICES, CONTRASTS)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        given = mixed(student_BC, teacher_BC, INDICES, CONTRASTS)
    assert given == wanted
    assert torch.equal(mixed.student_memory, plain.student_memory)
