"""A sweep on image files: decoded once where they fit into memory, and by the trial's own cores where they do not."""

import threading
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from PIL.Image import Image

from icd.config.read_trial import read_trial
from icd.config.yaml import Document
from icd.data import images
from icd.data.decode import decode_rgb
from icd.search.core.attempts import Attempt, EpochReport, RunContext
from icd.search.core.preparation import PreflightRequest
from icd.worker.preflight import run_preflight
from icd.worker.run_trial import train_attempt
from icd.worker.trial_inputs import SharedInputs, TrialFolders, read_data
from tests.data_contract import make_cub

TRIAL: dict[str, Any] = {
    "data": {"name": "cub200", "val_fraction": 0.25},
    "student": "resnet8",
    "method": "cross_entropy",
    "training": {
        "epochs": 2,
        "batch_size": 4,
        "augmentation": {"crop_flip": {"size": 32, "resize": 36}},
        "measure_every": 0,
    },
}


class Decoders:
    """Counts how often each file is decoded and by which threads; the first two files are decoded side by side."""

    def __init__(self) -> None:
        self.counts, self.threads = Counter[str](), set[str]()
        self._pair = threading.Barrier(2, timeout=60)

    def __call__(self, path: Path) -> Image:
        self.counts[path.name] += 1
        self.threads.add(threading.current_thread().name)
        if self.counts.total() <= 2:
            self._pair.wait()
        return decode_rgb(path)


@pytest.fixture
def decoders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Decoders:
    make_cub(tmp_path)
    found = Decoders()
    monkeypatch.setattr(images, "decode_rgb", found)
    return found


def run_attempt(tmp_path: Path, progress: Callable[[int, int, int], None] = lambda *where: None) -> Mapping[str, float]:
    config, _ = read_data(
        read_trial(Document(TRIAL, "trial")), TrialFolders(root=tmp_path / "root", data_root=tmp_path)
    )
    attempt = Attempt(
        number=0,
        attempt=1,
        runs={"": config.to_data()},
        context=RunContext(folder=tmp_path / "sweep", root=tmp_path / "root", data_root=tmp_path, threads=2),
    )
    said: list[EpochReport] = []

    def note(epoch: EpochReport) -> bool:
        said.append(epoch)
        return True

    outcome = train_attempt(attempt, note, progress=progress, inputs=SharedInputs())
    assert outcome.kind == "complete", outcome.reason
    return said[-1].metrics


def test_a_trial_decodes_each_image_once_for_all_its_epochs(tmp_path: Path, decoders: Decoders) -> None:
    told: list[tuple[int, int, int]] = []
    run_attempt(tmp_path, lambda *where: told.append(where))
    assert set(decoders.counts.values()) == {1}
    assert len(decoders.counts) == 12  # train and val, no test image
    epochs = [(epoch, step, 2) for epoch in (1, 2) for step in (1, 2, 0)]
    before = len(told) - len(epochs)
    assert before >= 18 + 12, "each file that is found, and each image that is decoded: the watchdog counts anew"
    assert told == [(0, 0, 1)] * before + epochs, "then each step, and each batch that is measured on"


def test_where_images_do_not_fit_a_trial_decodes_with_as_many_threads_as_it_has_cores(
    tmp_path: Path, decoders: Decoders, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "_MOST_HELD", 0)
    metrics = run_attempt(tmp_path)
    assert set(decoders.counts.values()) == {2}
    assert metrics["speed/images_per_second"] == pytest.approx(8 / metrics["seconds/train"], rel=0.01)
    assert 0 < metrics["speed/data_share"] <= 1
    assert decoders.threads == {"icd-decoder_0", "icd-decoder_1"}


def test_so_does_what_is_done_before_the_first_trial(tmp_path: Path, decoders: Decoders) -> None:
    request = PreflightRequest(configs=[TRIAL], root=str(tmp_path / "root"), data_root=str(tmp_path), threads=2)
    run_preflight(request, lambda line: None, lambda: False)
    assert decoders.threads == {"icd-decoder_0", "icd-decoder_1"}
