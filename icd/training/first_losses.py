"""Notes the losses of a training's first steps, through any number of resumptions."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from icd.config.trial import Fingerprint, TeacherMode, TrialConfig
from icd.training.hardware import device_name, versions
from icd.training.step import LossLog

NUM_STEPS = 50


def beginning(config: TrialConfig, device: torch.device, teacher: TeacherMode) -> Fingerprint:
    """Give the fingerprint of a training before its first step.

    Args:
        config: Of the training, digests included.
        device: It begins on.
        teacher: How the teacher is answered for.
    """
    return Fingerprint(
        key=config.key(),
        device=device_name(device),
        precision=str(config.training.precision),
        teacher=teacher,
        versions=versions(),
        losses=(),
    )


def noted(first: Fingerprint | None, log: LossLog) -> Fingerprint | None:
    """Add the losses of an epoch where steps are lacking; None is of a training whose beginning nobody noted."""
    if first is None or len(first.losses) == NUM_STEPS:
        return first
    return replace(first, losses=(*first.losses, *log.totals(NUM_STEPS - len(first.losses))))


def stored(state: Mapping[str, Any] | None) -> Fingerprint | None:
    """Read what ``plain_data`` made of one for a checkpoint."""
    return None if state is None else Fingerprint(**{**state, "losses": tuple(state["losses"])})
