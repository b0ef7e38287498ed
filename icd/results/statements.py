"""Findings in plain words."""

from icd.results.confirmation import Confirmation, Versus


def statement_of(found: Confirmation) -> str:
    """Say what a confirmation shows, whatever it is: the winner against every baseline, then what to make of it."""
    if found.winner is None:
        return "Nothing can be said yet: no finalist has a complete run."
    winner = found.arm(found.winner)
    own = [item for item in found.versus if item.finalist == found.winner]
    seeds = len(winner.runs)
    spread = "" if winner.sd is None else f" (sd {winner.sd:.2f})"
    over = f", mean of {len(found.pairs)} pairs" if found.pairs else ""
    lines = [f"{winner.label}: {winner.mean:.2f} % top-1 on test images{over}{spread}, {_seeds(seeds)}."]
    lines += [_sentence(item) for item in own]
    lines += _on_pairs(found)
    lines += [
        f"{arm.label} gave no result on seed {seed}: {reason}."
        for arm in found.arms
        for seed, reason in arm.failures.items()
    ]
    shrunk = [item for item in own if item.shrinkage is not None]
    if shrunk:
        item = min(shrunk, key=lambda item: found.versus.index(item))
        lines.append(
            f"The search promised {item.search_said:+.2f} points over {item.baseline} (one seed, validation images); "
            f"{item.mean:+.2f} were confirmed."
        )
    if not found.finished:
        lines.append("This confirmation is not finished.")
    return " ".join(lines)


def _sentence(item: Versus) -> str:
    interval = (
        ""
        if item.low is None or item.high is None
        else f", {item.level:.0%} interval {item.low:+.2f} to {item.high:+.2f}"
    )
    facts = f"{item.mean:+.2f} points{interval}, {_seeds(len(item.seeds))}, p {item.p_holm:.2g} after correction"
    verdicts = {
        "better": f"It is better than {item.baseline} ({facts}).",
        "worse": f"It is worse than {item.baseline} ({facts}).",
        "hopeless": f"No difference from {item.baseline} was shown, nor would the other seeds show one ({facts}).",
        "no difference shown": f"No difference from {item.baseline} was shown ({facts}).",
        "open": f"Against {item.baseline} it is undecided so far ({facts}).",
    }
    return verdicts[item.verdict]


def _on_pairs(found: Confirmation) -> list[str]:
    """Say what the winner gains on each pair, and its place among the arms."""
    lines = []
    for baseline in dict.fromkeys(item.baseline for pair in found.pairs for item in pair.versus):
        gains = [
            f"{pair.name} {item.mean:+.2f}"
            for pair in found.pairs
            for item in pair.versus
            if (item.finalist, item.baseline) == (found.winner, baseline)
        ]
        lines += [f"On each pair against {baseline}: {', '.join(gains)} points, not corrected."] if gains else []
    ranks = [f"{arm.label} {arm.mean_rank:.3g}" for arm in found.arms if arm.mean_rank is not None]
    return [*lines, f"Mean rank over the pairs, 1 is best: {', '.join(ranks)}."] if ranks else lines


def _seeds(count: int) -> str:
    return f"{count} seed" if count == 1 else f"{count} seeds"
