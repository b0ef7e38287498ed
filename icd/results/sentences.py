"""Findings in plain words: one builder for confirmations, ablations and tables."""

from collections.abc import Iterable, Sequence

from icd.results.outcome import Arm, Comparison


def headline(arm: str, items: Sequence[Comparison]) -> str:
    """Say in one sentence how one configuration compares with others."""
    groups = {
        "{} is better than {}": [item.against for item in items if item.verdict == "better"],
        "{} is worse than {}": [item.against for item in items if item.verdict == "worse"],
        "no difference between {} and {} was shown": [
            item.against for item in items if item.verdict == "no difference shown"
        ],
        "{} against {} is not decided yet": [item.against for item in items if item.verdict == "open"],
    }
    parts = [
        words.format(arm if not place else "it", listed(names))
        for place, (words, names) in enumerate((words, names) for words, names in groups.items() if names)
    ]
    text = "; ".join(parts)
    return f"{text[:1].upper()}{text[1:]}." if text else ""


def facts(item: Comparison) -> str:
    """Give the numbers of a comparison."""
    if item.difference is None:
        return "no runs of both"
    parts = [f"{item.difference:+.2f} points"]
    parts += [f"interval {item.interval}"] if item.interval else []
    parts.append(seeds(item.seeds))
    parts += [f"p {item.p:.2g}"] if item.p is not None else []
    if item.verdict == "no difference shown" and item.detectable is not None:
        parts.append(f"{item.detectable:.2f} points would have been shown in four of five cases")
    return ", ".join(parts)


def over_pairs(item: Comparison) -> str:
    """Say how alike a difference is over several teacher-student pairs, after a comma."""
    found = item.over_pairs
    if found is None:
        return ""
    same = "" if found.interaction is None else f"; the same on all pairs: p {found.interaction:.2g}"
    chance = f"{found.improvement:.0%} (95 % interval {found.low:.0%} to {found.high:.0%})"
    return f" (chance that a run is better: {chance}{same})"


def against(items: Iterable[Comparison]) -> list[str]:
    """Give each comparison's numbers as a sentence."""
    return [f"Against {item.against}: {facts(item)}." for item in items]


def ranked(baseline: str, items: Sequence[Comparison]) -> list[str]:
    """Say which configurations are better and worse than one that all of them are compared with."""
    words = {
        "better": f"Better than {baseline}",
        "worse": f"Worse than {baseline}",
        "no difference shown": f"No difference from {baseline} was shown",
        "open": f"Not decided yet against {baseline}",
    }
    groups = {said: [item.arm for item in items if item.verdict == verdict] for verdict, said in words.items()}
    return [f"{said}: {', '.join(names)}." for said, names in groups.items() if names]


def error_rate(comparisons: int, alpha: float, where: str) -> str:
    """Say what the verdicts may be trusted with."""
    if comparisons < 2:
        return f"If there were no difference, one would be shown in {alpha:.0%} of such cases."
    return (
        f"The chance of any false difference among the {comparisons} comparisons of this {where} is {alpha:.0%}, and "
        f"their intervals hold the truth together in {1 - alpha:.0%}."
    )


def failures(arms: Iterable[Arm], counted: str) -> list[str]:
    """Name the runs that gave no result."""
    return [
        f"{arm.label} gave no result on seed {seed}: {reason.rstrip('.')}; the run {_COUNTED[counted]}."
        for arm in arms
        for seed, reason in arm.failures.items()
    ]


_COUNTED = {"left-out": "is left out", "chance-level": "counts as chance level if it diverged"}


def listed(words: Sequence[str]) -> str:
    """Join words: ``a, b and c``."""
    return " and ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else "".join(words)


def seeds(count: int) -> str:
    """Count seeds."""
    return f"{count} seed" if count == 1 else f"{count} seeds"
