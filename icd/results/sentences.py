"""Findings in plain words: one builder for confirmations, ablations and benchmarks."""

from collections.abc import Iterable, Sequence

from icd.results.outcome import WHOLE, Arm, Comparison, FailedRuns, Outcome, Verdict
from icd.results.stats import expected_maximum
from icd.text import plural

NAMES = {"confirm": "confirmation", "ablate": "ablation"}
_COUNTED = {"left-out": "is left out", "chance-level": "counts as chance level if it diverged"}


def statement_of(found: Outcome) -> str:
    """Say what a confirmation or an ablation shows, whatever it is, and then what to make of it."""
    name = NAMES[found.stage]
    if found.stage == "confirm":
        if found.winner is None:
            return "Nothing can be said yet: no finalist has a complete run."
        own = found.of(found.winner)
        first, last = _against_baselines(found, own), _choice(found, own)
    else:
        if found.whole.mean is None:
            return "Nothing can be said yet: the whole configuration has no complete run."
        own = found.comparisons
        first, last = _parts(found), _simplest(found)
    rate = [error_rate(len(found.comparisons), found.alpha, name)] if found.finished and own else []
    if found.reused:
        last = [*last, f"{found.reused} runs are those of earlier rounds, on the same seeds."]
    if not found.finished:
        last = [*last, f"This {name} is not finished."]
    return " ".join([*first, *rate, *_on_pairs(found), *failures(found.arms, found.failed_runs), *last])


def headline(found: Outcome) -> str:
    """Say in one sentence how the winner of a confirmation compares with the baselines; empty without one."""
    by_verdict = _by_verdict(found.of(found.winner))
    words = {
        "better": "{} is better than {}",
        "worse": "{} is worse than {}",
        "no difference shown": "no difference between {} and {} was shown",
        "open": "{} against {} is not decided yet",
    }
    parts = [
        words[verdict].format("it" if place else found.winner, listed([item.against for item in items]))
        for place, (verdict, items) in enumerate(by_verdict.items())
    ]
    text = "; ".join(parts)
    return f"{text[:1].upper()}{text[1:]}." if text else ""


def _by_verdict(items: Iterable[Comparison]) -> dict[Verdict, list[Comparison]]:
    order: tuple[Verdict, ...] = ("better", "worse", "no difference shown", "open")
    groups = {verdict: [item for item in items if item.verdict == verdict] for verdict in order}
    return {verdict: own for verdict, own in groups.items() if own}


def _against_baselines(found: Outcome, own: Sequence[Comparison]) -> list[str]:
    winner = found.arm(found.winner or "")
    spread = "" if winner.sd is None else f" (sd {winner.sd:.2f})"
    over = f", mean of {len(found.pairs)} pairs" if found.pairs else ""
    count = plural(len(winner.runs), "seed")
    said = f"{winner.label} reaches {winner.mean:.2f} % top-1 on test images{over}{spread}, {count}."
    first = [headline(found)] if own else []
    return [*first, said, *(f"Against {item.against}: {facts(item)}." for item in own)]


def _parts(found: Outcome) -> list[str]:
    over = ", mean over the pairs" if found.pairs else ""
    lines = [f"Trial {found.trial} reaches {found.whole.mean:.2f} % on validation images{over}."]
    words: dict[Verdict, str] = {
        "worse": "It gets worse with",
        "better": "It gets better with",
        "no difference shown": "No difference was shown with",
    }
    groups = _by_verdict(found.comparisons)
    for verdict, said in words.items():
        if items := groups.get(verdict, []):
            lines.append(f"{said}: {'; '.join(f'{item.arm} ({facts(item)})' for item in items)}.")
    return lines


def _simplest(found: Outcome) -> list[str]:
    if found.simplest is None:
        return []
    if found.simplest == WHOLE:
        return ["Nothing simpler is within one standard error of the best."]
    words = f"The simplest within one standard error of the best: {found.simplest}. That is a preference and no test: "
    worse = 2 * found.simplest_error
    return [f"{words}one that is worse by {worse:.2f} points is within it in one of six cases."]


def _choice(found: Outcome, own: Sequence[Comparison]) -> list[str]:
    """Say how the winner was chosen, and how its search value compares."""
    lines = []
    if found.optimism is not None:
        lines.append(
            f"{found.winner} was chosen as the best of several finalists on these test images; if they are equally "
            f"good, its mean is too high by {found.optimism:.2f} points on average."
        )
    if found.raced:
        lines.append(
            f"Finalists were chosen among the best {found.raced} trials with further seeds on validation images."
        )
    promised = next((item for item in own if item.search_gain is not None and item.difference is not None), None)
    if promised is not None:
        lines.append(
            f"The search promised {promised.search_gain:+.2f} points over {promised.against} (one seed, validation "
            f"images); {promised.difference:+.2f} were found."
        )
    return lines


def _on_pairs(found: Outcome) -> list[str]:
    """Say what the winner gains on each pair, how alike that is over them, and its place among the arms."""
    lines = []
    for item in found.of(found.winner):
        alike = item.over_pairs
        if item.on_pairs:
            each = ", ".join(f"{name} {gain:+.2f}" for name, gain in item.on_pairs.items())
            same = (
                ""
                if alike is None or alike.interaction is None
                else f"; the same on all pairs: p {alike.interaction:.2g}"
            )
            chance = "" if alike is None else f" (chance that a run is better: {alike.chance}{same})"
            lines.append(f"On each pair against {item.against}: {each} points{chance}, without a verdict.")
    ranks = [f"{arm.label} {arm.mean_rank:.3g}" for arm in found.arms if arm.mean_rank is not None]
    ranked = found.stage == "confirm" and ranks
    return [*lines, f"Mean rank over the pairs, 1 is best: {', '.join(ranks)}."] if ranked else lines


def facts(item: Comparison) -> str:
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
    words = {
        "better": f"Better than {baseline}",
        "worse": f"Worse than {baseline}",
        "no difference shown": f"No difference from {baseline} was shown",
        "open": f"Not decided yet against {baseline}",
    }
    return [f"{words[verdict]}: {', '.join(i.arm for i in own)}." for verdict, own in _by_verdict(items).items()]


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


def listed(words: Sequence[str]) -> str:
    """Join words: ``a, b and c``."""
    return " and ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else "".join(words)
