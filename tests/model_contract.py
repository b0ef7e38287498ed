"""What every row of ``MODELS`` must satisfy; see ``icd/models/output.py``.

A test module gives a module-scoped fixture ``case`` of (arch, stem) and a subclass of ``ModelContract``.
"""

from copy import deepcopy
from typing import cast

import pytest
import torch
from torch import Tensor, nn

from icd.models import MODELS, Network, Output, Stem, build_model, feature_size

CLASSES = 7
# 36 leaves remainders, so that it shows how layers round; 224 is dear, so one network of each family does it.
SIZES = (32, 36, 64)
LARGE = 224

Case = tuple[str, Stem]


def image_batch(size: int, *, count: int = 1) -> Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(size))


def seeded(case: Case) -> nn.Module:
    arch, stem = case
    return build_model(arch, num_classes=CLASSES, stem=stem, seed=0)


def head_of(network: nn.Module) -> nn.Linear:
    # To mypy every attribute of a module may be a tensor.
    return cast("Network", network).head


@pytest.fixture(scope="module")
def network(case: Case) -> nn.Module:
    return seeded(case).eval()


def is_first_of_its_family(case: Case) -> bool:
    family = MODELS[case[0]].family
    return case == next((arch, stem) for arch, row in MODELS.items() if row.family == family for stem in row.stems)


@pytest.fixture(scope="module")
def outputs(case: Case, network: nn.Module) -> dict[int, Output]:
    """One pass per image size; several tests look at it."""
    with torch.inference_mode():
        return {
            size: network(image_batch(size)) for size in (*SIZES, *([LARGE] if is_first_of_its_family(case) else []))
        }


class ModelContract:
    """Behaviour that losses and the training loop rely on."""

    def test_head_is_linear_under_its_published_name_only(self, network: nn.Module) -> None:
        head = head_of(network)
        assert isinstance(head, nn.Linear)
        assert head.out_features == CLASSES
        assert not [name for name in network.state_dict() if name.startswith("head")]

    def test_logits_are_the_head_of_the_mean_feature(self, network: nn.Module, outputs: dict[int, Output]) -> None:
        for size, output in outputs.items():
            with torch.inference_mode():
                expected_BK = head_of(network)(output.features_BCHW.mean((2, 3)))
            assert output.logits_BK.shape == (1, CLASSES), size
            assert torch.allclose(output.logits_BK, expected_BK, rtol=1e-4, atol=1e-5), size

    def test_feature_size_is_that_of_a_pass(self, case: Case, outputs: dict[int, Output]) -> None:
        arch, stem = case
        sizes = {size: tuple(output.features_BCHW.shape[1:]) for size, output in outputs.items()}
        assert sizes == {size: feature_size(arch, stem, size) for size in outputs}

    def test_features_are_finite_and_not_negative(self, outputs: dict[int, Output]) -> None:
        for size, output in outputs.items():
            assert torch.isfinite(output.features_BCHW).all(), size
            assert output.features_BCHW.min() >= 0, size
            assert output.features_BCHW.max() > 0, size
            assert torch.isfinite(output.block_BCHW).all(), size

    def test_losses_on_all_parts_of_the_output_reach_every_parameter(self, network: nn.Module) -> None:
        network = deepcopy(network).train()
        output = network(image_batch(32, count=2))
        output.logits_BK.square().mean().backward(retain_graph=True)
        assert not [name for name, parameter in network.named_parameters() if parameter.grad is None]
        (output.features_BCHW.square().mean() + output.block_BCHW.square().mean()).backward()

    def test_channels_last_gives_the_same_and_stays(self, network: nn.Module, outputs: dict[int, Output]) -> None:
        arranged = deepcopy(network).to(memory_format=torch.channels_last)
        with torch.inference_mode():
            output = arranged(image_batch(64).to(memory_format=torch.channels_last))
        assert output.features_BCHW.is_contiguous(memory_format=torch.channels_last)
        assert torch.allclose(output.logits_BK, outputs[64].logits_BK, rtol=1e-3, atol=1e-4)

    def test_weights_follow_from_the_seed(self, case: Case, network: nn.Module) -> None:
        torch.manual_seed(123)  # whatever state the program is in
        again = seeded(case).state_dict()
        assert all(torch.equal(tensor, again[name]) for name, tensor in network.state_dict().items())
