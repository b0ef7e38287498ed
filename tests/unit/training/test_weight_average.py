"""The moving average of the weights is what its equation says, and a step that holds it asks nothing of the host."""

import torch

from icd.models import build_model
from icd.training.weight_average import WeightAverage


def test_the_average_follows_by_its_equation() -> None:
    network = build_model("resnet8", num_classes=10, seed=0).to(memory_format=torch.channels_last)
    average = WeightAverage(network, decay=0.5)
    wanted = {name: tensor.clone().double() for name, tensor in network.state_dict().items()}
    draw = torch.Generator().manual_seed(0)
    for step in range(1, 13):  # the decay grows to 0.5 at step 8
        with torch.no_grad():
            for weight in network.parameters():
                weight.add_(torch.randn(weight.shape, generator=draw))
        network(torch.randn(4, 3, 32, 32, generator=draw))  # moves running means and counters
        average.update()
        decay = min(0.5, (1 + step) / (10 + step))
        for name, tensor in network.state_dict().items():
            if tensor.is_floating_point():
                wanted[name] += (1 - decay) * (tensor.double() - wanted[name])
            else:
                wanted[name] = tensor.double()
    for name, tensor in average.network.state_dict().items():
        assert torch.allclose(tensor.double(), wanted[name], atol=1e-5), name
        assert tensor.stride() == network.state_dict()[name].stride()
        assert tensor.data_ptr() != network.state_dict()[name].data_ptr()
    assert not any(weight.requires_grad for weight in average.network.parameters())
