"""A sweep to report on: trials told by hand, with the files that a report reads."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from icd.results.ablate import make_plan as parts_plan
from icd.results.confirm import make_plan
from icd.results.outcome import Arm, Comparison, Outcome, Run
from icd.results.plan import begin_plan
from icd.search.core.attempts import trial_folder
from icd.search.core.records import State
from icd.worker.gram_file import GRAMS_NAME, Grams, pack_grams
from tests.ablating import told
from tests.studies import Study, changed

EPOCHS = 12
SPACE: dict[str, Any] = {
    "base_loss": {
        "kd": {"temperature": {"low": 1, "high": 8}},
        "dkd": {"temperature": {"low": 1, "high": 8}, "beta": {"low": 0.5, "high": 8, "log": True}},
    },
    "scales": {"choices": [[1, 2], [1, 2, 4]]},
    "cluster_scale_weights": {"low": 0.05, "high": 1},
    "cluster_weight": {"low": 0.5, "high": 64, "log": True},
    "cluster_temperature": {"low": 0.5, "high": 4, "log": True},
}


def rich(root: Path, trials: int = 40, *, epochs: int = EPOCHS, **parts: Any) -> Study:
    """Make a sweep with complete, pruned, failed and duplicate trials; dkd and a large cluster weight are better."""
    document = {"name": "rich", "ranges": SPACE, "budget": {"trials": trials}, "enqueue": ["KD"], **parts}
    pruner = {"name": "successive_halving", "min_epochs": 2, "reduction": 2}
    study = Study(root, changed(**{"pruner": pruner, **document}))
    for number in range(trials):
        state: State = "failed" if number % 13 == 12 else "pruned" if number % 5 == 4 else "complete"
        told: dict[str, Any] = {}
        if state == "failed":
            told = {"reason": "out of memory on <script>alert(1)</script>", "exit_reason": "memory", "seconds": 1.0}
        if state == "pruned":
            told = {"reason": "pruned at epoch 4", "exit_reason": "pruned", "seconds": 9.0}
        last = {"failed": 0, "pruned": 4, "complete": epochs}[state]
        if state == "complete":
            told |= {"device": "x86_64 CPU, 1 threads", "parameters": 85812}
        place = study.trial("running", baseline=number == 0)
        record = study.ledger.record(place)
        good = 50 + 6 * (record.params.get("base_loss") == "dkd") + math.log2(record.params.get("cluster_weight", 1))
        curve = [round(good - 40 / epoch + 0.3 * math.sin(number + epoch), 3) for epoch in range(1, last + 1)]
        for epoch, value in enumerate(curve, 1):
            study.ledger.add_epoch(place, epoch, value)
        if state == "complete":
            values = [curve[-1], 25.0 + number % 7][: len(study.sweep.objectives)]
            study.ledger.tell(place, state, values, **{"exit_reason": state, "seconds": 25.0 + number % 7, **told})
        else:
            study.ledger.tell(place, state, **told)
        write_files(study, place, curve)
    study.ledger.note_study(stopped_by="budget", seconds=512.0, gpus_per_trial=0.0)
    return study


def confirm(study: Study) -> None:
    """Tell a whole confirmation of the usual size: three finalists, three baselines, five seeds; one run diverged."""
    asked: dict[str, Any] = {"against": ["KD", "SD-KD", "iCD-KD"], "adaptive": False}
    plan = begin_plan(study.ledger, make_plan(study.ledger, study.sweep, **asked))
    draw, gains = (
        np.random.default_rng(0),
        dict(zip([arm.label for arm in plan.arms], (3, 2.5, 1, 0, 0, 0), strict=True)),
    )
    values: dict[str, list[float | None]] = {}
    for label, gain in gains.items():
        values[label] = [50 + gain + round(noise, 2) for noise in draw.normal(size=5)]
    values["SD-KD"][2] = None
    told(study.ledger, plan, values)


def ablate(study: Study) -> None:
    """Tell a whole ablation."""
    plan = begin_plan(study.ledger, parts_plan(study.ledger, study.sweep))
    values = {arm.label: [50.0 + seed % 3 - len(arm.label) / 9 for seed in plan.seeds] for arm in plan.arms}
    told(study.ledger, plan, values)


def write_files(study: Study, number: int, curve: list[float]) -> None:
    """Write what a worker leaves in a trial's folder, networks aside."""
    record = study.ledger.record(number)
    document = study.space.document(record.params) if record.params else study.space.baseline(study.sweep.enqueue[0])
    folder = trial_folder(study.folder, number)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(study.space.read(document).to_data()))
    rows = [json.dumps({"epoch": epoch, **metrics(epoch, value)}) + "\n" for epoch, value in enumerate(curve, 1)]
    (folder / "metrics.jsonl").write_text("".join(rows))
    if record.state == "complete":
        (folder / GRAMS_NAME).write_bytes(pack_grams(grams()))


