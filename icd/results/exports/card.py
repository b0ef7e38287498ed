"""The card that lies beside exported files: what the student is, what is claimed of it, and how to load it."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import yaml

from icd.results.ablation import Ablation
from icd.results.exports.student import Sample
from icd.results.exports.winner import Winner
from icd.results.outcome import Comparison

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
    """Write the card.

    Args:
        winner: The run.
        document: Its configuration.
        provenance: Where it comes from.
        sample: What its programs were compared on.
        differences: Largest difference of a logit for each program, by file.
        num_classes: Of the student.
    """
    student, data = document["student"], document["data"]
    title = f"# {student['arch']} on {data['name']}: sweep {provenance['study']}, {winner.label}"
    parts = [
        [title],
        _what(winner, document),
        ["## Numbers", *_numbers(winner)],
        ["## Method", "```yaml", yaml.safe_dump(document["method"], sort_keys=False).strip(), "```"],
        _data(document, sample),
        _teacher(document),
        _input(document, sample),
        ["## How to load it", *_loading(document["student"], num_classes, differences)],
        _checked(sample, differences),
        ["## Train it again", *_again(document)],
        ["## Where it comes from", *(f"- {name}: {value}" for name, value in provenance.items())],
    ]
    return "\n\n".join("\n".join(part) for part in parts if part) + "\n"


def _what(winner: Winner, document: Mapping[str, Any]) -> list[str]:
    teacher = document.get("teacher")
    taught = f"distilled from {teacher['arch']}" if teacher else "trained without a teacher"
    lines = [f"A {document['student']['arch']} {taught} on {document['data']['name']}, seed {document.get('seed', 0)}."]
    if winner.confirmation is None:
        return [*lines, "", f"**{winner.status}.**"]
    return [*lines, f"Confirmed on fresh seeds: {winner.confirmation.statement}"]


def _numbers(winner: Winner) -> list[str]:
    if not winner.pair:
        return _figures(winner)
    own = ", ".join(f"{metric} {value:.6g}" for metric, value in winner.values.items())
    said = f"This is the student of the pair {winner.pair}: {own}, one seed."
    alone = winner.confirmation is None and winner.ablation is None
    return [said, "" if alone else "The numbers below are means over all pairs of the sweep.", "", *_figures(winner)]


def _figures(winner: Winner) -> list[str]:
    arm, confirmation = winner.arm, winner.confirmation
    if winner.ablation is not None and winner.part is not None:
        return _part_numbers(winner.ablation, winner.part)
    if arm is None or confirmation is None:
        return [
            "| metric | value | n |",
            "|---|---|---|",
            *(f"| {metric} | {value:.6g} | 1 |" for metric, value in winner.values.items()),
            "",
            f"No interval: the search had {winner.searched} complete trials and looked at these validation images.",
            "Such a number is too good by construction.",
        ]
    return [
        f"{confirmation.metric} (%) after the last epoch, trained on {confirmation.train_on}.",
        f"The weights here are those of seed {min(run.seed for run in arm.runs)}: the lowest seed, not the best one.",
        "",
        "| configuration | n | mean | sd |",
        "|---|---|---|---|",
        *(
            f"| {item.label} | {len(item.runs)} | {_number(item.mean)} | {_number(item.sd)} |"
            for item in (arm, *(other for other in confirmation.arms if other.kind == "baseline"))
        ),
        "",
        "| against | difference | interval | verdict | seeds |",
        "|---|---|---|---|---|",
        *(
            f"| {item.against} | {_signed(item.difference)} | {item.interval or '-'} | {item.verdict} | {item.seeds} |"
            for item in winner.comparisons
        ),
    ]


def _part_numbers(found: Ablation, part: Comparison) -> list[str]:
    arm, whole = found.arm(part.arm), found.whole
    less = f"{_signed(part.difference)} ({part.seeds})"
    return [
        f"{found.metric} (%) after the last epoch, trained on the training images, on fresh seeds shared by both.",
        "The weights here are those of the lowest seed, not the best one.",
        "",
        "| configuration | parts | mean | difference (n) |",
        "|---|---|---|---|",
        f"| trial {found.trial}, {arm.label} | {arm.parts} | {_number(arm.mean)} | {less} |",
        f"| trial {found.trial}, whole | {whole.parts} | {_number(whole.mean)} | - |",
        "",
        "The search looked at these validation images too, so both means are too good by construction.",
    ]


def _data(document: Mapping[str, Any], sample: Sample) -> list[str]:
    data = document["data"]
    lines = ["## Data", f"{data['name']}, digest `{data.get('digest', 'unknown')}`."]
    names = sample.class_names
    if names is None:
        return [*lines, "The data set was not at hand when this was written, so classes are not listed."]
    if len(names) <= _MOST_CLASSES:
        return [*lines, f"{len(names)} classes, in the order of the logits: {', '.join(names)}."]
    return [*lines, f"{len(names)} classes, in the order of the data set, from {names[0]} to {names[-1]}."]


def _teacher(document: Mapping[str, Any]) -> list[str]:
    teacher = document.get("teacher")
    if not teacher:
        return []
    return ["## Teacher", f"{teacher['arch']}, digest of its weights `{teacher.get('digest', 'unknown')}`."]


def _input(document: Mapping[str, Any], sample: Sample) -> list[str]:
    size = sample.images_BCHW.shape[-1]
    lines = [
        "## Input and output",
        f"Input `images`: float32 [B, 3, {size}, {size}], RGB, any batch size B. Pixels are divided by 255, then",
        "`(pixel - mean) / std` for each channel. Larger images first take `training.augmentation`'s test-time view.",
        "Output: logits, float32 [B, classes], and nothing else.",
    ]
    if sample.mean is None or sample.std is None:
        return [*lines, "Mean and std are the data set's, which was not at hand when this was written."]
    return [*lines, f"mean = {_triple(sample.mean)}, std = {_triple(sample.std)}"]


def _loading(student: Mapping[str, Any], num_classes: int, files: Collection[str]) -> list[str]:
    lines = []
    if "student.pt2" in files:
        lines += [
            "With torch, without icd:",
            "```python",
            "import torch",
            'network = torch.export.load("student.pt2").module()',
            "with torch.no_grad():",
            "    logits = network(images)",
            "```",
        ]
    if "student.onnx" in files:
        lines += [
            "With ONNX Runtime, without icd and torch; `images` is a NumPy array:",
            "```python",
            "import onnxruntime",
            'session = onnxruntime.InferenceSession("student.onnx")',
            '(logits,) = session.run(["logits"], {"images": images})',
            "```",
        ]
    return [
        *lines,
        "Weights alone, for icd's own network:",
        "```python",
        "from safetensors.torch import load_file",
        "from icd.models import build_model",
        'weights = load_file("student.safetensors")',
        f'network = build_model("{student["arch"]}", num_classes={num_classes}, stem="{student["stem"]}").eval()',
        "network.load_state_dict(weights)",
        "```",
    ]


def _checked(sample: Sample, differences: Mapping[str, float]) -> list[str]:
    if not differences:
        return []
    return [
        "## Checked",
        f"Compared with the student on {sample.source}; largest difference of a logit (at most 1e-4 is accepted):",
        "",
        *(f"- {name}: {difference:.2g}" for name, difference in differences.items()),
    ]


def _again(document: Mapping[str, Any]) -> list[str]:
    lines = ["```sh", "icd train best.yaml", "```"]
    if "fingerprint" in document:
        count = len(document["fingerprint"]["losses"])
        lines.append(f"`best.yaml` holds the losses of the first {count} steps; add `--check-fingerprint` to insist.")
    return lines


def _triple(values: Sequence[float]) -> str:
    return "(" + ", ".join(f"{value:.6g}" for value in values) + ")"


def _signed(value: float | None) -> str:
    return "-" if value is None else f"{round(value, 2) + 0.0:+.2f}"  # no sign of minus for what rounds to zero


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
