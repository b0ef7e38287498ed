"""Checks of a network; the subject is a case: its name, its stem and sizes of images. ``icd/models/output.py``.

Shape key:
    B: batch    C: channels    H, W: height, width    K: classes
"""

from copy import deepcopy
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from icd.models import Network, Output, Stem, build_model, feature_size
from icd.testing.contract import Check, require
from icd.training.draws import generators_kept, seed_step

CLASSES = 7


class ModelCase(NamedTuple):
    """A network to check: the name and the stem, and sizes of square images that it must take."""

    arch: str
    stem: Stem
    sizes: tuple[int, ...] = (32,)
    owner: object = None  # the plugin that it is of, another version of which has another network of that name


def random_images(size: int, *, count: int = 1) -> Tensor:
    """Make images of noise, [count, 3, size, size]."""
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(size))


def seeded(case: ModelCase) -> Network:
    """Build the network of a case anew."""
    return build_model(case.arch, num_classes=CLASSES, stem=case.stem, seed=0)


@lru_cache(maxsize=1)
def network_of(case: ModelCase) -> Network:
    """Build the network of a case once, for evaluation."""
    return seeded(case).eval()


@lru_cache(maxsize=1)
def outputs_of(case: ModelCase) -> dict[int, Output]:
    """Make one pass of each size, once."""
    network = network_of(case)  # whose weights are to be trained, so no tensors of inference
    with torch.inference_mode():
        return {size: network(random_images(size)) for size in case.sizes}


def the_head_is_linear(case: ModelCase) -> None:
    """``head`` is the classifier: a linear layer of the network, with a logit for each class."""
    network = network_of(case)
    head = network.head
    require(isinstance(head, nn.Linear), f"head must be a torch.nn.Linear, but is {type(head).__name__}")
    fits = head.out_features == CLASSES
    require(fits, f"the head must give as many logits as there are classes, {CLASSES}, but gives {head.out_features}")
    same = any(module is head for module in network.modules())
    require(same, "head must be a module of the network, found anew at each call")


def logits_are_the_head_of_the_mean_feature(case: ModelCase) -> None:
    """``logits == head(features.mean((2, 3)))``, from which cells follow."""
    for size, output in outputs_of(case).items():
        with torch.inference_mode():
            expected_BK = network_of(case).head(output.features_BCHW.mean((2, 3)))
        shape = tuple(output.logits_BK.shape)
        require(shape == (1, CLASSES), f"logits of one image must have shape (1, {CLASSES}), but have {shape}")
        same = torch.allclose(output.logits_BK, expected_BK, rtol=1e-4, atol=1e-5)
        hint = "a network without such a map gives what its head sees as a map of 1 x 1, [B, C, 1, 1]"
        require(same, f"logits must be head(features.mean((2, 3))) at {size} pixels; {hint}")


def the_size_of_features_is_known(case: ModelCase) -> None:
    """``feature_size`` says what a pass gives."""
    for size, output in outputs_of(case).items():
        told, given = feature_size(case.arch, case.stem, size), tuple(output.features_BCHW.shape[1:])
        require(told == given, f"feature_size says {told} at {size} pixels, but a pass gives {given}")


def outputs_are_finite(case: ModelCase) -> None:
    """No NaN in logits, features and block."""
    for size, output in outputs_of(case).items():
        for name, part in zip(output._fields, output, strict=True):
            require(torch.isfinite(part).all(), f"{name} must be finite at {size} pixels")


def every_parameter_is_trained(case: ModelCase) -> None:
    """Losses on logits reach every parameter that asks for a gradient; features and block have gradients too."""
    network = deepcopy(network_of(case)).train()
    output = network(random_images(case.sizes[0], count=2))
    output.logits_BK.square().mean().backward(retain_graph=True)
    idle = [name for name, weight in network.named_parameters() if weight.requires_grad and weight.grad is None]
    require(not idle, f"parameters {', '.join(idle[:3])} get no gradient from the logits")
    (output.features_BCHW.square().mean() + output.block_BCHW.square().mean()).backward()


def channels_last_gives_the_same(case: ModelCase) -> None:
    """The memory format of images is a matter of speed."""
    size = case.sizes[-1]
    arranged: Any = deepcopy(network_of(case)).to(memory_format=torch.channels_last)
    with torch.inference_mode():
        output = arranged(random_images(size).to(memory_format=torch.channels_last))
    same = torch.allclose(output.logits_BK, outputs_of(case)[size].logits_BK, rtol=1e-3, atol=1e-4)
    require(same, "images in channels_last format must give the same logits")


def weights_follow_from_the_seed(case: ModelCase) -> None:
    """Equal seeds give equal weights, whatever state torch's generator is in."""
    state = torch.random.get_rng_state()
    torch.manual_seed(123)
    again = seeded(case).state_dict()
    torch.random.set_rng_state(state)
    differ = [name for name, weight in network_of(case).state_dict().items() if not torch.equal(weight, again[name])]
    require(not differ, f"{', '.join(differ[:3])} must follow from torch's own generator, which the seed sets")


def training_draws_from_torch_alone(case: ModelCase) -> None:
    """From one state of torch's generator, which is set before each step, two passes in training mode are equal."""
    passes, device = [], torch.device("cpu")
    with generators_kept(device), torch.no_grad():
        for _ in range(2):
            seed_step(device, 0, 1, 0)
            passes.append(deepcopy(network_of(case)).train()(random_images(case.sizes[0], count=2)).logits_BK)
    rule = "what a pass in training mode draws must come from torch's own generator, not from random or numpy.random"
    require(torch.equal(*passes), rule)


MODEL_CHECKS: tuple[Check[ModelCase], ...] = (
    the_head_is_linear,
    logits_are_the_head_of_the_mean_feature,
    the_size_of_features_is_known,
    outputs_are_finite,
    every_parameter_is_trained,
    channels_last_gives_the_same,
    weights_follow_from_the_seed,
    training_draws_from_torch_alone,
)
