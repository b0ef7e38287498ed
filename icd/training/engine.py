"""Epochs that live on the device: a step is recorded once as a CUDA graph and replayed with nothing said by the host.

At CIFAR scale a step is hundreds of kernels that take less time than their launches. Before an epoch everything its
steps need goes to the device: images, views, rows of the teacher's cache, learning rates. A step finds its part by a
counter that it advances itself, so that every replay is the same work. On a CPU the same step is called instead of
replayed, which is how its results are tested.

Shape key:
    T: full steps of an epoch    B: batch    N: images shown in an epoch    b: images of a last, smaller step
    L: terms of the loss    3: image, view, row of the teacher's cache
"""

import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import numpy as np
import torch
from torch import Tensor

from icd.config.trial import TrialConfig
from icd.data.images import ArrayImages, ImageSet
from icd.data.loader import Batch, Numbers
from icd.data.views import RandAugment
from icd.methods import (
    CellDistillation,
    ContrastiveRepresentation,
    CrossEntropy,
    SimilarityPreserving,
    Step,
)
from icd.training.draws import seed_step
from icd.training.epoch_inputs import EpochInputs
from icd.training.optimizer import learning_rates, lr_scalar
from icd.training.step import TrainStep

logger = logging.getLogger(__name__)

# Methods whose step is the same work every time. On a CPU, CRD draws its contrasts with a generator of the host.
_SUITED = (CrossEntropy, CellDistillation, SimilarityPreserving)
# Real steps before the recording: they load kernels, choose algorithms and make the momenta.
WARM_STEPS = 3
# The recorded step may choose other kernels, which round otherwise; anything more is another step.
_DRIFT = 0.01
_STILL = 1e-4  # of the largest movement: a bias before a batch norm moves by rounding alone

# Why no step is recorded in this process any more. A capture that failed leaves CUDA's allocator and the memory of the
# graph in a state that nobody can trust, so such a process ends after the trials that it has.
_failed: list[str] = []
_streams: dict[torch.device, torch.cuda.Stream] = {}


def spent() -> str:
    """Say why this process should end after its trials, if it should."""
    return f"a CUDA graph could not be recorded: {_failed[0]}" if _failed else ""


def unsuited(config: TrialConfig, images: ImageSet) -> str | None:
    """Say why a trial's epochs cannot live on the device, if so."""
    if not isinstance(images, ArrayImages):
        return "its images are read from files"
    if isinstance(config.training.augmentation, RandAugment):
        return "rand_augment works on the host"
    on_device = isinstance(config.method, ContrastiveRepresentation) and images.images_NCHW.device.type != "cpu"
    suited = on_device or isinstance(config.method, _SUITED)
    return None if suited else f"{config.method.title} works on the host in every step"


