"""One training step, whoever drives it: forward, losses, backward, clipping, update; and the log of its terms.

A step asks nothing of the host: what changes from step to step (learning rate, epoch) may be a tensor on the device, so
that one recording of it serves every step (icd/training/engine.py).

Shape key:
    L: terms of the loss
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from icd.config.training import TrainingConfig
from icd.data.loader import Batch
from icd.errors import ConfigError, NonFiniteLossError, Problem
from icd.methods import LiveOutputs, NetworkOutputs, Step
from icd.models import Network, Output
from icd.training.background_writer import snapshot
from icd.training.kernels import products
from icd.training.optimizer import lr_scalar, make_optimizer, momenta
from icd.training.weight_average import WeightAverage


class TrainStep:
    """Student, method and optimizer of a trial; calling it trains them on one batch.

    Attributes:
        names: The loss's terms, known after the first step.
        average: Moving average of the student, where the training asks for one.
    """

    def __init__(self, student: Network, method: nn.Module, training: TrainingConfig) -> None:
        self.student, self.method, self.training = student, method, training
        self.weights = [*student.parameters(), *method.parameters()]
        self.names: tuple[str, ...] = ()
        self.optimizer = make_optimizer(self.weights, training)
        self.average = None if training.ema_decay is None else WeightAverage(student, training.ema_decay)

    @property
    def result(self) -> Network:
        """The network that is evaluated and kept: the average of the student, else the student."""
        return self.student if self.average is None else self.average.network

    def __call__(self, batch: Batch, teacher: NetworkOutputs | None, moment: Step, lr: float | Tensor) -> Tensor:
        """Train on a batch.

        Args:
            batch: What the student sees.
            teacher: What the teacher says about it.
            moment: Labels, indices, epoch and step.
            lr: Learning rate, a number or a scalar on the device.

        Returns:
            The terms, float32 [L].
        """
        lr_scalar(self.optimizer).fill_(lr)
        terms = self._terms(self.student, self.method, batch, teacher, moment)
        self.names = tuple(terms)
        self.optimizer.zero_grad()
        values_L = torch.stack(list(terms.values()))
        if values_L.dim() != 1:
            shape = list(values_L.shape[1:])
            raise ConfigError(Problem(path="method", rule="must give scalar terms", value=shape))
        values_L.sum().backward()
        if self.training.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(self.weights, self.training.clip_norm)
        self.optimizer.step()
        if self.average is not None:
            self.average.update()
        return values_L.detach().float()

    def terms_without_side_effects(
        self, batch: Batch, teacher: NetworkOutputs | None, moment: Step
    ) -> dict[str, Tensor]:
        """Compute a batch's terms as a step would, leaving no trace: running means and memories change in copies."""
        return self._terms(partial(aside, self.student), partial(aside, self.method), batch, teacher, moment)

    def _terms(
        self,
        student: Callable[..., Output],
        method: Callable[..., dict[str, Tensor]],
        batch: Batch,
        teacher: NetworkOutputs | None,
        moment: Step,
    ) -> dict[str, Tensor]:
        moment, device = moment._replace(label_smoothing=self.training.label_smoothing), batch.images_BCHW.device
        with precision(self.training.precision, device):
            side = LiveOutputs(*student(batch.images_BCHW), self.student.head)
            with products(device, tf32=False):  # cells are made here, the teacher's too
                return method(side, teacher, moment)

    def changing(self) -> list[Tensor]:
        """List what a step changes in place: weights, buffers, the optimizer's state and the average."""
        buffers = [*self.student.buffers(), *self.method.buffers()]
        averaged = [] if self.average is None else list(self.average.state_dict().values())
        return [*self.weights, *buffers, *momenta(self.optimizer), *averaged]

    def state(self) -> dict[str, Any]:
        """Copy what a checkpoint keeps, to the CPU: later steps change the originals."""
        return {
            "student": snapshot(self.student.state_dict()),
            "method": snapshot(self.method.state_dict()),
            # By the number of each weight; settings are the configuration's.
            "optimizer": {"state": snapshot(self.optimizer.state_dict()["state"])},
            "average": None if self.average is None else snapshot(self.average.state_dict()),
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Take over what ``state`` gave, here or on another device."""
        self.student.load_state_dict(state["student"])
        self.method.load_state_dict(state["method"])
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), **state["optimizer"]})
        if self.average is not None:
            self.average.load_state_dict(state["average"])


class LossLog:
    """Every term of every step of an epoch; finds the first non-finite one."""

    def __init__(self, epoch: int, look_every: int) -> None:
        self.epoch, self.look_every = epoch, look_every
        self.names: tuple[str, ...] = ()
        self.unseen: list[Tensor] = []
        self.seen: list[Tensor] = []

    def add(self, names: tuple[str, ...], values_L: Tensor) -> None:
        """Note one step's terms; raises once a term is NaN or infinite."""
        self.names = names
        self.unseen.append(values_L)
        if len(self.unseen) >= self.look_every:
            self._look()

    def totals(self, most: int) -> list[float]:
        """Give the sum of all terms in each of the first steps, in float64."""
        self._look()
        return torch.cat(self.seen)[:most].double().sum(dim=1).tolist()

    def means(self) -> dict[str, float]:
        """Give each term's mean over the epoch, in float64."""
        self._look()
        return dict(zip(self.names, torch.cat(self.seen).double().mean(dim=0).tolist(), strict=True))

    def _look(self) -> None:
        if not self.unseen:
            return
        values = torch.stack(self.unseen).cpu()
        for step, term in (~values.isfinite()).nonzero()[:1].tolist():
            before = sum(map(len, self.seen))
            raise NonFiniteLossError(self.names[term], self.epoch, before + step, values[step, term].item())
        self.seen.append(values)
        self.unseen = []


def aside(module: nn.Module, *inputs: Any) -> Any:
    """Call a module on copies of its buffers; its own keep their values and, for recorded steps, their addresses."""
    return functional_call(module, {name: buffer.clone() for name, buffer in module.named_buffers()}, inputs)


def precision(name: str, device: torch.device) -> torch.autocast:
    """Run what is inside in ``bf16`` where that is safe, if that is the precision's name."""
    # Without its cache of converted weights: all threads share that one, and whoever leaves first empties it.
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=name == "bf16", cache_enabled=False)


def live_outputs(teacher: Network, batch: Batch) -> NetworkOutputs:
    """Run the teacher on a batch, in fp32 whatever the student's precision: a verdict is an arg-max of its logits."""
    with torch.no_grad(), products(batch.images_BCHW.device, tf32=False):
        return LiveOutputs(*teacher(batch.images_BCHW), teacher.head, exact=True)
