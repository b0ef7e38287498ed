"""Initial weights depend on their seed alone, whatever other threads make at the same time."""

import threading
from collections.abc import Callable

import numpy as np
import torch

from icd.methods import ContrastiveRepresentation, MethodSetup
from icd.models import build_model
from icd.training.checkpoints import weights_digest
from icd.training.draws import generators_kept, seed_step

SETUP = MethodSetup(student_channels=64, teacher_channels=64, labels_N=np.arange(600) % 10, seed=5)

MAKE: list[Callable[[], torch.nn.Module]] = [
    lambda: build_model("resnet8", num_classes=100, seed=3),
    lambda: build_model("resnet14", num_classes=100, seed=4),
    lambda: build_model("resnet14", num_classes=100),  # as a teacher is before its weights are filled in
    lambda: ContrastiveRepresentation().build(SETUP),
    lambda: _step(build_model("resnet8", num_classes=10, seed=5)),  # as a training beside the others
]
SEEDED = (0, 1, 3, 4)


def _step(network: torch.nn.Module) -> torch.nn.Module:
    with generators_kept(torch.device("cpu")):
        for step in range(100):
            seed_step(torch.device("cpu"), 0, 1, step)
    return network


def digests(make: Callable[[], torch.nn.Module], times: int) -> set[str]:
    return {weights_digest(make().state_dict()) for _ in range(times)}


def test_threads_do_not_draw_from_each_other() -> None:
    alone = [digests(make, 1) for make in MAKE]
    found: dict[int, set[str]] = {}

    def work(place: int) -> None:
        found[place] = digests(MAKE[place], 25)

    threads = [threading.Thread(target=work, args=(place,)) for place in range(len(MAKE))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[place] for place in SEEDED] == [alone[place] for place in SEEDED]


def test_a_seed_leaves_the_generator_alone() -> None:
    before = torch.get_rng_state()
    for place in SEEDED:
        MAKE[place]()
    assert torch.equal(torch.get_rng_state(), before)
