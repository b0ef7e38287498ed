"""The training loop: one for teachers and students, read from top to bottom.

Everything random is counted, not remembered: the order of images, their views and CRD's contrasts are pure functions
of (seed, epoch, image), so a run that was killed and resumed is the run that was not, bit for bit on a CPU.
"""

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from icd.config.trial import TrialConfig
from icd.data import views
from icd.data.loader import Batch, batches
from icd.data.split import ImageSet, Split
from icd.errors import CheckpointError, ConfigError, NonFiniteLossError
from icd.methods import LiveSide, MethodSetup, Side, Step
from icd.models import Network, build_model
from icd.trial import checkpoint
from icd.trial.evaluate import evaluate
from icd.trial.kernels import reproducible
from icd.trial.teacher_table import TeacherTable

logger = logging.getLogger(__name__)

CPU = torch.device("cpu")
_EVAL_BATCH = 256
# On an accelerator every look at a loss waits for the device; a non-finite one is found within this many steps.
_STEPS_BETWEEN_LOOKS = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochMetrics:
    """What a trial says at the end of a reporting epoch; its checkpoint, if any, is durable by then."""

    epoch: int
    values: Mapping[str, float]
    checkpoint_digest: str | None = None


Report = Callable[[EpochMetrics], None]
Progress = Callable[[int, int, int], None]  # epoch, step, steps in the epoch


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """Where and how a trial runs; nothing here may change its result beyond rounding.

    Attributes:
        device: ``cpu`` or ``cuda``.
        num_workers: Processes that decode images, for data sets read from files.
        table: Answers for the teacher; None runs it in every step.
        checkpoints: Folder for checkpoints; None writes none and resumes nothing.
        report: Called at the end of every reporting epoch.
        progress: Called after every step.
        stop: Asked after every epoch; True saves a checkpoint and ends the training there.
    """

    device: torch.device = CPU
    num_workers: int = 0
    table: TeacherTable | None = None
    checkpoints: Path | None = None
    report: Report = lambda metrics: None
    progress: Progress = lambda epoch, step, steps: None
    stop: Callable[[], bool] = lambda: False


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """A network after its last epoch."""

    network: Network
    epoch: int
    finished: bool
    metrics: Mapping[str, float]


def train(config: TrialConfig, split: Split, teacher: Network | None, execution: Execution) -> Trained:
    """Train the student of a configuration; a teacher is trained the same way, with cross entropy alone.

    Args:
        config: What to train; equal configurations give equal results.
        split: Images; the test set stays closed.
        teacher: The frozen teacher, for methods that need one.
        execution: Device, checkpoints and callbacks.

    Raises:
        NonFiniteLossError: With the term, epoch and step at which training broke.
        CheckpointError: If the checkpoints found belong to another configuration, or none is whole.
    """
    protocol, device = config.protocol, execution.device
    with reproducible(device):
        student = build_model(
            config.student.arch,
            num_classes=split.num_classes,
            stem=config.student.stem,
            pretrained=config.student.pretrained,
            seed=config.seed,
        )
        student = placed(student, config, device)
        teacher = placed(teacher, config, device).eval().requires_grad_(False) if teacher is not None else None
        method = config.method.build(_method_setup(config, split, student, teacher)).to(device)
        weights = [*student.parameters(), *method.parameters()]
        optimizer = torch.optim.SGD(
            weights,
            lr=protocol.lr,
            momentum=protocol.momentum,
            nesterov=protocol.nesterov,
            weight_decay=protocol.weight_decay,
        )
        start, metrics = _resume(config, execution, student, method, optimizer)
        images = split.train.to(device)
        num_steps = _num_steps(config, len(images))

        for epoch in range(start + 1, protocol.epochs + 1):
            started = time.perf_counter()
            student.train()
            method.train()
            losses = LossLog(epoch, look_every=1 if device.type == "cpu" else _STEPS_BETWEEN_LOOKS)
            teacher_images = 0
            shares: dict[str, float] = {}

            for step, batch in enumerate(train_batches(config, split, images, epoch, execution)):
                lr = protocol.learning_rate(epoch, step / num_steps)
                for group in optimizer.param_groups:
                    group["lr"] = lr
                teacher_side, computed = teacher_answer(teacher, execution.table, batch, epoch, protocol.precision)
                teacher_images += computed
                with precision(protocol.precision, device):
                    student_side = LiveSide(student(batch.images_BCHW), student.head)
                    where = Step(batch.labels_B, batch.indices_B, epoch, step)
                    terms = method(student_side, teacher_side, where)
                losses.add(terms)
                if step == 0 and _reports(config, epoch):
                    shares = gradient_shares(terms, weights)
                optimizer.zero_grad(set_to_none=True)
                torch.stack(list(terms.values())).sum().backward()  # type: ignore[no-untyped-call]
                if protocol.clip_norm is not None:
                    torch.nn.utils.clip_grad_norm_(weights, protocol.clip_norm)
                optimizer.step()
                execution.progress(epoch, step + 1, num_steps)

            means, trained_s = losses.means(), time.perf_counter() - started
            reporting, stopping = _reports(config, epoch), epoch < protocol.epochs and execution.stop()
            if reporting:
                student.eval()
                validation = evaluate(student, evaluation_batches(config, split, split.val, execution))
                if not math.isfinite(validation["loss"]):
                    raise NonFiniteLossError("val/loss", epoch, num_steps - 1, validation["loss"])
                metrics = {
                    "train/loss": sum(means.values()),
                    **{f"train/loss/{name}": value for name, value in means.items()},
                    **{f"train/gradient_share/{name}": value for name, value in shares.items()},
                    **{f"val/{name}": value for name, value in validation.items()},
                    "teacher/images": float(teacher_images),
                    "lr": lr,
                    "time": time.time(),  # stays with the epoch's numbers wherever they are copied
                    **_costs(device, trained_s, time.perf_counter() - started),
                }
            # Durable first, then said: whoever hears of an epoch can rely on its checkpoint.
            digest = None
            if reporting or stopping:
                payload = _payload(config, student, method, optimizer, metrics, reported=reporting)
                digest = _save(execution, epoch, payload)
            if reporting:
                execution.report(EpochMetrics(epoch=epoch, values=metrics, checkpoint_digest=digest))
            if stopping:
                return Trained(network=student, epoch=epoch, finished=False, metrics=metrics)
        return Trained(network=student, epoch=protocol.epochs, finished=True, metrics=metrics)


