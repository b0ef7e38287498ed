"""The losses alone, from both feature maps to the student's gradient: ours against the plain way.

    python bench/loss.py [--quick] [--rounds 15]

Batch 64, K = 100, scales 1, 2, 4 for SD and iCD. ``plain`` is bench/plain.py: pooled and classified scale by scale,
losses cell by cell, recorded by autograd. ``live`` is ours with the teacher's map at hand, ``cache`` ours with an entry
of a cache, as a trial has it. Operations are those that torch dispatches, forward and backward: on a GPU about one
kernel each.

Shape key:
    B: batch    C: channels    H, W: height, width    K: classes    R: rows of a cache's entry    V: verdicts
"""

import argparse
import json
import statistics
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from paired import ratio, take_turns
from plain import loss_of
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from icd.methods import PAPER_ROWS, LiveOutputs, NetworkOutputs, Step
from icd.models import Output
from icd.teacher.cache_block import BlockSpec, rows_of
from icd.teacher.cached_outputs import CachedOutputs

BATCH, CLASSES, SCALES = 64, 100, (1, 2, 4)
MAPS = {"resnet8x4": (256, 8), "mobilenetv2": (1280, 2)}  # channels and side of the student's map
METHODS = ("KD", "DKD", "NKD", "SD-KD", "SD-DKD", "SD-NKD", "iCD-KD", "iCD-DKD", "iCD-NKD")


def main() -> None:
    """Run, print a table on stderr and the figures on stdout."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one map, three methods, three rounds")
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for student, (channels, side) in list(MAPS.items())[: 1 if options.quick else None]:
        for method in METHODS[6:] if options.quick else METHODS:
            rows.append({"student": student, "method": method} | compare(method, channels, side, options))
            print(
                "  ".join(f"{k} {v:.3g}" if isinstance(v, float) else str(v) for k, v in rows[-1].items()),
                file=sys.stderr,
            )
    json.dump(rows, sys.stdout, indent=1)
    print()


def compare(method: str, channels: int, side: int, options: argparse.Namespace) -> dict[str, Any]:
    """Let the plain and our loss take turns on one pair of maps."""
    generator = torch.Generator().manual_seed(0)
    labels_B = torch.randint(0, CLASSES, (BATCH,), generator=generator)
    student, student_head = network(channels, side, generator)
    teacher, teacher_head = network(256, 8, generator)
    student.features_BCHW.requires_grad_()
    built, where = PAPER_ROWS[method].build(None), Step(labels_B, labels_B, 240, 0)
    live, cache = LiveOutputs(*teacher, teacher_head), cache_side(teacher, teacher_head, labels_B)

    def logits() -> Output:  # the head on the whole image is part of every loss
        return Output(student_head(student.features_BCHW.mean((2, 3))), student.features_BCHW, student.features_BCHW)

    def ours(its_side: NetworkOutputs) -> Tensor:
        return torch.stack(list(built(LiveOutputs(*logits(), student_head), its_side, where).values())).sum()

    def plain() -> Tensor:
        return loss_of(method, SCALES, logits(), teacher, (student_head, teacher_head), labels_B)

    weights = [student.features_BCHW, *student_head.parameters()]
    arms = {
        name: partial(_gradient, loss, weights)
        for name, loss in (("plain", plain), ("live", partial(ours, live)), ("cache", partial(ours, cache)))
    }
    taken = take_turns(arms, 3 if options.quick else options.rounds, times=5)
    milliseconds = {f"{name}_ms": 1e3 * statistics.median(values) for name, values in taken.items()}
    ratios = {f"plain_over_{name}": ratio(taken["plain"], taken[name]) for name in ("live", "cache")}
    return milliseconds | ratios | {f"{name}_operations": operations(arm) for name, arm in arms.items()}


def network(channels: int, side: int, generator: torch.Generator) -> tuple[Output, nn.Linear]:
    """What a network gives, without the network: a map of channels-last layout, and a head."""
    features_BCHW = torch.randn(BATCH, channels, side, side, generator=generator)
    features_BCHW = features_BCHW.to(memory_format=torch.channels_last)
    head = nn.Linear(channels, CLASSES)
    with torch.no_grad():
        head.weight.normal_(std=0.5, generator=generator)
        logits_BK = head(features_BCHW.mean((2, 3)))
    return Output(logits_BK, features_BCHW, features_BCHW), head


@torch.no_grad()
def cache_side(teacher: Output, head: nn.Linear, labels_B: Tensor) -> CachedOutputs:
    """The teacher's answer as a cache would give it."""
    spec = BlockSpec(
        teacher="t", data="d", views="v", num_images=BATCH, num_views=1, num_classes=CLASSES, side=4, from_map=False,
        own_logits=False,
    )  # fmt: skip
    rows_BRK, verdicts_BV = rows_of(teacher, head, spec, labels_B)
    return CachedOutputs([(spec, rows_BRK.half().float(), verdicts_BV)])


def _gradient(loss: Callable[[], Tensor], weights: list[Tensor]) -> None:
    torch.autograd.grad(loss(), weights)


class _Counter(TorchDispatchMode):
    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += not func.is_view
        return func(*args, **(kwargs or {}))


def operations(arm: Callable[[], object]) -> int:
    """Count what torch dispatches, views aside."""
    with _Counter() as counter:  # type: ignore[no-untyped-call]  # of torch
        arm()
    return int(counter.count)


if __name__ == "__main__":
    main()
