"""The plain arm: one trial as the papers describe it and as it is commonly written, one process per configuration.

    python bench/plain.py --pair resnet32x4/mobilenetv2 --method iCD-KD --steps 200

The teacher runs in every step, images come from a torchvision loader, cells are pooled and sent through the head scale
by scale, losses are computed cell by cell of a scale. Networks and data are ours, and so are the constants, so that the
loss is the same number (tests/bench/test_plain_arm.py); no code of others is in it. Prints its own CPU seconds.

Shape key:
    B: batch    K: classes    M: cells of one scale
"""

import argparse
import json
import math
import resource
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torchvision import transforms

from icd.data import DATASETS, Request
from icd.models import build_model

BATCH, LR, TEMPERATURE, BETA = 64, 0.05, 4.0, 2.0
CE = {"KD": 0.1, "DKD": 1.0, "NKD": 1.0}
BASE = {"KD": 0.9, "DKD": 1.0, "NKD": 1.0}
CLUSTER = {"KD": 2.0, "DKD": 8.0, "NKD": 8.0}


def cells_of(features_BCHW: Tensor, head: nn.Linear, scale: int) -> Tensor:
    """Pool to the 4 x 4 grid, then to the scale, then classify every cell: [B, M, K]."""
    pooled = F.adaptive_avg_pool2d(F.adaptive_avg_pool2d(features_BCHW, 4), scale)
    out: Tensor = head(pooled.flatten(2).transpose(1, 2))
    return out


def kd_loss(student_BK: Tensor, teacher_BK: Tensor, labels_B: Tensor) -> Tensor:
    """KL divergence at a temperature, one value an image."""
    log_student = F.log_softmax(student_BK / TEMPERATURE, dim=1)
    teacher = F.softmax(teacher_BK / TEMPERATURE, dim=1)
    return F.kl_div(log_student, teacher, reduction="none").sum(dim=1) * TEMPERATURE**2


def dkd_loss(student_BK: Tensor, teacher_BK: Tensor, labels_B: Tensor) -> Tensor:
    """Target and non-target parts of KD, weighted apart."""
    mask = F.one_hot(labels_B, student_BK.shape[1]).bool()
    student, teacher = (F.softmax(logits / TEMPERATURE, dim=1) for logits in (student_BK, teacher_BK))
    pairs = [torch.stack([(p * mask).sum(1), (p * ~mask).sum(1)], dim=1) for p in (student, teacher)]
    target = F.kl_div(pairs[0].log(), pairs[1], reduction="none").sum(dim=1)
    others = [logits[~mask].reshape(len(logits), -1) / TEMPERATURE for logits in (student_BK, teacher_BK)]
    rest = F.kl_div(F.log_softmax(others[0], dim=1), F.softmax(others[1], dim=1), reduction="none").sum(dim=1)
    return (target + BETA * rest) * TEMPERATURE**2


def nkd_loss(student_BK: Tensor, teacher_BK: Tensor, labels_B: Tensor, temperature: float, gamma: float) -> Tensor:
    """Cross entropies with the teacher, of the target at temperature 1 and of all classes at a temperature."""
    rows = torch.arange(len(labels_B))
    target = -F.softmax(teacher_BK, dim=1)[rows, labels_B] * F.log_softmax(student_BK, dim=1)[rows, labels_B]
    log_student = F.log_softmax(student_BK / temperature, dim=1)
    soft = -(F.softmax(teacher_BK / temperature, dim=1) * log_student).sum(dim=1)
    return target + gamma * temperature**2 * soft


LOSSES: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "KD": kd_loss,
    "DKD": dkd_loss,
    "NKD": partial(nkd_loss, temperature=1.0, gamma=1.5),
    "SD-KD": kd_loss,
    "SD-DKD": dkd_loss,
    "SD-NKD": partial(nkd_loss, temperature=4.0, gamma=2.0),
}


def cluster_term(student_BMK: Tensor, teacher_BMK: Tensor) -> Tensor:
    """KL divergence between the rows of the Gram matrices of one scale's cells."""
    grams = [
        torch.bmm(unit, unit.transpose(1, 2)) for unit in (F.normalize(x, dim=2) for x in (student_BMK, teacher_BMK))
    ]
    log_student, teacher = F.log_softmax(grams[0] / 2.0, dim=2), F.softmax(grams[1] / 2.0, dim=2)
    return F.kl_div(log_student, teacher, reduction="sum") / len(student_BMK)


