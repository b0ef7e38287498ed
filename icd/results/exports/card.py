"""The card that lies beside exported files: what the student is, what is claimed of it, and how to load it."""

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from icd.results.exports.student import Sample
from icd.results.exports.winner import Winner
from icd.results.templating import rendered

_MOST_CLASSES = 200  # names that are listed


def card(
    winner: Winner,
    document: Mapping[str, Any],
    provenance: Mapping[str, str],
    sample: Sample,
    differences: Mapping[str, float],
    *,
    num_classes: int,
    steps: Sequence[str],
    again: str,
) -> str:
    """Write the card with the front matter that model hubs read (huggingface.co/docs/hub/model-cards).

    A confirmed student has the mean over its seeds as its result, and says on how many.

    Args:
        winner: The run.
        document: Its configuration.
        provenance: Where it comes from.
        sample: What its programs were compared on.
        differences: Largest difference of a logit for each program, by file.
        num_classes: Of the student.
        steps: From an image to the programs' input, as ``input_steps`` gives them.
        again: The command that trains it again.
    """
    return rendered(
        "card.md.j2",
        winner=winner,
        student=document["student"],
        teacher={"digest": None, **document["teacher"]} if document.get("teacher") else None,
        data={"digest": None, **document["data"]},
        seed=document.get("seed", 0),
        method=yaml.safe_dump(document["method"], sort_keys=False).strip(),
        fingerprint=document.get("fingerprint"),
        provenance=provenance,
        sample=sample,
        classes=sample.class_names,
        most_classes=_MOST_CLASSES,
        size=sample.images_BCHW.shape[-1],
        differences=differences,
        num_classes=num_classes,
        steps=steps,
        again=again,
    )
