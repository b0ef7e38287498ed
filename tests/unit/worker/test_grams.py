"""The matrices that a report draws are those that the cluster term compares."""

import numpy as np
import torch

from icd.losses.cells import cell_logits, cluster_loss
from icd.models import build_model
from icd.worker.grams import gram_matrices


def test_gram_matrices_are_what_the_cluster_term_compares() -> None:
    torch.manual_seed(0)
    student, teacher = build_model("resnet8", num_classes=10), build_model("resnet20", num_classes=10)
    images_BCHW = torch.randn(3, 3, 32, 32)
    student_grams, teacher_grams = (gram_matrices(net, images_BCHW, (2, 4), 0.5) for net in (student, teacher))
    assert {scale: student_BMM.shape for scale, student_BMM in student_grams.items()} == {2: (3, 4, 4), 4: (3, 16, 16)}
    assert student.training
    assert teacher.training
    pairs = [(student_grams[scale], teacher_grams[scale]) for scale in (2, 4)]
    divergence = sum((t * (np.log(t) - np.log(s))).sum() / 3 for s, t in pairs)
    cells = [
        cell_logits(net(images_BCHW).features_BCHW, net.head, (1, 2, 4)) for net in (student.eval(), teacher.eval())
    ]
    expected = cluster_loss(cells[0], cells[1], (1, 2, 4), (1, 1, 1), temperature=0.5)
    torch.testing.assert_close(torch.as_tensor(divergence), expected, rtol=1e-3, atol=1e-7)