def teacher_answer(
    teacher: Network | None, table: TeacherTable | None, batch: Batch, epoch: int, how_precise: str
) -> tuple[Side | None, int]:
    """Give the teacher's side of a batch, and on how many images it had to be run for that."""
    if teacher is None:
        return None, 0
    if table is not None:
        before = table.computed
        return table.side(batch, epoch), table.computed - before
    with torch.no_grad(), precision(how_precise, batch.images_BCHW.device):
        return LiveSide(teacher(batch.images_BCHW), teacher.head), len(batch.labels_B)


class LossLog:
    """Every term of every step of an epoch; finds the first non-finite one."""

    def __init__(self, epoch: int, look_every: int) -> None:
        self.epoch, self.look_every = epoch, look_every
        self.names: tuple[str, ...] = ()
        self.unseen: list[Tensor] = []
        self.seen: list[Tensor] = []
        self.num_seen = 0

    def add(self, terms: Mapping[str, Tensor]) -> None:
        """Note one step's terms; raises once a term is NaN or infinite."""
        self.names = tuple(terms)
        self.unseen.append(torch.stack([term.detach().float() for term in terms.values()]))
        if len(self.unseen) >= self.look_every:
            self._look()

    def means(self) -> dict[str, float]:
        """Give each term's mean over the epoch, in float64."""
        self._look()
        return dict(zip(self.names, torch.cat(self.seen).double().mean(dim=0).tolist(), strict=True))

    def _look(self) -> None:
        if not self.unseen:
            return
        values = torch.stack(self.unseen).cpu()
        for step, term in (~values.isfinite()).nonzero()[:1].tolist():
            raise NonFiniteLossError(self.names[term], self.epoch, self.num_seen + step, values[step, term].item())
        self.seen.append(values)
        self.num_seen += len(values)
        self.unseen = []


def gradient_shares(terms: Mapping[str, Tensor], weights: list[nn.Parameter]) -> dict[str, float]:
    """Share of each weighted term in the sum of the terms' gradient norms; a term near 0 cannot matter."""
    norms = {}
    for name, term in terms.items():
        if not term.requires_grad:
            norms[name] = 0.0
            continue
        gradients = torch.autograd.grad(term, weights, retain_graph=True, allow_unused=True)
        norms[name] = (
            torch.stack([grad.detach().float().norm() for grad in gradients if grad is not None]).norm().item()
        )
    total = sum(norms.values())
    return {name: norm / total if total > 0 else 0.0 for name, norm in norms.items()}


