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
    """Losses of the first steps and what they depend on beside the configuration.

    Attributes:
        key: Of the configuration, digests included.
        device: Name of the GPU or CPU.
        precision: ``fp32``, ``tf32`` or ``bf16``.
        teacher: How it answered: from a ``cache``, ``live``, or ``none`` where there is no teacher.
        versions: Of icd, Python, torch and NumPy.
        losses: Sum of the terms in each of the first 50 steps, or of all where there are fewer.
    """

    key: str
    device: str
    precision: str
    teacher: TeacherMode
    versions: dict[str, str]
    losses: tuple[float, ...]

    def to_data(self) -> dict[str, Any]:
        """Write it for YAML and JSON."""
        return {**asdict(self), "losses": list(self.losses)}
