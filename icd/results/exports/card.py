"""The card that lies beside exported files: what the student is, what is claimed of it, and how to load it."""

from collections.abc import Mapping
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
) -> str:
    """Write the card, from ``card.md.j2``, with the front matter that model hubs read.

    Args:
        winner: The run.
        document: Its configuration.
        provenance: Where it comes from.
        sample: What its programs were compared on.
        differences: Largest difference of a logit for each program, by file.
        num_classes: Of the student.
    """
    return rendered(
        "card.md.j2",
        front=yaml.safe_dump(_front_matter(winner, document), sort_keys=False, allow_unicode=True).strip(),
        winner=winner,
        confirmed=winner.confirmation,
        ablation=winner.ablation,
        part=winner.part,
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
    )


def _front_matter(winner: Winner, document: Mapping[str, Any]) -> dict[str, Any]:
    """Give the metadata of a model card (huggingface.co/docs/hub/model-cards): what hubs list, sort and search by.

    A confirmed student has the mean over its seeds as its result, and says on how many.
    """
    data, arch = document["data"]["name"], document["student"]["arch"]
    arm = winner.arm
    if arm is not None and winner.confirmation is not None and arm.mean is not None and not winner.pair:
        values = {winner.confirmation.metric: arm.mean}
        note = f"mean of {len(arm.runs)} seeds"
    else:
        values, note = dict(winner.values), "one seed"
    metrics = [
        {"type": "accuracy", "name": f"{metric}, last epoch, {note}", "value": round(value, 4)}
        for metric, value in values.items()
        if metric.endswith("/top1")
    ]
    task = {"type": "image-classification"}
    result = {"task": task, "dataset": {"name": data, "type": data}, "metrics": metrics}
    return {
        "library_name": "icd",
        "pipeline_tag": "image-classification",
        "tags": ["knowledge-distillation", arch],
        "datasets": [data],
        "metrics": ["accuracy"],
        "model-index": [{"name": f"{arch} on {data}", "results": [result] if metrics else []}],
    }