def metrics(epoch: int, value: float) -> dict[str, float]:
    shares = {"base": 0.7 - 0.02 * epoch, "ce": 0.296 + 0.02 * epoch, "cluster": 0.004}
    told = {f"train/gradient_share/{name}": share for name, share in shares.items()}
    return {"val/top1": value, "teacher/images": 100.0, **told}


def grams(images: int = 2) -> Grams:
    draw = np.random.default_rng(0)

    def rows(scale: int, spread: float) -> np.ndarray[Any, Any]:
        logits = draw.normal(size=(images, scale**2, scale**2)) * spread
        shares: np.ndarray[Any, Any] = np.exp(logits) / np.exp(logits).sum(axis=2, keepdims=True)
        return shares

    sides: list[Mapping[int, Any]] = [{scale: rows(scale, spread) for scale in (2, 4)} for spread in (1.0, 0.9, 0.1)]
    pictures = draw.integers(0, 256, size=(images, 32, 32, 3), dtype=np.uint8)
    return Grams(teacher=sides[0], student=sides[1], before=sides[2], images=pictures)


def confirmation(*, finished: bool = True) -> Outcome:
    """Give a confirmation of two finalists and two baselines on four seeds."""
    items = [_compared("trial 7", "KD", 1.42, 0.6), _compared("trial 7", "iCD-KD", 0.31, 0.9)]
    items += [_compared("trial 3", "KD", 1.02, 0.7), _compared("trial 3", "iCD-KD", -0.09, 0.8)]
    return Outcome(
        sweep="rich",
        stage="confirm",
        metric="test/top1",
        train_on="train+val",
        planned_seeds=4,
        alpha=0.05,
        failed_runs="left-out",
        round=1,
        arms=(_arm("trial 7", 74.1), _arm("trial 3", 73.7), _arm("KD", 72.7), _arm("iCD-KD", 73.8)),
        comparisons=tuple(items),
        test_evaluations=16,
        seconds=4000.0,
        finished=finished,
        winner="trial 7",
        optimism=0.2,
        statement="Trial 7 is 1.42 points better than KD on 4 fresh seeds; no difference to iCD-KD was shown.",
    )


def _arm(label: str, mean: float) -> Arm:
    runs = tuple(
        Run(
            trial=100 + seed,
            seed=seed,
            value=mean + 0.1 * seed,
            seconds=250,
        )
        for seed in range(4)
    )
    finalist = label.startswith("trial")
    return Arm(
        label=label,
        kind="finalist" if finalist else "baseline",
        trial=int(label.split()[1]) if finalist else None,
        search_value=mean + 1.2 if finalist else None,
        config={},
        runs=runs,
        failures={} if finalist else {9: "a loss is not finite <b>"},
        mean=mean,
        sd=0.21,
    )


def _compared(arm: str, against: str, difference: float, half: float) -> Comparison:
    return Comparison(
        arm=arm,
        against=against,
        seeds=4,
        difference=difference,
        se=half / 3,
        low=difference - half,
        high=difference + half,
        p=0.016 if difference > half else 0.4,
        verdict="better" if difference > half else "no difference shown",
        detectable=1.3 * half,
        search_gain=difference + 0.5,
    )
