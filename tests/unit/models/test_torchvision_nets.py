"""torchvision's networks: published weights, a replaced head, and a download that fails."""

from pathlib import Path
from urllib.error import URLError

import pytest
import torch

from icd.errors import SetupError
from icd.models import build_model
from tests.model_contract import head_of


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of weights, and no network."""

    def refuse(url: str, *args: object, **kwargs: object) -> None:
        raise URLError("no route to host")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    return folder


def put_weights(hub: Path) -> dict[str, torch.Tensor]:
    """Lay random weights where torchvision keeps those of ResNet18."""
    weights = build_model("torchvision_resnet18", num_classes=1000, stem="conv7x7_s2_pool", seed=7).state_dict()
    torch.save(weights, hub / "resnet18-f37072fd.pth")
    return weights


def test_state_dict_has_the_names_of_torchvision() -> None:
    from torchvision.models import mobilenet_v2, resnet18

    for name, theirs in (("resnet18", resnet18()), ("mobilenet_v2", mobilenet_v2())):
        ours = build_model(f"torchvision_{name}", num_classes=1000, stem="conv7x7_s2_pool")
        assert list(ours.state_dict()) == list(theirs.state_dict())


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2"])
def test_logits_are_those_of_torchvision(name: str) -> None:
    from torchvision.models import get_model

    theirs = get_model(name, num_classes=11).eval()
    ours = build_model(f"torchvision_{name}", num_classes=11, stem="conv7x7_s2_pool").eval()
    ours.load_state_dict(theirs.state_dict())
    images = torch.randn(2, 3, 96, 96)
    with torch.inference_mode():
        torch.testing.assert_close(ours(images).logits_BK, theirs(images))


def test_pretrained_network_of_1000_classes_has_all_published_weights(hub: Path) -> None:
    expected = put_weights(hub)
    network = build_model("torchvision_resnet18", num_classes=1000, stem="conv7x7_s2_pool", pretrained=True)
    weights = network.state_dict()
    assert all(torch.equal(weights[name], expected[name]) for name in expected)


def test_pretrained_network_of_other_classes_has_a_new_seeded_head(hub: Path) -> None:
    expected = put_weights(hub)
    first, second = (
        build_model("torchvision_resnet18", num_classes=5, stem="conv7x7_s2_pool", pretrained=True, seed=2)
        for _ in range(2)
    )
    weights = first.state_dict()
    assert weights["fc.weight"].shape == (5, 512)
    assert torch.equal(weights["fc.weight"], second.state_dict()["fc.weight"])
    assert torch.equal(weights["layer4.1.conv2.weight"], expected["layer4.1.conv2.weight"])


def test_failed_download_says_in_one_line_what_to_do(hub: Path) -> None:
    with pytest.raises(SetupError) as caught:
        build_model("torchvision_resnet18", num_classes=5, stem="conv7x7_s2_pool", pretrained=True)
    message = str(caught.value)
    assert "\n" not in message
    assert str(hub / "resnet18-f37072fd.pth") in message
    assert "no route to host" in message
    assert "set pretrained to false" in message


def test_broken_cached_weights_are_a_setup_error(hub: Path) -> None:
    (hub / "resnet18-f37072fd.pth").write_bytes(b"<html>not found</html>")
    with pytest.raises(SetupError, match="must be readable at"):
        build_model("torchvision_resnet18", num_classes=5, stem="conv7x7_s2_pool", pretrained=True)


def test_mobilenet_v2_draws_no_dropout_in_training() -> None:
    network = build_model("torchvision_mobilenet_v2", num_classes=5, stem="conv7x7_s2_pool").train()
    output = network(torch.randn(4, 3, 64, 64))
    pooled = output.features_BCHW.mean((2, 3))
    torch.testing.assert_close(output.logits_BK, head_of(network)(pooled))