class DeviceEpochs:
    """Runs the steps of a trial's epochs on the device of its images.

    Buffers keep their addresses from epoch to epoch, because the graph was recorded with them.

    Args:
        step: The step.
        inputs: Of a suited trial.

    Attributes:
        graph: The recorded step, once there is one.
        why_not: Why there is none, if that is known.
        data_seconds: How long steps waited for images: never, because they lie on the device.
    """

    def __init__(self, step: TrainStep, inputs: EpochInputs) -> None:
        assert isinstance(inputs.images, ArrayImages)
        self.step, self.inputs, self.config, self.images = step, inputs, inputs.config, inputs.images
        training, device = inputs.config.training, inputs.execution.device
        self.device, self.num_shown, self.num_steps = device, inputs.num_shown, inputs.num_steps
        self.normaliser = inputs.normaliser()
        self.num_full, rest = divmod(self.num_shown, training.batch_size)
        self.cache = None if inputs.cache is None else inputs.cache.on_device(device, self.num_shown)
        self.data_seconds = 0.0

        self._indices_T3B = torch.zeros(self.num_full, 3, training.batch_size, dtype=torch.int64, device=device)
        self._rest_3b = torch.zeros(3, rest, dtype=torch.int64, device=device)
        self._rates = torch.zeros(self.num_steps, dtype=lr_scalar(step.optimizer).dtype, device=device)
        self._epoch = torch.zeros((), dtype=torch.float64, device=device)
        self._counter = torch.zeros(1, dtype=torch.int64, device=device)
        self._log: Tensor | None = None  # [steps, L]
        self.graph: torch.cuda.CUDAGraph | None = None
        self.why_not = "" if device.type == "cuda" else f"a graph needs CUDA, and this is a {device.type}"
        self._warm = 0

    @property
    def name(self) -> str:
        """What ran the steps, for the trial's result."""
        why_not = self.why_not or (f"a graph is recorded after {WARM_STEPS} steps" if self._log is not None else "")
        eager = f"eager: {why_not}" if why_not else "unknown: every step was done before a resume"
        return eager if self.graph is None else "graph"

    def steps(self, epoch: int) -> Iterator[Tensor]:
        """Do the steps of an epoch, counted from 1, yielding each one's terms [L], which the next epoch overwrites."""
        self._prepare(epoch)
        for step in range(self.num_steps):
            recorded = step < self.num_full and self._recorded()
            seed_step(self.device, self.config.seed, epoch, step)
            if step == self.num_full:
                self._run_step(self._rest_3b)
            elif recorded:
                assert self.graph is not None
                self.graph.replay()
            else:
                self._step_at_counter()
                self._warm += 1
            assert self._log is not None
            yield self._log[step]

    def _prepare(self, epoch: int) -> None:
        """Send what the epoch's steps need."""
        training, (indices_N, view_ids_N) = self.config.training, self.inputs.order(epoch)
        rows_N = np.zeros_like(indices_N)
        if self.cache is not None:
            rows_N = self.cache.upload(epoch, indices_N, view_ids_N, partial(self._show, epoch))
            if epoch < training.epochs:
                self.cache.read_ahead(epoch + 1, *self.inputs.order(epoch + 1))
        indices_3N = torch.from_numpy(np.stack([indices_N, view_ids_N, rows_N]))
        end = self.num_full * training.batch_size
        full_3TB = indices_3N[:, :end].reshape(3, self.num_full, training.batch_size)
        self._indices_T3B.copy_(full_3TB.transpose(0, 1))
        if end < self.num_shown:
            self._rest_3b.copy_(indices_3N[:, end:])
        self._rates.copy_(torch.tensor(learning_rates(training, epoch, self.num_steps), dtype=torch.float64))
        self._epoch.fill_(epoch)
        self._counter.zero_()

    def _step_at_counter(self) -> None:
        """Do the step that the counter names; this is what is recorded."""
        self._run_step(self._indices_T3B.index_select(0, self._counter).squeeze(0))

    def _run_step(self, indices_3B: Tensor) -> None:
        indices_B, view_ids_B, rows_B = indices_3B.unbind(0)
        raw_BCHW = self.images.images_NCHW.index_select(0, indices_B)
        images_BCHW = self.normaliser(self.config.training.augmentation.apply(raw_BCHW, view_ids_B))
        batch = Batch(images_BCHW, self.images.labels_N.index_select(0, indices_B), indices_B)
        moment = Step(batch.labels_B, indices_B, self._epoch, self._counter.squeeze(0))
        lr = self._rates.index_select(0, self._counter).squeeze(0)
        teacher = self.cache.outputs(rows_B) if self.cache is not None else self.inputs.live_outputs(batch)
        values_L = self.step(batch, teacher, moment, lr)
        if self._log is None:
            self._log = values_L.new_zeros(self.num_steps, len(values_L))
        self._log.index_copy_(0, self._counter, values_L.unsqueeze(0))
        self._counter.add_(1)

    def _recorded(self) -> bool:
        """Whether there is a graph; records it once the step is warm. Recording runs nothing."""
        if _failed and not self.why_not:
            self.why_not = f"a recording in this process failed before: {_failed[0]}"
        if self.graph is not None or self.why_not or self._warm < WARM_STEPS:
            return self.graph is not None
        graph, stream = torch.cuda.CUDAGraph(), torch.cuda.current_stream(self.device)
        try:
            # The thread that writes checkpoints goes on meanwhile; only this one must not wait.
            with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
                self._step_at_counter()
        except RuntimeError as error:  # the steps are the same without a graph, only slower
            _failed.append(str(error).partition("\n")[0])
            if isinstance(error, torch.OutOfMemoryError):
                raise
            self.why_not = f"a step could not be recorded: {_failed[-1]}"
            logger.warning("a step could not be recorded as a CUDA graph and runs without: %s", error)
            return False
        drift = self._drift(graph)
        if not drift <= _DRIFT:  # a NaN strays too
            self.why_not = f"a recorded step strays by {drift:.2g} from the step itself"
            logger.warning("a step recorded as a CUDA graph strays by %.2g from the step itself; runs without", drift)
            return False
        self.graph = graph
        return True

    def _drift(self, graph: torch.cuda.CUDAGraph) -> float:
        """Compare a recording with the step itself, at this moment and at another one; the larger distance counts.

        At the moment of the recording alone, one that shows the same images at the same rate for ever would be right.

        A network's own draws (dropout) are compared as well, each time from another seed. CUDA's generator hands a
        replay the seed that it has by then, as torch documents; that kernels recorded and unrecorded draw the same
        numbers from one seed was never measured here. Where they do not, the distance is large and steps run without.
        """
        here = self._distance(graph, 0)
        with self._elsewhere():
            return max(here, self._distance(graph, 1), key=lambda drift: (math.isnan(drift), drift))

    @contextmanager
    def _elsewhere(self) -> Iterator[None]:
        """Let it be another step of a later epoch: half of its images, each twice, at another rate."""
        inputs = [self._indices_T3B, self._rates, self._epoch, self._counter]
        before = [tensor.clone() for tensor in inputs]
        half = self._indices_T3B.shape[2] // 2
        self._indices_T3B[..., :half].copy_(before[0][..., self._indices_T3B.shape[2] - half :])
        self._rates.mul_(0.5).add_(0.25 * self.config.training.lr)
        self._epoch.add_(1)
        self._counter.copy_((before[3] + 1) % self.num_full)
        try:
            yield
        finally:
            for tensor, old in zip(inputs, before, strict=True):
                tensor.copy_(old)

    def _distance(self, graph: torch.cuda.CUDAGraph, draw: int) -> float:
        """Do one step recorded and unrecorded from one state: how far apart they end, over how far they went.

        The largest ratio of any tensor counts; one that hardly moves is measured by what others do. The terms of the
        loss are compared too. The state is put back.
        """
        assert self._log is not None
        trained = [tensor.detach() for tensor in self.step.changing()]
        state = [*trained, self._counter, self._log]
        before = [tensor.clone() for tensor in state]
        ends, logs = [], []
        for step in (graph.replay, self._step_at_counter):
            self._log.zero_()
            seed_step(self.device, self.config.seed, 0, draw)  # epochs count from 1
            step()
            ends.append([tensor.clone() for tensor in trained])
            logs.append(self._log.clone())
            for tensor, old in zip(state, before, strict=True):
                tensor.copy_(old)
        apart, went = _distances(ends[0], ends[1]), _distances(before[: len(trained)], ends[1])
        terms = _distances(logs[:1], logs[1:]) / _distances([torch.zeros_like(logs[1])], logs[1:])
        return max(float((apart / went.clamp_min(_STILL * float(went.max()))).max()), float(terms))

    def _show(self, epoch: int, indices_n: Numbers, view_ids_n: Numbers, batch_size: int) -> Iterator[Batch]:
        """Show images for the teacher."""
        for batch in self.inputs.show(indices_n, view_ids_n, batch_size):
            yield batch
            self.inputs.execution.progress(epoch, 0, self.num_steps)


def _distances(one: Sequence[Tensor], other: Sequence[Tensor]) -> Tensor:
    return torch.stack([(a.double() - b.double()).norm() for a, b in zip(one, other, strict=True)])


@contextmanager
def own_stream(device: torch.device) -> Iterator[None]:
    """Work on a CUDA stream of the trials of this process; nothing can be recorded on the default one.

    A caller's own stream is kept.
    """
    if device.type != "cuda" or torch.cuda.current_stream(device) != torch.cuda.default_stream(device):
        yield
        return
    if device not in _streams:
        _streams[device] = torch.cuda.Stream(device)
    stream = _streams[device]
    stream.wait_stream(torch.cuda.default_stream(device))
    try:
        with torch.cuda.stream(stream):
            yield
    finally:
        torch.cuda.default_stream(device).wait_stream(stream)
