"""The student of an exported run as programs that need no icd, compared with it before they are given out.

Shape key:
    B: batch    C: channels    H, W: height, width    K: classes
"""

import importlib.util
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from icd.config.trial import TrialConfig
from icd.errors import CheckpointError, DataError, SetupError, StateError
from icd.models import Network, build_model
from icd.teacher.store import fitted, head_name
from icd.training.loop import Execution, evaluation_batches
from icd.worker.trial_inputs import TrialFolders, read_data

logger = logging.getLogger(__name__)

Format = Literal["onnx", "pt2"]
FILES: Mapping[Format, str] = {"onnx": "student.onnx", "pt2": "student.pt2"}

TOLERANCE = 1e-4  # largest absolute difference of a logit
_ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
_TRACED_IMAGES = 2  # a batch of 1 would be taken for a constant
_IMAGES = 64  # that programs are compared on


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Images to try a network on, and how the data set prepares them.

    Attributes:
        images_BCHW: Normalised, float32.
        source: What they are, for people.
        mean: Of each channel, pixels scaled to 0..1, as is ``std``; None where the data set is not at hand.
        class_names: In the order of the logits; None where the data set is not at hand.
    """

    images_BCHW: Tensor
    source: str
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    class_names: tuple[str, ...] | None = None


def student_of(config: TrialConfig, weights: Mapping[str, Tensor], source: str) -> Network:
    """Build a configuration's student with trained weights, on the CPU and in ``eval`` mode.

    Raises:
        TeacherError: If they are of another architecture.
    """
    student = config.student
    head = head_name(build_model(student.arch, num_classes=2, stem=student.stem))
    num_classes = len(weights[f"{head}.weight"]) if f"{head}.weight" in weights else 2
    return fitted(weights, student.arch, student.stem, num_classes, source=source).eval().requires_grad_(False)


def sample_of(config: TrialConfig, root: Path, data_root: Path | None) -> Sample:
    """Give up to 64 validation images in their test-time view; seeded noise where the data set is not at hand."""
    try:
        _, split = read_data(config, TrialFolders(root=root, data_root=data_root))
    except (DataError, SetupError, StateError, OSError) as error:
        logger.warning("the student is compared on noise, because its data set cannot be read: %s", error)
        side = config.training.augmentation.size
        noise_BCHW = torch.randn(_IMAGES, 3, side, side, generator=torch.Generator().manual_seed(0))
        return Sample(images_BCHW=noise_BCHW, source=f"{_IMAGES} images of seeded noise (no data set at hand)")
    shown = split.val.subset(range(min(len(split.val), _IMAGES)))
    batch = next(evaluation_batches(config, split, shown, Execution()))
    return Sample(
        images_BCHW=batch.images_BCHW.contiguous(),
        source=f"{len(shown)} validation images of {split.name}",
        mean=tuple(split.mean),
        std=tuple(split.std),
        class_names=split.class_names,
    )


class Logits(nn.Module):
    """A network that gives its logits alone."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:  # the argument's name is the input's in both formats
        """Give logits [B, K] for images [B, C, H, W]."""
        return self.network(images).logits_BK


def formats_for(asked: Sequence[Format] | None) -> list[Format]:
    """Give the formats to write; one that nobody asked for by name is left out where its packages are missing.

    Raises:
        SetupError: If ONNX was asked for and its packages are missing.
    """
    missing = [name for name in _ONNX_PACKAGES if importlib.util.find_spec(name) is None]
    lacking = f"{FILES['onnx']} needs {', '.join(missing)}; pip install '.[export]'"
    if asked:
        if "onnx" in asked and missing:
            raise SetupError(lacking)
        return list(dict.fromkeys(asked))
    if missing:
        logger.warning("left out: %s", lacking)
    return [name for name in FILES if name != "onnx" or not missing]


def write_programs(
    network: Network, images_BCHW: Tensor, folder: Path, formats: Sequence[Format], facts: Mapping[str, str]
) -> dict[str, float]:
    """Write the network's programs into a folder, any batch size, and compare what they say with what it says.

    The network is on the CPU, float32, in ``eval`` mode, and the images are normalised; ``facts`` are the metadata of
    the ONNX file. Returns the largest absolute difference of a logit for each of ``FILES`` that was written.

    Raises:
        CheckpointError: If a program differs by more than 1e-4, or a logit is not finite.
    """
    logits = Logits(network).eval()
    example_BCHW = torch.zeros(_TRACED_IMAGES, *images_BCHW.shape[1:])
    with torch.no_grad():
        expected_BK = logits(images_BCHW)
        program = torch.export.export(
            logits, (example_BCHW,), dynamic_shapes={"images": {0: torch.export.Dim("batch", min=1)}}
        )
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # names this machine's folders
    differences: dict[str, float] = {}
    for name in formats:
        path = folder / FILES[name]
        if name == "onnx":
            said_BK = _onnx(program, path, images_BCHW, facts)
        else:
            torch.export.save(program, path)
            with torch.no_grad():
                said_BK = torch.export.load(path).module()(images_BCHW)
        difference = float((said_BK.double() - expected_BK.double()).abs().max())
        if not difference <= TOLERANCE:
            raise CheckpointError(
                f"{FILES[name]}: logits must agree with the student's to {TOLERANCE:g}, but differ by {difference:.3g}"
            )
        differences[FILES[name]] = difference
    return differences


def _onnx(program: Any, path: Path, images_BCHW: Tensor, facts: Mapping[str, str]) -> Tensor:
    """Write a program as ONNX, and give the logits that ONNX Runtime computes with it."""
    import onnx
    import onnxruntime

    shapes = {"images": {0: "batch"}}
    made: Any = torch.onnx.export(
        program, dynamo=True, input_names=["images"], output_names=["logits"], dynamic_shapes=shapes, verbose=False
    )
    model = made.model_proto
    for part in (model.graph, *model.graph.node):
        del part.metadata_props[:]  # they name this machine's folders
    onnx.helper.set_model_props(model, dict(facts))
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (said_BK,) = session.run(["logits"], {"images": images_BCHW.numpy()})
    return torch.from_numpy(said_BK)
