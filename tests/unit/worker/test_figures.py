"""Figures and the matrices they show."""

import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from icd.losses.cells import cell_logits, cluster_loss
from icd.models import build_model
from icd.worker.figures import gram_figure
from icd.worker.gram import gram_matrices


def test_gram_matrices_are_what_the_cluster_term_compares() -> None:
    torch.manual_seed(0)
    student, teacher = build_model("resnet8", num_classes=10), build_model("resnet20", num_classes=10)
    images_BCHW = torch.randn(3, 3, 32, 32)
    grams = gram_matrices(student, teacher, images_BCHW, (1, 2, 4), 0.5)
    assert {scale: student_BMM.shape for scale, (student_BMM, _) in grams.items()} == {2: (3, 4, 4), 4: (3, 16, 16)}
    assert student.training
    assert teacher.training
    divergence = sum((t * (t.log() - s.log())).sum() / 3 for s, t in grams.values())
    cells = [
        cell_logits(net(images_BCHW).features_BCHW, net.head, (1, 2, 4)) for net in (student.eval(), teacher.eval())
    ]
    expected = cluster_loss(cells[0], cells[1], (1, 2, 4), (1, 1, 1), temperature=0.5)
    torch.testing.assert_close(torch.as_tensor(divergence), expected, rtol=1e-3, atol=1e-7)


def test_the_figure_is_written_and_leaves_no_global_state(tmp_path: Path) -> None:
    matrices = {m: (torch.rand(2, m * m, m * m), torch.rand(2, m * m, m * m)) for m in (2, 4)}
    gram_figure(tmp_path / "figures" / "gram.png", matrices, title="trial 3")
    with Image.open(tmp_path / "figures" / "gram.png") as image:
        assert min(image.size) > 300
        assert len(image.convert("RGB").getcolors(1 << 24) or []) > 50
    assert "matplotlib.pyplot" not in sys.modules


def test_nothing_to_draw_is_said(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one scale >= 2"):
        gram_figure(tmp_path / "gram.png", {})