def loss_of(
    method: str, scales: Sequence[int], student: Any, teacher: Any, heads: tuple[nn.Linear, nn.Linear], labels_B: Tensor
) -> Tensor:
    """Loss of a batch: cross entropy, base loss over the cells, cluster term (methods KD, SD-KD, iCD-KD and so on)."""
    base = method.rpartition("-")[2]
    total: Tensor = CE[base] * F.cross_entropy(student.logits_BK, labels_B)
    if method == base:
        whole_B = LOSSES[base](student.logits_BK, teacher.logits_BK, labels_B)
        return total + BASE[base] * whole_B.mean()
    sums, cells, cluster = torch.zeros(()), 0, torch.zeros(())
    whole_right = cells_of(teacher.features_BCHW, heads[1], 1)[:, 0].argmax(dim=1) == labels_B
    omega = [1 + math.log2(scale) for scale in scales]
    for scale, weight in zip(scales, omega, strict=True):
        student_BMK, teacher_BMK = (
            cells_of(x.features_BCHW, h, scale) for x, h in zip((student, teacher), heads, strict=True)
        )
        for cell in range(scale * scale):
            right = teacher_BMK[:, cell].argmax(dim=1) == labels_B
            loss_B = LOSSES[f"SD-{base}"](student_BMK[:, cell], teacher_BMK[:, cell], labels_B)
            sums = sums + (torch.where(right != whole_right, 2.0, 1.0) * loss_B).mean()
            cells += 1
        if method.startswith("iCD"):
            cluster = cluster + weight / sum(omega) * cluster_term(student_BMK, teacher_BMK)
    return total + BASE[base] * sums / cells + CLUSTER[base] * cluster


class Images(torch.utils.data.Dataset[Any]):
    """Pictures with the usual augmentation."""

    def __init__(self, images_NCHW: Tensor, labels_N: Tensor) -> None:
        self.pictures = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in images_NCHW]
        self.labels_N = labels_N
        self.transform = transforms.Compose(
            [
                transforms.RandomCrop(32, padding=4),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize((0.5, 0.5, 0.5), (0.25, 0.25, 0.25)),
            ]
        )

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.transform(self.pictures[index]), self.labels_N[index]


def main() -> None:
    """Train so many steps and say what they cost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pair", default="resnet32x4/mobilenetv2")
    parser.add_argument("--method", default="iCD-KD")
    parser.add_argument("--scales", default="1,2,4")
    parser.add_argument("--steps", type=int, default=200)
    options = parser.parse_args()
    torch.set_num_threads(1)
    arch_teacher, arch_student = options.pair.split("/")
    split = DATASETS["digits100"].load(
        Request(root=None, path=None, val_fraction=0.1, split_seed=0), train_per_class=72
    )
    teacher = build_model(arch_teacher, num_classes=split.num_classes, stem="conv3x3", seed=1).eval()
    student = build_model(arch_student, num_classes=split.num_classes, stem="conv3x3", seed=0).train()
    optimizer = torch.optim.SGD(student.parameters(), lr=LR, momentum=0.9, weight_decay=5e-4)
    data = Images(split.train.images_NCHW, split.train.labels_N)  # type: ignore[union-attr]
    loader = torch.utils.data.DataLoader(data, batch_size=BATCH, shuffle=True, num_workers=0, drop_last=True)
    scales = [int(scale) for scale in options.scales.split(",")]
    done, began = 0, time.process_time()
    while done < options.steps:
        for images_BCHW, labels_B in loader:
            with torch.no_grad():
                answer = teacher(images_BCHW)
            loss = loss_of(options.method, scales, student(images_BCHW), answer, (student.head, teacher.head), labels_B)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(student.parameters(), 40.0)
            optimizer.step()
            done += 1
            if done == options.steps:
                break
    used = resource.getrusage(resource.RUSAGE_SELF)
    steps_s = time.process_time() - began
    print(json.dumps({"cpu_s": used.ru_utime + used.ru_stime, "steps_s": steps_s, "loss": loss.item()}))


if __name__ == "__main__":
    main()
