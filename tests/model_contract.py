"""What every row of ``MODELS`` must satisfy; see ``icd/models/output.py``.

A test module gives a module-scoped fixture ``case`` of (arch, stem) and a subclass of ``ModelContract``.
"""

import pytest
import torch
from torch import Tensor, nn

from icd.models import MODELS, Output, Stem, build_model, feature_size

CLASSES = 7
SIZES = (32, 36, 64, 224)  # 36 leaves remainders, so that it shows how layers round

Case = tuple[str, Stem]


def image_batch(size: int, *, count: int = 1) -> Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(size))


def seeded(case: Case, seed: int = 0) -> nn.Module:
    arch, stem = case
    return build_model(arch, num_classes=CLASSES, stem=stem, seed=seed)


@pytest.fixture(scope="module")
def network(case: Case) -> nn.Module:
    return seeded(case).eval()


@pytest.fixture(scope="module")
def outputs(network: nn.Module) -> dict[int, Output]:
    """One pass per image size; several tests look at it."""
    with torch.inference_mode():
        return {size: network(image_batch(size)) for size in SIZES}


class ModelContract:
    """Behaviour that losses and the training loop rely on."""

    def test_head_is_linear_under_its_published_name_only(self, network: nn.Module) -> None:
        head = network.head
        assert isinstance(head, nn.Linear)
        assert head.out_features == CLASSES
        assert not [name for name in network.state_dict() if name.startswith("head")]

    @pytest.mark.parametrize("size", SIZES)
    def test_logits_are_the_head_of_the_mean_feature(
        self, network: nn.Module, outputs: dict[int, Output], size: int
    ) -> None:
        output = outputs[size]
        with torch.inference_mode():
            expected_BK = network.head(output.features_BCHW.mean((2, 3)))
        assert output.logits_BK.shape == (1, CLASSES)
        torch.testing.assert_close(output.logits_BK, expected_BK, rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize("size", SIZES)
    def test_feature_size_is_that_of_a_pass(self, case: Case, outputs: dict[int, Output], size: int) -> None:
        arch, stem = case
        assert feature_size(arch, stem, size) == tuple(outputs[size].features_BCHW.shape[1:])

    @pytest.mark.parametrize("size", SIZES)
    def test_features_are_finite_and_not_negative(self, outputs: dict[int, Output], size: int) -> None:
        output = outputs[size]
        assert torch.isfinite(output.features_BCHW).all()
        assert (output.features_BCHW >= 0).all()
        assert output.features_BCHW.max() > 0
        assert torch.isfinite(output.block_BCHW).all()

    def test_every_parameter_gets_a_gradient_from_logits(self, case: Case) -> None:
        network = seeded(case).train()
        network(image_batch(32, count=2)).logits_BK.square().sum().backward()
        assert not [name for name, parameter in network.named_parameters() if parameter.grad is None]

    def test_logits_features_and_block_can_be_differentiated_together(self, case: Case) -> None:
        output = seeded(case).train()(image_batch(32, count=2))
        loss = sum(tensor.square().mean() for tensor in output)
        assert isinstance(loss, Tensor)
        loss.backward()

    def test_channels_last_gives_the_same_and_stays(
        self, network: nn.Module, outputs: dict[int, Output]
    ) -> None:
        # A copy, because the fixture is shared.
        arranged = nn.Module.to(_copy(network), memory_format=torch.channels_last)
        with torch.inference_mode():
            output = arranged(image_batch(64).to(memory_format=torch.channels_last))
        assert output.features_BCHW.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(output.logits_BK, outputs[64].logits_BK, rtol=1e-3, atol=1e-4)

    def test_weights_follow_from_the_seed(self, case: Case, network: nn.Module) -> None:
        torch.manual_seed(123)  # whatever state the program is in
        again, other = seeded(case).state_dict(), seeded(case, seed=1).state_dict()
        weights = network.state_dict()
        assert all(torch.equal(weights[name], again[name]) for name in weights)
        assert not all(torch.equal(weights[name], other[name]) for name in weights)

    def test_seeded_build_leaves_the_global_generator_alone(self, case: Case) -> None:
        before = torch.random.get_rng_state()
        seeded(case)
        assert torch.equal(before, torch.random.get_rng_state())

    def test_row_tells_what_it_is(self, case: Case) -> None:
        arch, stem = case
        row = MODELS[arch]
        assert stem in row.stems
        assert row.summary
        assert row.family


def _copy(network: nn.Module) -> nn.Module:
    from copy import deepcopy

    return deepcopy(network)
