"""What each part of the best configuration is worth, where that was ablated."""

from icd.results.report.blocks import Section, Text
from icd.results.report.differences import arms_blocks, difference_blocks
from icd.results.report.gather import Facts


def worth(facts: Facts) -> Section | None:
    """Show what a configuration loses, or gains, without each of its parts; the one that matters most first."""
    found = facts.ablation
    if found is None:
        return None
    words = (
        f"Trial {found.trial} was taken apart: {found.whole.parts} parts, each left out or set to its default, one at "
        f"a time, on fresh seeds that all share. Values are {found.metric} after the last epoch; students were trained "
        "on the training images, and test images stayed closed. A difference below 0 is what the part is worth."
    )
    blocks = difference_blocks(found.arms, found.ordered, "points of validation top-1", found.alpha)
    arms = arms_blocks(found.arms, found.pairs)
    return Section("What each part is worth", [Text(found.statement), *blocks, *arms, Text(words)])
