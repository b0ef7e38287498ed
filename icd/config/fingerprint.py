"""The first losses of a training: whoever trains the same configuration again can see whether it is the same training.

A fingerprint may stand in a trial's file, as ``icd export`` writes it. It is no part of the configuration or its key.
"""

from dataclasses import asdict, dataclass
from typing import Any, Literal

from icd.fields import Checked

NUM_STEPS = 50

TeacherMode = Literal["cache", "live", "none"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fingerprint(Checked):
    """Losses of the first steps and what they depend on beside the configuration."""

    key: str  # of the configuration, digests included
    device: str  # name of the GPU or CPU
    precision: str  # fp32, tf32 or bf16
    teacher: TeacherMode  # how it answered; none where there is no teacher
    versions: dict[str, str]  # of icd, Python, torch and NumPy
    losses: tuple[float, ...]  # sum of the terms in each of the first 50 steps, or of all where there are fewer

    def to_data(self) -> dict[str, Any]:
        """Write it for YAML and JSON."""
        return {**asdict(self), "losses": list(self.losses)}
