"""Says whether two trainings of one configuration began alike, by their fingerprints (icd/config/fingerprint.py)."""

from dataclasses import asdict, dataclass
from typing import Any

from icd.config.fingerprint import Fingerprint

# Of a loss, or of 1 where the loss is smaller. On one kind of device with one version the losses have equal bits.
TOLERANCE = 1e-6


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
