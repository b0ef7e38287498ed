"""Terms that do nothing: which parts of a trial's loss give the student no gradient to speak of, and what follows.

A pure function of a trial's rows of metrics (``train/gradient_share/TERM``, icd/training/gradient_probe.py) and its
configuration, so that whoever reads the same rows finds the same terms.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from icd.search.core.records import TrialRecord

if TYPE_CHECKING:
    from icd.config.trial import TrialConfig

THRESHOLD = 0.01  # of the sum of the terms' gradient norms

_SHARE = "train/gradient_share/"
_REFERENCE = "ce"  # what the others stand beside; never called dead
# Fields that act through one term alone, beside TERM_weight, the field of a method that scales its term TERM.
READ_BY: Mapping[str, Sequence[str]] = {
    "base": (
        "base_loss",
        "base_scale_weights",
        "warmup_epochs",
        "consistent_weight",
        "complementary_weight",
        "global_verdict",
    ),
    "cluster": ("cluster_scale_weights", "cluster_temperature", "cluster_temperature_squared", "gram"),
    "similarity": (),
    "contrast": ("num_negatives", "temperature", "momentum", "width", "mode"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadTerm:
    """A term of one trial that does nothing."""

    term: str  # its name
    share: float  # the largest share of the gradient that was measured since the warm-up, of 1
    epoch: int  # of the last measurement
    weight: str  # the field that scales it; empty where its method has none of that name
    value: float  # that field's value; 1 without one
    searched: tuple[str, ...] = ()  # fields of the space that act through this term alone, its weight included

    @property
    def brief(self) -> str:
        """``cluster 0.3 % of the gradient at cluster_weight 2``."""
        return f"{self.term} {percent(self.share)} of the gradient{_at(self.weight, f'{self.value:g}')}"

    @property
    def sentence(self) -> str:
        """Say what it gives and what follows."""
        at = _at(self.weight, f"{self.value:g}")
        gives = f"{self.term} term contributes {percent(self.share)} of the gradient{at}"
        return f"{gives}: {_follows(self.weight, self.searched)}"

    def to_data(self) -> dict[str, Any]:
        """Write it for JSON, its sentence included."""
        return {**asdict(self), "searched": list(self.searched), "sentence": self.sentence}


class DeadKind(NamedTuple):
    """A term that does nothing in some trials of a sweep, and a sentence that says how little it does there."""

    term: str
    trials: tuple[int, ...]
    sentence: str


def dead_terms(
    rows: Iterable[Mapping[str, Any]],
    config: "TrialConfig",
    threshold: float = THRESHOLD,
    *,
    searched: Iterable[str] = (),
) -> list[DeadTerm]:
    """Find the terms whose share of the gradient was below a threshold at every measurement since the warm-up.

    The epochs in which the warm-up of the method is not over do not count, and neither do those without a share: not
    measured, or a gradient was not finite. Without any that counts nothing is said of a term.

    Args:
        rows: A trial's rows of metrics, each with its ``epoch``.
        config: The trial.
        threshold: Share, of 1.
        searched: Names of the parameters that are searched (``method.cluster_weight``,
            ``method.cluster_scale_weights.s2``).
    """
    over = [row for row in rows if row["epoch"] >= getattr(config.method, "warmup_epochs", 0)]
    names = {name.split(".")[1] for name in searched if name.startswith("method.")}
    found = []
    for term in dict.fromkeys(name.removeprefix(_SHARE) for row in over for name in row if name.startswith(_SHARE)):
        measured = [(row["epoch"], row[_SHARE + term]) for row in over if _SHARE + term in row]
        largest = max(share for _, share in measured)
        # Written so that a share that is no number is never below the threshold.
        if term == _REFERENCE or not all(share < threshold for _, share in measured):
            continue
        weight, last = f"{term}_weight", max(epoch for epoch, _ in measured)
        value = getattr(config.method, weight, None)
        if not isinstance(value, int | float):  # the term of a plugin need not have one
            weight, value = "", 1.0
        fields = tuple(name for name in (weight, *READ_BY.get(term, ())) if name in names)
        found.append(DeadTerm(term=term, share=largest, epoch=last, weight=weight, value=float(value), searched=fields))
    return found


def noted_terms(record: TrialRecord) -> list[DeadTerm]:
    """Give the dead terms that were noted at a trial's end."""
    noted = record.attributes.get("dead_terms", ())
    plain = [{name: value for name, value in item.items() if name != "sentence"} for item in noted]
    return [DeadTerm(**{**item, "searched": tuple(item["searched"])}) for item in plain]


def dead_kinds(records: Sequence[TrialRecord]) -> list[DeadKind]:
    """Gather the dead terms of a sweep's trials, one line for each term."""
    trained = sum(not record.unfinished and bool(record.curve) for record in records)
    noted = [(record.number, term) for record in records for term in noted_terms(record)]
    kinds = []
    for name in dict.fromkeys(term.term for _, term in noted):
        numbers, same = zip(*((number, term) for number, term in noted if term.term == name), strict=True)
        shares = _range(percent(term.share) for term in sorted(same, key=lambda term: term.share))
        values = _range(f"{term.value:g}" for term in sorted(same, key=lambda term: term.value))
        searched = list(dict.fromkeys(field for term in same for field in term.searched))
        where = f"{len(same)} of {trained} trials: {shares} of the gradient{_at(same[0].weight, values)}"
        kinds.append(DeadKind(name, numbers, f"{name} term, {where}: {_follows(same[0].weight, searched)}"))
    return kinds


def _at(weight: str, value: str) -> str:
    return f" at {weight} {value}" if weight else ""


def _range(texts: Iterable[str]) -> str:
    """Write the first and the last, or the only one."""
    first, *_, last = [*texts] * 2
    return first if first == last else f"{first} to {last}"


def percent(share: float) -> str:
    """Write a share in percent: ``0.3 %``."""
    return "less than 0.01 %" if 0 < share < 1e-4 else f"{100 * share:.3g} %"


def _follows(weight: str, searched: Sequence[str]) -> str:
    others = [name.replace("_", " ") for name in searched if name != weight]
    if not others:
        return "it could as well be left out"
    listed = " and ".join([", ".join(others[:-1]), others[-1]] if len(others) > 1 else others)
    return f"the searched {listed} cannot matter"
