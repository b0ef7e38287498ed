"""Networks as programs: every family, any batch size, and a difference is found."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from icd.errors import CheckpointError, SetupError
from icd.models import MODELS, Network, Output, build_model
from icd.results.exports import programs
from icd.results.exports.programs import FILES, Logits, formats_for, write_programs

# Every family: tests/faults/test_programs.py; resnet8 as a user exports it: tests/integration/test_export.py.


class Forgetful(Network):
    """Says another thing each time: what was recorded is not what it does."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 4)
        self.calls: list[int] = []

    def forward(self, images_BCHW: Tensor) -> Output:
        self.calls.append(1)
        logits_BK = self.linear(images_BCHW.mean((2, 3))) + len(self.calls)
        return Output(logits_BK, images_BCHW, images_BCHW)


def trained(arch: str) -> Network:
    """A network whose batch norms have seen something, so that folding them is no matter of ones and zeros."""
    network = build_model(arch, num_classes=10, stem=MODELS[arch].stems[0], seed=0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for _ in range(2):
            network(torch.randn(8, 3, 32, 32, generator=generator))
    return network.eval().requires_grad_(False)


def images(count: int) -> Tensor:
    return torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(2))


def check_what_they_say(folder: Path) -> None:
    model = onnx.load(folder / "student.onnx")
    assert {item.key: item.value for item in model.metadata_props} == {"study": "s"}
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    here = str(Path(programs.__file__).parents[2]).encode()
    for name in FILES.values():
        assert here not in (folder / name).read_bytes()  # no folders of this machine


def check_programs(arch: str, tmp_path: Path) -> None:
    network = trained(arch)
    found = write_programs(network, images(5), tmp_path, ["onnx", "pt2"], {"study": "s"})
    assert found.keys() == set(FILES.values())
    check_what_they_say(tmp_path)
    assert max(found.values()) <= 1e-4

    expected_BK = network(images(1)).logits_BK.numpy()  # another batch size
    session = onnxruntime.InferenceSession(str(tmp_path / "student.onnx"))
    (said_BK,) = session.run(["logits"], {"images": images(1).numpy()})
    assert np.abs(said_BK - expected_BK).max() <= 1e-4
    said_BK = torch.export.load(tmp_path / "student.pt2").module()(images(1)).detach().numpy()
    assert np.abs(said_BK - expected_BK).max() <= 1e-4


@pytest.mark.parametrize("name", ["onnx", "pt2"])
def test_a_program_that_differs_is_refused(name: programs.Format, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"to 0\.0001, but differ by 1"):
        write_programs(Forgetful().eval(), images(2), tmp_path, [name], {})


def test_a_network_that_is_not_finite_is_refused(tmp_path: Path) -> None:
    network = trained("resnet8")
    network.head.bias[0] = float("nan")
    with pytest.raises(CheckpointError, match="differ by nan"):
        write_programs(network, images(2), tmp_path, ["pt2"], {})


def test_without_the_packages(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    assert formats_for(None) == ["onnx", "pt2"]
    assert formats_for(["pt2", "pt2"]) == ["pt2"]
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "onnxruntime" else name)
    assert formats_for(None) == ["pt2"]
    assert "left out: student.onnx needs onnxruntime; pip install '.[export]'" in caplog.text
    with pytest.raises(SetupError, match="needs onnxruntime"):
        formats_for(["onnx"])


def test_logits_alone() -> None:
    network = trained("resnet8")
    assert torch.equal(Logits(network)(images(2)), network(images(2)).logits_BK)
