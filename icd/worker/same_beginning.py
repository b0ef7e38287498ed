"""Says whether two trainings of one configuration began alike, by their fingerprints (icd/config/trial.py)."""

from collections.abc import Iterator
from dataclasses import dataclass

from icd.config.trial import Fingerprint

# Of a loss, or of 1 where the loss is smaller. On one kind of device with one version the losses have equal bits.
TOLERANCE = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """How two trainings began."""

    equal: bool  # whether they could be compared and no step differs by more than the tolerance
    step: int | None  # the first that differs, from 1; None where none does
    sentence: str  # what to say, with what may be the cause


def compare(recorded: Fingerprint, own: Fingerprint | None) -> Comparison:
    """Compare a recorded beginning with that of another training."""
    if own is None:
        return _not_compared("this training noted no first losses: it began with an older version")
    if recorded.key != own.key:
        keys = f"key {recorded.key[:12]}, this one has {own.key[:12]}"
        return _not_compared(f"it belongs to another configuration ({keys})")
    pairs = list(zip(recorded.losses, own.losses, strict=False))
    if not pairs:
        return _not_compared("it holds no losses")
    for step, (was, now) in enumerate(pairs, 1):
        difference = abs(was - now) / max(1.0, abs(was))
        if not difference <= TOLERANCE:
            causes = "; ".join(_causes(recorded, own))
            why = f"possible causes: {causes}" if causes else "device, teacher and versions are the same"
            differs = f"the loss of step {step} of {len(pairs)} differs by {difference:.2g}, tolerance {TOLERANCE:g}"
            return Comparison(equal=False, step=step, sentence=f"fingerprint: {differs}; {why}")
    return Comparison(equal=True, step=None, sentence=f"fingerprint: first {len(pairs)} losses equal to {TOLERANCE:g}")


def _not_compared(why: str) -> Comparison:
    return Comparison(equal=False, step=None, sentence=f"fingerprint: not compared, {why}")


def _causes(recorded: Fingerprint, own: Fingerprint) -> Iterator[str]:
    for name in ("device", "precision"):
        if getattr(recorded, name) != getattr(own, name):
            yield f"{name} {getattr(recorded, name)!r}, here {getattr(own, name)!r}"
    if recorded.teacher != own.teacher:  # a cache holds logits in float16
        same = "off" if recorded.teacher == "live" else "stream"
        yield f"teacher {recorded.teacher!r}, here {own.teacher!r}: add --teacher-cache {same}"
    for name in sorted(recorded.versions.keys() | own.versions.keys()):
        was, now = recorded.versions.get(name, "unknown"), own.versions.get(name, "unknown")
        if was != now:
            yield f"{name} {was}, here {now}"
