"""Notes the losses of a training's first steps, through any number of resumptions."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from icd.config.trial import Fingerprint, TeacherMode, TrialConfig, plain_data
from icd.training.hardware import device_name, versions

NUM_STEPS = 50


class FirstLosses:
    """Fills a fingerprint from epoch to epoch; ``state`` goes into every checkpoint.

    Args:
        config: Of the training, digests included.
        device: It begins on.
        teacher: How the teacher is answered for.
    """

    def __init__(self, config: TrialConfig, device: torch.device, teacher: TeacherMode) -> None:
        self.fingerprint: Fingerprint | None = Fingerprint(
            key=config.key(),
            device=device_name(device),
            precision=str(config.training.precision),
            teacher=teacher,
            versions=versions(),
            losses=(),
        )

    def add(self, losses: Sequence[float]) -> None:
        """Take the losses of the next steps."""
        if self.fingerprint is not None:
            known = (*self.fingerprint.losses, *losses)[:NUM_STEPS]
            self.fingerprint = replace(self.fingerprint, losses=known)

    @property
    def full(self) -> bool:
        """Whether further steps change nothing."""
        return self.fingerprint is None or len(self.fingerprint.losses) == NUM_STEPS

    def state(self) -> dict[str, Any] | None:
        """Give what a checkpoint keeps."""
        return None if self.fingerprint is None else plain_data(self.fingerprint)

    def load(self, state: Mapping[str, Any] | None) -> None:
        """Go on from a checkpoint; one that holds nothing is of a training whose beginning nobody noted."""
        self.fingerprint = None if state is None else Fingerprint(**{**state, "losses": tuple(state["losses"])})
