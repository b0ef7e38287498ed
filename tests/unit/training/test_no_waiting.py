"""A step asks nothing of the host and takes nothing from it: what a CUDA graph needs, checked without a GPU.

The step runs on torch's meta device, where tensors have no data: reading one back fails, and so does a result whose
shape depends on data (``nonzero``, a boolean index). What meta lets pass is caught on the way: host tensors in an
operation, and values from Python that would have to be copied to the device.
"""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from icd.config.training import TrainingConfig
from icd.data.images import ArrayImages
from icd.data.views import CropFlip
from icd.data.warps import RotateFlip
from icd.losses import BaseLoss, DecoupledKD, KnowledgeDistillation, LocalRelations, NormalizedKD
from icd.methods import (
    CellDistillation,
    ContrastiveRepresentation,
    CrossEntropy,
    Method,
    MethodSetup,
    SimilarityPreserving,
)
from icd.models import build_model
from icd.teacher.cache_block import BlockSpec
from icd.teacher.device_cache import DeviceCache, Mirror
from icd.training import step
from icd.training.engine import DeviceEpochs
from icd.training.epoch_inputs import EpochInputs
from icd.training.loop import Execution
from icd.training.step import TrainStep

META = torch.device("meta")
CLASSES = 10


@pytest.fixture(autouse=True)
def _no_autocast(monkeypatch: pytest.MonkeyPatch) -> None:
    """The meta device has none, and what it does on a GPU is torch's."""
    monkeypatch.setattr(step, "precision", lambda name, device: nullcontext())
    for name in ("sgd", "adam"):
        module = sys.modules[f"torch.optim.{name}"]
        monkeypatch.setattr(module, "_device_dtype_check_for_fused", lambda *weights: None)


_FROM_PYTHON = {torch.tensor, torch.as_tensor, torch.asarray, torch.from_numpy, Tensor.new_tensor}
_INDEXING = {Tensor.__getitem__, Tensor.__setitem__}


class NoCopies(TorchFunctionMode):
    """Refuses to make tensors of Python values, lists as indices included."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _FROM_PYTHON and not isinstance(args[0], Tensor):
            raise AssertionError(f"{func.__name__} copies values from the host")
        if func in _INDEXING:
            index = args[1] if isinstance(args[1], tuple) else (args[1],)
            assert not any(isinstance(part, list | np.ndarray) for part in index), "a list as index is copied"
        return func(*args, **(kwargs or {}))


class WithFusedUpdate(TorchDispatchMode):
    """Leaves out the fused update, which has no kernel for the meta device."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return None if "_fused_" in str(func) else func(*args, **(kwargs or {}))


class NoHost(TorchDispatchMode):
    """Refuses tensors of the host in any operation, and boolean indices."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        host = [tuple(tensor.shape) for tensor in tensors if tensor.device.type == "cpu"]
        assert not host, f"{func} takes tensors of shape {host} from the host"
        name = str(func)
        if name.startswith(("aten.index.", "aten.index_put", "aten._index_put")):
            assert not any(i is not None and i.dtype in (torch.bool, torch.uint8) for i in args[1]), f"{name} by a mask"
        made = func(*args, **kwargs)
        for leaf in tree_leaves(made):
            assert not isinstance(leaf, Tensor) or leaf.device.type == "meta", f"{name} makes a tensor on the host"
        return made


@contextmanager
def no_host() -> Iterator[None]:
    """Both of the above."""
    with NoCopies(), NoHost():  # type: ignore[no-untyped-call]  # of torch
        yield


def epochs_of(method: Method, *, teacher: str, **changes: Any) -> DeviceEpochs:
    """Make an engine whose tensors are all on the meta device; what it would be sent is not."""
    fields: dict[str, Any] = {"augmentation": CropFlip(size=32, pad=4), "clip_norm": 5.0, "nesterov": True, **changes}
    training = TrainingConfig(epochs=4, batch_size=4, lr=0.1, weight_decay=1e-4, **fields)
    with META:
        student = build_model("resnet8", num_classes=CLASSES)
        live = build_model("resnet8", num_classes=CLASSES).requires_grad_(False) if teacher == "live" else None
        images = ArrayImages(torch.zeros(8, 3, 32, 32, dtype=torch.uint8), torch.zeros(8, dtype=torch.int64))
    setup = MethodSetup(student_channels=64, teacher_channels=64, labels_N=np.arange(8) % 4, seed=0)
    step = TrainStep(student, method.build(setup).to(META), training)
    config: Any = SimpleNamespace(training=training, method=method, seed=0)
    split: Any = SimpleNamespace(mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2))
    epochs = DeviceEpochs(step, EpochInputs(config, split, images, Execution(device=META), live))
    if teacher == "cache":
        epochs.cache = cache_of(cast("CellDistillation", method))
    return epochs


def cache_of(method: CellDistillation) -> DeviceCache:
    """Make the cache's mirrors, without the cache."""
    cache = object.__new__(DeviceCache)
    keys = {(4, False) if 4 % scale == 0 else (scale, True) for scale in method.scales}
    specs = [
        BlockSpec(
            teacher="t",
            data="d",
            views="v",
            num_images=8,
            num_views=2,
            num_classes=CLASSES,
            side=side,
            from_map=from_map,
            own_logits=False,
        )
        for side, from_map in sorted(keys)
    ]
    blocks = [SimpleNamespace(spec=spec) for spec in specs]
    cache.cache = cast("Any", SimpleNamespace(blocks=blocks))
    cache.mirrors = [Mirror(spec, spec.num_slots, META) for spec in specs]
    return cache


