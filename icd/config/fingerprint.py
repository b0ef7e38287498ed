"""The first losses of a training: whoever trains the same configuration again can see whether it is the same training.

A fingerprint may stand in a trial's file, as ``icd export`` writes it. It is no part of the configuration or its key.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from icd.errors import ConfigError
from icd.fields import check_fields

if TYPE_CHECKING:
    from icd.config.yaml import Document

NUM_STEPS = 50
# Of a loss, or of 1 where the loss is smaller. On one kind of device with one version the losses have equal bits.
TOLERANCE = 1e-6

TeacherMode = Literal["cache", "live", "none"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fingerprint:
    """Losses of the first steps and what they depend on beside the configuration.

    Attributes:
        key: Of the configuration, digests included.
        device: Name of the GPU or CPU.
        precision: ``fp32`` or ``bf16``.
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

    def __post_init__(self) -> None:
        check_fields(self)

    def to_data(self) -> dict[str, Any]:
        """Write it for YAML and JSON."""
        return {**asdict(self), "losses": list(self.losses)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """How two trainings began.

    Attributes:
        steps: How many steps both know.
        step: The first that differs, from 1; None where none does.
        difference: By how much it differs there, over ``max(1, |loss|)``.
        causes: What else differs between the two and may be why.
        problem: Why they cannot be compared; empty where they can.
    """

    steps: int = 0
    step: int | None = None
    difference: float = 0.0
    causes: tuple[str, ...] = ()
    problem: str = ""

    @property
    def equal(self) -> bool:
        """Whether they could be compared and no step differs by more than the tolerance."""
        return not self.problem and self.step is None

    def to_data(self) -> dict[str, Any]:
        """Write it for JSON."""
        return {"equal": self.equal, **asdict(self), "causes": list(self.causes)}

    def __str__(self) -> str:
        if self.problem:
            return f"fingerprint: not compared, {self.problem}"
        if self.step is None:
            return f"fingerprint: first {self.steps} losses equal to {TOLERANCE:g}"
        why = (
            f"possible causes: {'; '.join(self.causes)}" if self.causes else "device, teacher and versions are the same"
        )
        return (
            f"fingerprint: the loss of step {self.step} of {self.steps} differs by {self.difference:.2g}, "
            f"tolerance {TOLERANCE:g}; {why}"
        )


def compare(recorded: Fingerprint, own: Fingerprint | None) -> Comparison:
    """Compare a recorded beginning with that of another training."""
    if own is None:
        return Comparison(problem="this training noted no first losses: it began with an older version")
    if recorded.key != own.key:
        return Comparison(
            problem=f"it belongs to another configuration (key {recorded.key[:12]}, this one has {own.key[:12]})"
        )
    pairs = list(zip(recorded.losses, own.losses, strict=False))
    if not pairs:
        return Comparison(problem="it holds no losses")
    for step, (was, now) in enumerate(pairs, 1):
        difference = abs(was - now) / max(1.0, abs(was))
        if not difference <= TOLERANCE:
            return Comparison(steps=len(pairs), step=step, difference=difference, causes=_causes(recorded, own))
    return Comparison(steps=len(pairs))


def _causes(recorded: Fingerprint, own: Fingerprint) -> tuple[str, ...]:
    causes = [
        f"{name} {getattr(recorded, name)!r}, here {getattr(own, name)!r}"
        for name in ("device", "precision")
        if getattr(recorded, name) != getattr(own, name)
    ]
    if recorded.teacher != own.teacher:  # a cache holds logits in float16
        same = "off" if recorded.teacher == "live" else "stream"
        causes.append(f"teacher {recorded.teacher!r}, here {own.teacher!r}: add --teacher-cache {same}")
    for name in sorted(recorded.versions.keys() | own.versions.keys()):
        was, now = recorded.versions.get(name, "unknown"), own.versions.get(name, "unknown")
        if was != now:
            causes.append(f"{name} {was}, here {now}")
    return tuple(causes)


def stored_fingerprint(document: "Document") -> Fingerprint | None:
    """Give the fingerprint that a trial's file holds.

    Raises:
        ConfigError: If there is one and it is malformed.
    """
    from icd.config.reader import Reader  # pydantic, which a training can do without

    data: Any = document.data
    if not isinstance(data, Mapping) or data.get("fingerprint") is None:
        return None
    reader = Reader(document)
    found = reader.fields(Fingerprint, data["fingerprint"], ("fingerprint",)) or {}
    if reader.problems:
        raise ConfigError(reader.problems)
    return Fingerprint(**found)
