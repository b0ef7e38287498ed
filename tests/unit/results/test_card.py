"""The card beside exported files."""

import runpy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from icd.config.read_trial import read_trial
from icd.config.yaml import Document
from icd.data.decode import decode_rgb
from icd.data.loader import Normaliser
from icd.data.views import CropFlip, Identity, RandAugment
from icd.data.warps import RandomResizedCrop, RotateFlip
from icd.results.exports.programs import Sample
from icd.results.exports.run import ExportRun, card_of
from icd.results.exports.winner import NOT_CONFIRMED, Winner
from icd.results.words import rendered
from icd.search.core.records import TrialRecord
from tests.confirmed import confirmation

DOCUMENT: dict[str, Any] = {
    "data": {"name": "cifar100", "digest": "d" * 64},
    "student": {"arch": "resnet8", "stem": "conv3x3"},
    "teacher": {"arch": "resnet32x4", "digest": "e" * 64},
    "method": {"name": "distill", "scales": [1, 2], "cluster_scale_weights": [0.25, 0.75], "cluster_temperature": 2.0},
    "seed": 101,
}
IMAGES = torch.zeros(3, 3, 32, 32)
SAMPLE = Sample(
    images_BCHW=IMAGES,
    source="64 validation images of cifar100",
    mean=(0.5, 0.25, 0),
    std=(1, 1, 1),
    class_names=("a", "b"),
)
FOUND = Winner(record=TrialRecord(number=1, state="complete"), values={"val/top1": 61.5}, label="trial 1", searched=16)
CONFIRMED = replace(FOUND, values={"test/top1": 60.5}, label="trial 12", confirmation=confirmation())


def written(
    winner: Winner = CONFIRMED, sample: Sample = SAMPLE, fingerprint: dict[str, Any] | None = None, **changes: Any
) -> str:
    config, origin = read_trial(Document({**DOCUMENT, **changes}, "x")), {"study": "s", "git": "abc"}
    run = ExportRun(winner=winner, config=config, fingerprint=fingerprint, provenance=origin, state={})
    differences = {"student.onnx": 2.5e-7, "student.pt2": 0.0}
    return card_of(run, sample, differences, 2, "icd train best.yaml --data-root /d")


def test_confirmed() -> None:
    text = written()
    assert NOT_CONFIRMED not in text
    assert "Confirmed on fresh seeds: trial 12 is better than KD by 0.75 points." in text
    assert "| trial 12 | 2 | 61.750 | 0.250 |" in text
    assert "| KD | 2 | 61.000 | 0.250 |" in text
    assert "| trial 3 |" not in text
    assert "| KD | +0.75 | +0.12 to +1.38 | better | 2 |" in text
    assert "seed 101: the lowest seed, not the best one" in text
    other = written(replace(CONFIRMED, label="trial 3"))
    assert "Confirmed on fresh seeds: Not the winner, which is trial 12. Trial 3 is better than KD." in other


def test_model_hubs_read_the_front_matter() -> None:
    def front(winner: Winner) -> dict[str, Any]:
        head = written(winner).split("---\n")
        assert head[0] == ""
        found: dict[str, Any] = yaml.safe_load(head[1])
        return found

    found = front(CONFIRMED)
    assert (found["library_name"], found["pipeline_tag"], found["datasets"]) == (
        "icd",
        "image-classification",
        ["cifar100"],
    )
    (model,) = found["model-index"]
    ((metric,),) = (result["metrics"] for result in model["results"])
    assert metric == {"type": "accuracy", "name": "test/top1, last epoch, mean of 2 seeds", "value": 61.75}
    assert front(FOUND)["model-index"][0]["results"][0]["metrics"][0]["name"] == "val/top1, last epoch, one seed"


def test_an_image_becomes_the_input_before_a_program_is_called() -> None:
    text = written()
    steps = rendered("input_steps.py.j2", views=CropFlip(size=32, pad=4), sample=SAMPLE)
    assert text.index(f"as at test time:\n```python\n{steps}```\n") < text.index("onnxruntime.InferenceSession")
    assert "```sh\nicd train best.yaml --data-root /d\n```" in text


MEAN, STD = (0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)


@pytest.mark.parametrize(
    ("views", "width", "height"),
    [
        (CropFlip(size=32, pad=4), 32, 32),
        (CropFlip(size=27, resize=32), 45, 60),
        (RandAugment(size=24, resize=32), 60, 45),
        (RotateFlip(size=64), 64, 64),
        (Identity(size=16), 33, 20),
        (RandomResizedCrop(size=24, resize=32), 47, 71),
        (RandomResizedCrop(size=21, resize=32), 71, 47),
    ],
)
def test_the_lines_from_an_image_give_the_trials_own_test_time_view(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, views: Any, width: int, height: int
) -> None:
    monkeypatch.chdir(tmp_path)
    pixels_HWC = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels_HWC).save("image.png")
    Path("steps.py").write_text(rendered("input_steps.py.j2", views=views, sample=SimpleNamespace(mean=MEAN, std=STD)))
    images_BCHW = runpy.run_path("steps.py")["images"]
    shown_BCHW = torch.from_numpy(views.render(decode_rgb(Path("image.png")), None))[None]
    wanted_BCHW = Normaliser(MEAN, STD, torch.device("cpu"), channels_last=False)(shown_BCHW)
    assert images_BCHW.dtype == np.float32
    assert images_BCHW.shape == (1, 3, views.size, views.size)
    np.testing.assert_allclose(images_BCHW, wanted_BCHW.numpy(), atol=2e-6)


def test_unconfirmed() -> None:
    text = written(FOUND)
    assert f"**{NOT_CONFIRMED}.**" in text
    assert "| val/top1 | 61.5 | 1 |" in text
    assert "the search had 16 complete trials" in text
    assert "Confirmed" not in text


def test_what_a_user_needs() -> None:
    text = written()
    for part in (
        "cluster_scale_weights:",
        "cluster_temperature: 2.0",
        "resnet32x4",
        "e" * 64,
        "float32 [B, 3, 32, 32]",
        "mean = (0.5, 0.25, 0), std = (1, 1, 1)",
        "2 classes, in the order of the logits: a, b.",
        "student.onnx: 2.5e-07",
        "64 validation images of cifar100",
        'build_model("resnet8", num_classes=2, stem="conv3x3")',
    ):
        assert part in text, part
    assert "--check-fingerprint" not in text
    assert "first 2 steps; add `--check-fingerprint`" in written(fingerprint={"losses": [1.0, 2.0]})


def test_digests_that_are_not_known_are_said_so() -> None:
    text = written(data={"name": "cifar100"}, teacher={"arch": "resnet32x4"})
    assert text.count("`unknown`") == 2


def test_without_the_data_set_or_a_teacher() -> None:
    text = written(
        sample=Sample(images_BCHW=IMAGES, source="64 images of seeded noise"), teacher=None, method="cross_entropy"
    )
    assert "## Teacher" not in text
    assert "trained without a teacher" in text
    assert "mean and std are the data set's, which was not at hand" in text.lower()
    assert "classes are not listed" in text


@pytest.mark.parametrize(("count", "said"), [(200, "c0, c1"), (201, "201 classes, in the order of the data set")])
def test_long_lists_of_classes_are_cut(count: int, said: str) -> None:
    names = tuple(f"c{number}" for number in range(count))
    assert said in written(sample=Sample(images_BCHW=IMAGES, source="x", class_names=names))