def train_batches(
    config: TrialConfig, split: Split, images: ImageSet, epoch: int, execution: Execution
) -> Iterator[Batch]:
    """Batches of an epoch: counted order, counted views."""
    protocol = config.protocol
    indices_N = views.order(config.seed, epoch, len(images))
    return batches(
        images,
        indices=indices_N,
        view_ids=views.draw(config.seed, epoch, indices_N, protocol.views.num_views),
        views=protocol.views,
        batch_size=protocol.batch_size,
        mean=split.mean,
        std=split.std,
        device=execution.device,
        channels_last=protocol.channels_last,
        num_workers=execution.num_workers,
        drop_last=protocol.drop_last,
    )


def evaluation_batches(config: TrialConfig, split: Split, images: ImageSet, execution: Execution) -> Iterator[Batch]:
    """Batches of the test-time view of some images, in their own order."""
    return batches(
        images,
        indices=torch.arange(len(images)).numpy(),
        view_ids=None,
        views=config.protocol.views,
        batch_size=_EVAL_BATCH,
        mean=split.mean,
        std=split.std,
        device=execution.device,
        channels_last=config.protocol.channels_last,
        num_workers=execution.num_workers,
    )


def placed(network: Network, config: TrialConfig, device: torch.device) -> Network:
    """Bring a network to its device; one that is there is not touched, because other threads may be running it."""
    layout = torch.channels_last if config.protocol.channels_last else torch.contiguous_format
    if all(tensor.device.type == device.type and _lies(tensor, layout) for tensor in network.state_dict().values()):
        return network
    return network.to(device=device, memory_format=layout)  # type: ignore[call-overload, no-any-return]


def _lies(tensor: Tensor, layout: torch.memory_format) -> bool:
    return tensor.dim() != 4 or tensor.is_contiguous(memory_format=layout)


def _method_setup(config: TrialConfig, split: Split, student: Network, teacher: Network | None) -> MethodSetup:
    return MethodSetup(
        student_channels=student.head.in_features,
        teacher_channels=teacher.head.in_features if teacher is not None else 0,
        labels_N=split.train.labels_N.cpu().numpy(),
        seed=config.seed,
    )


def _resume(
    config: TrialConfig, execution: Execution, student: Network, method: nn.Module, optimizer: torch.optim.Optimizer
) -> tuple[int, dict[str, float]]:
    """Continue from the newest whole checkpoint, if there is one; returns its epoch and metrics."""
    found = checkpoint.newest(execution.checkpoints) if execution.checkpoints is not None else None
    if found is None:
        return 0, {}
    if found.payload["key"] != config.key():
        raise CheckpointError(f"{found.path} belongs to another configuration (key {found.payload['key'][:12]})")
    student.load_state_dict(found.payload["student"])
    method.load_state_dict(found.payload["method"])
    optimizer.load_state_dict(found.payload["optimizer"])
    logger.info("continuing after epoch %d (%s)", found.epoch, found.path.name)
    return found.epoch, dict(found.payload["metrics"])


def _payload(
    config: TrialConfig,
    student: Network,
    method: nn.Module,
    optimizer: torch.optim.Optimizer,
    metrics: Mapping[str, float],
    *,
    reported: bool,
) -> dict[str, Any]:
    return {
        "key": config.key(),
        "student": student.state_dict(),
        "method": method.state_dict(),
        "optimizer": optimizer.state_dict(),
        "metrics": dict(metrics),
        "reported": reported,  # whether the metrics are this epoch's
    }


def _save(execution: Execution, epoch: int, payload: Mapping[str, Any]) -> str | None:
    return None if execution.checkpoints is None else checkpoint.save_epoch(execution.checkpoints, epoch, payload)


def _num_steps(config: TrialConfig, num_images: int) -> int:
    batch_size = config.protocol.batch_size
    steps = num_images // batch_size if config.protocol.drop_last else math.ceil(num_images / batch_size)
    if not steps:
        raise ConfigError(
            f"protocol.batch_size <= number of training images ({num_images}) must hold with drop_last, "
            f"but got {batch_size}"
        )
    return steps


def _reports(config: TrialConfig, epoch: int) -> bool:
    return epoch % config.protocol.report_every == 0 or epoch == config.protocol.epochs


def _costs(device: torch.device, train_s: float, epoch_s: float) -> dict[str, float]:
    costs = {"seconds/train": train_s, "seconds/epoch": epoch_s}
    if device.type == "cuda":
        costs["gpu/memory_gb"] = torch.cuda.max_memory_allocated(device) / 1e9
    return costs


@contextmanager
def precision(name: str, device: torch.device) -> Iterator[None]:
    """Run what is inside in ``fp32``, or in ``bf16`` where that is safe."""
    # Without its cache of converted weights: all threads share that one, and whoever leaves first empties it.
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=name == "bf16", cache_enabled=False):
        yield
