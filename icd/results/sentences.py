"""Findings in plain words: one builder for confirmations, ablations and benchmarks."""

from collections.abc import Iterable, Sequence

from icd.results.outcome import Arm, Comparison, FailedRuns, Outcome, Verdict
from icd.results.stats import expected_maximum
from icd.results.templating import rendered
from icd.text import plural

_COUNTED = {"left-out": "is left out", "chance-level": "counts as chance level if it diverged"}
_WINNER: dict[Verdict, str] = {
    "better": "{} is better than {}",
    "worse": "{} is worse than {}",
    "no difference shown": "no difference between {} and {} was shown",
    "open": "{} against {} is not decided yet",
}
_ROWS: dict[Verdict, str] = {
    "better": "Better than {}",
    "worse": "Worse than {}",
    "no difference shown": "No difference from {} was shown",
    "open": "Not decided yet against {}",
}


def statement_of(found: Outcome) -> str:
    """Say what a confirmation or an ablation shows, whatever it is, and then what to make of it."""
    text = rendered(
        "statement.txt.j2",
        found=found,
        headline=headline(found),
        error_rate=error_rate,
        failures=failures,
        filters={"facts": _facts},
    )
    return " ".join(text.split())


def headline(found: Outcome) -> str:
    """Say in one sentence how the winner of a confirmation compares with the baselines; empty without one."""
    parts = list[str]()
    for verdict, words in _WINNER.items():
        against = [item.against for item in found.of(found.winner) if item.verdict == verdict]
        if against:
            parts.append(words.format("it" if parts else found.winner, _listed(against)))
    text = "; ".join(parts)
    return f"{text[:1].upper()}{text[1:]}." if text else ""


def _facts(item: Comparison) -> str:
    """Give the numbers of a comparison."""
    if item.difference is None:
        return "no runs of both"
    parts = [f"{item.difference:+.2f} points"]
    parts += [f"interval {item.interval}"] if item.interval else []
    parts.append(plural(item.seeds, "seed"))
    parts += [f"p {item.p:.2g}"] if item.p is not None else []
    if item.verdict == "no difference shown" and item.detectable is not None:
        parts.append(f"{item.detectable:.2f} points would have been shown in four of five cases")
    return ", ".join(parts)


def luck(trials: int, confirmation: Outcome | None, ablation: Outcome | None) -> str:
    """Say by how much the best trial's top-1 is too high if all trials are equally good: `sd E[max]`.

    The spread over seeds is that of an ablation, which measures as the search does, else of a confirmation. It is empty
    where neither has one.
    """
    known = [] if ablation is None else [(ablation.whole, f"trial {ablation.trial} on validation images")]
    if confirmation is not None and confirmation.winner is not None:
        known.append((confirmation.arm(confirmation.winner), f"{confirmation.winner} on test images"))
    for arm, source in known if trials else ():
        if arm.sd is not None:
            count = plural(len(arm.runs), "seed")
            return (
                f"If all {plural(trials, 'complete trial')} of the search were equally good, the best score would be "
                f"too high by about {arm.sd * expected_maximum(trials):.2g} points on average (standard deviation over "
                f"seeds {arm.sd:.2f} points, of {source}, {count}). Where they differ, it is less."
            )
    return ""


def ranked(baseline: str, items: Sequence[Comparison]) -> list[str]:
    """Say which configurations are better and worse than one that all of them are compared with."""
    groups = {verdict: [item.arm for item in items if item.verdict == verdict] for verdict in _ROWS}
    return [f"{_ROWS[verdict].format(baseline)}: {', '.join(own)}." for verdict, own in groups.items() if own]


def error_rate(comparisons: int, alpha: float, where: str) -> str:
    """Say what the verdicts may be trusted with."""
    if comparisons < 2:
        return f"If there were no difference, one would be shown in {alpha:.0%} of such cases."
    return (
        f"The chance of any false difference among the {comparisons} comparisons of this {where} is {alpha:.0%}, and "
        f"their intervals hold the truth together in {1 - alpha:.0%}."
    )


def failures(arms: Iterable[Arm], counted: FailedRuns) -> list[str]:
    """Name the runs that gave no result."""
    return [
        f"{arm.label} gave no result on seed {seed}: {reason.rstrip('.')}; the run {_COUNTED[counted]}."
        for arm in arms
        for seed, reason in arm.failures.items()
    ]


def _listed(words: Sequence[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else "".join(words)