def run(epochs: DeviceEpochs) -> None:
    """Do two steps as recorded; the first may make constants, as a step before the recording does."""
    with WithFusedUpdate():  # type: ignore[no-untyped-call]  # of torch
        epochs._step_at_counter()
        with no_host():
            epochs._step_at_counter()


BASES: Mapping[str, BaseLoss] = {
    "kd": KnowledgeDistillation(),
    "dkd": DecoupledKD(),
    "nkd": NormalizedKD(),
    "nkd-corrected": NormalizedKD(keep_target=False),
    "ldrld": LocalRelations(k=3),
    "ldrld-all": LocalRelations(k=CLASSES),
}


@pytest.mark.parametrize(("scales", "warmup"), [((1,), 0.0), ((1, 4), 2.0), ((2, 3), 2.0)], ids=str)
@pytest.mark.parametrize("base", BASES)
def test_no_base_loss_waits(base: str, scales: Sequence[int], warmup: float) -> None:
    weights = tuple(float(scale) for scale in scales)
    method = CellDistillation(
        base_loss=BASES[base],
        scales=tuple(scales),
        warmup_epochs=warmup,
        cluster_weight=1.0,
        base_scale_weights=weights if warmup else None,
    )
    run(epochs_of(method, teacher="cache"))


@pytest.mark.parametrize("gram", ["cells", "classes", "samples"])
@pytest.mark.parametrize(("verdict", "teacher"), [("cell", "cache"), ("logits", "cache"), ("cell", "live")])
def test_no_cluster_term_waits(gram: Any, verdict: Any, teacher: str) -> None:
    method = CellDistillation(cluster_weight=1.0, gram=gram, global_verdict=verdict, cluster_temperature_squared=True)
    run(epochs_of(method, teacher=teacher))


@pytest.mark.parametrize(
    "changes",
    [
        {"clip_norm": None, "momentum": 0.0, "channels_last": False},
        {"optimizer": "adamw", "ema_decay": 0.9, "label_smoothing": 0.1},
    ],
    ids=("sgd", "adamw"),
)
def test_no_optimizer_waits(changes: dict[str, Any]) -> None:
    run(epochs_of(CellDistillation(), teacher="cache", nesterov=False, **changes))


@pytest.mark.parametrize(
    "views", [CropFlip(size=32, pad=4), RotateFlip(size=32, steps=3), CropFlip(size=28, resize=32)]
)
def test_no_view_waits(views: Any) -> None:
    run(epochs_of(CrossEntropy(), teacher="none", augmentation=views))


def test_similarity_does_not_wait() -> None:
    run(epochs_of(SimilarityPreserving(), teacher="live"))


@pytest.mark.parametrize("mode", ["exact", "relaxed"])
def test_contrasts_do_not_wait(mode: Any) -> None:
    run(epochs_of(ContrastiveRepresentation(num_negatives=5, mode=mode), teacher="live"))


x = torch.empty(4, 3, device="meta")


@pytest.mark.parametrize(
    "waits",
    [
        lambda: x.sum().item(),
        lambda: x.tolist(),
        lambda: bool((x > 0).any()),
        lambda: x.cpu(),
        lambda: x[x > 0],
        lambda: x.masked_select(x > 0),
        lambda: (x > 0).nonzero(),
        lambda: x[:, [0, 1]],
        lambda: x.clone().__setitem__(x > 0, torch.ones((), device="meta")),
        lambda: torch.tensor([1.0], device="meta"),
        lambda: x * torch.ones(()),
        lambda: torch.ones(3).to("meta"),
        lambda: torch.from_numpy(np.ones(3)).to("meta"),
    ],
)
def test_what_waits_is_found(waits: Callable[[], object]) -> None:
    with no_host(), pytest.raises((AssertionError, RuntimeError, NotImplementedError)):
        waits()
