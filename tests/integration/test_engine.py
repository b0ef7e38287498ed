"""Epochs on the device give the bits of epochs handed over batch by batch, from a cache, a live teacher or none."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

from icd.config.read_trial import read_trial
from icd.config.trial import TrialConfig
from icd.config.yaml import parse_yaml
from icd.data.split import Split
from icd.errors import NonFiniteLossError
from icd.models import Network, build_model
from icd.teacher import device_cache
from icd.teacher.cache import TeacherCache, open_cache
from icd.teacher.cache_plan import plan_cache
from icd.training.draws import seed_step
from icd.training.engine import _DRIFT, DeviceEpochs, spent
from icd.training.epoch_inputs import EpochInputs
from icd.training.loop import EpochMetrics, Execution, Trained, initial_student, train
from icd.training.step import TrainStep
from tests.tiny import images, views

DATA = {"name": "npz", "path": "tiny.npz"}
ICD: dict[str, Any] = {"recipe": "iCD-DKD", "warmup_epochs": 2, "allow_repeated_cells": True}


def config_of(
    method: Any = ICD, *, student: str = "resnet8", epochs: int = 3, teacher: bool = True, **training: Any
) -> TrialConfig:
    content = {
        "plugins": [str(Path(__file__).parents[1] / "support" / "networks.py")],
        "data": DATA,
        "student": student,
        "method": method,
        "training": {"epochs": epochs, "batch_size": 12, "augmentation": views(), "measure_every": 0, **training},
    }
    if teacher:
        content["teacher"] = {
            "arch": "resnet14",
            "weights": "train",
            "training": {"epochs": 1, "augmentation": views()},
        }
    config = read_trial(parse_yaml(json.dumps(content), "test"))
    its_teacher = replace(config.teacher, digest="t" * 64) if config.teacher else None
    return replace(config, data=replace(config.data, digest="d" * 64), teacher=its_teacher)


@pytest.fixture(scope="module")
def split() -> Split:
    return images()


@pytest.fixture(scope="module")
def teacher() -> Network:
    network = build_model("resnet14", num_classes=10, stem="conv3x3", seed=7)
    with torch.no_grad():
        network.train()(torch.randn(64, 3, 16, 16, generator=torch.Generator().manual_seed(0)))
        network.head.weight.mul_(20)
    return network.eval().requires_grad_(False)


def ran(
    config: TrialConfig, split: Split, teacher: Network | None, folder: Path | None = None, **execution: Any
) -> tuple[Trained, list[EpochMetrics]]:
    """Train; with a folder the teacher is a cache there."""
    rows: list[EpochMetrics] = []
    cache = None
    if folder is not None:
        mode = execution.pop("mode", "full")
        cache = open_cache(plan_cache([config], split, mode, folder=folder), config, teacher, folder)
    done = train(config, split, teacher, Execution(cache=cache, report=rows.append, **execution))
    return done, rows


def inputs_of(config: TrialConfig, split: Split, teacher: Network, cache: TeacherCache | None = None) -> EpochInputs:
    return EpochInputs(config, split, split.train, Execution(cache=cache), teacher)


def timeless(row: EpochMetrics) -> dict[str, float]:
    return {name: value for name, value in row.values.items() if not name.startswith(("time", "seconds/", "speed/"))}


def assert_same(one: tuple[Trained, list[EpochMetrics]], other: tuple[Trained, list[EpochMetrics]]) -> None:
    assert [(row.epoch, timeless(row)) for row in one[1]] == [(row.epoch, timeless(row)) for row in other[1]]
    state, wanted = one[0].network.state_dict(), other[0].network.state_dict()
    for name, tensor in state.items():
        assert torch.equal(tensor, wanted[name]), name


@pytest.mark.parametrize(
    "training",
    [
        {"nesterov": True, "clip_norm": 5.0},
        {"drop_last": True, "schedule": "cosine"},
        {"clip_norm": None, "momentum": 0.0, "nesterov": False, "report_every": 2},
        {"batch_size": 50, "channels_last": False},
        {"batch_size": 500, "lr_warmup_epochs": 2},
        {"precision": "bf16", "epochs": 2},
        {"augmentation": {"rotate_flip": {"size": 16, "steps": 5}}},
        {"optimizer": "adamw", "lr": 0.01, "ema_decay": 0.9, "label_smoothing": 0.1},
    ],
    ids=lambda training: "-".join(training),
)
def test_the_device_path_has_the_bits_of_the_eager_one(
    split: Split, teacher: Network, tmp_path: Path, training: dict[str, Any]
) -> None:
    config = config_of(**training)
    eager = ran(config, split, teacher, tmp_path / "eager", engine="eager")
    device = ran(config, split, teacher, tmp_path / "device", engine="graph")
    assert sum(row.values["teacher/images"] for row in eager[1]) > 0, "the caches were empty"
    assert_same(device, eager)


@pytest.mark.parametrize("room", ["whole", "epoch"])
@pytest.mark.parametrize("mode", ["full", "stream"])
def test_a_cache_that_is_there_or_partly_there(
    split: Split, teacher: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: str, mode: str
) -> None:
    monkeypatch.setattr(device_cache, "_HOST_ROOM", 10**9 if room == "whole" else 0)
    few = config_of(
        epochs=2, drop_last=True, augmentation={"crop_flip": {"size": 16, "pad": 0}}
    )  # two views of an image
    eager = ran(few, split, teacher, tmp_path / "eager", engine="eager", mode=mode)
    partly = ran(few, split, teacher, tmp_path / "device", engine="graph", mode=mode)
    assert_same(partly, eager)
    again = ran(few, split, teacher, tmp_path / "device", engine="graph", mode=mode)
    assert [row.values["teacher/images"] for row in again[1]] == [0, 0]
    assert [row.values["train/loss"] for row in again[1]] == [row.values["train/loss"] for row in eager[1]]


@pytest.mark.parametrize("room", ["whole", "epoch"])
def test_the_next_epoch_s_entries_are_read_while_this_one_trains(
    split: Split, teacher: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: str
) -> None:
    monkeypatch.setattr(device_cache, "_HOST_ROOM", 10**9 if room == "whole" else 0)
    monkeypatch.setattr(device_cache, "mirrors", {})
    config = config_of()
    ran(config, split, teacher, tmp_path)  # the entries of its three epochs
    cache = open_cache(plan_cache([config], split, "full", folder=tmp_path), config, teacher, tmp_path)
    assert cache is not None
    student = initial_student(config, split.num_classes, torch.device("cpu"))
    step = TrainStep(student, config.method.build(None), config.training)
    epochs = DeviceEpochs(step, inputs_of(config, split, teacher, cache))
    epochs._prepare(1)
    assert isinstance(epochs.cache, device_cache.DeviceCache)
    assert epochs.cache._reading is not None
    epochs.cache._reading.join()
    shown = [cache.spec.slots(epoch, *epochs.inputs.order(epoch)) for epoch in (1, 2)]
    assert set(cache.blocks[0]._seen_S.nonzero()[0]) == {*shown[0].tolist(), *shown[1].tolist()}
    cache.close()


def test_blocks_of_several_grids(split: Split, teacher: Network, tmp_path: Path) -> None:
    config = config_of({"recipe": "iCD-KD", "scales": [1, 2, 3], "base_scale_weights": [1, 2, 3]}, epochs=2)
    eager = ran(config, split, teacher, tmp_path, engine="eager")
    (tmp_path / "other").mkdir()
    device = ran(config, split, teacher, tmp_path / "other", engine="graph")
    assert_same(device, eager)


def test_mobilenet(split: Split, teacher: Network, tmp_path: Path) -> None:
    config = config_of(student="mobilenetv2", epochs=2, batch_size=32, drop_last=True)
    eager = ran(config, split, teacher, tmp_path / "eager", engine="eager")
    assert_same(ran(config, split, teacher, tmp_path / "device", engine="graph"), eager)


@pytest.mark.parametrize("method", ["cross_entropy", "SP", "LDRLD", "iCD-NKD"])
def test_a_live_teacher_or_none(split: Split, teacher: Network, method: str) -> None:
    config = config_of(method if method != "cross_entropy" else {"name": method}, epochs=2, teacher=method[0] != "c")
    its_teacher = teacher if config.teacher else None
    device = ran(config, split, its_teacher, engine="graph")
    assert_same(device, ran(config, split, its_teacher, engine="eager"))


@pytest.mark.parametrize("paths", [("eager", "graph"), ("graph", "eager"), ("graph", "graph")])
def test_a_resume_may_change_the_path(split: Split, teacher: Network, tmp_path: Path, paths: tuple[str, str]) -> None:
    config = config_of(schedule="cosine")
    cache = tmp_path / "cache"
    (tmp_path / "checkpoints").mkdir()
    whole = ran(config, split, teacher, cache, engine="eager")
    rows: list[EpochMetrics] = []
    for path, stop in zip(paths, (lambda: True, lambda: False), strict=True):
        done, more = ran(config, split, teacher, cache, engine=path, stop=stop, checkpoints=tmp_path / "checkpoints")
        rows += more
    assert [row.values["train/loss"] for row in rows] == [row.values["train/loss"] for row in whole[1]]
    for name, tensor in done.network.state_dict().items():
        assert torch.equal(tensor, whole[0].network.state_dict()[name]), name


class RecordingEpochs(DeviceEpochs):
    """Records and replays on a CPU: a graph that calls the step, and a capture that runs nothing."""

    did: ClassVar[list[str]] = []
    broken: ClassVar[bool] = False
    capturing: ClassVar[bool] = False

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.why_not = ""

    def _step_at_counter(self) -> None:
        if self.capturing:
            self.did.append("record")
            if self.broken:
                raise RuntimeError("operation not permitted when stream is capturing")
            return
        self.did.append("run")
        super()._step_at_counter()


@pytest.mark.parametrize("fault", ["", "refused", "wrong"])
def test_which_steps_are_replayed(
    split: Split, teacher: Network, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, fault: str
) -> None:
    config = config_of(epochs=3, report_every=3)  # 4 full steps of 12 images and one of 2
    did: list[str] = []
    made: list[RecordingEpochs] = []

    class Graph:
        def replay(self) -> None:
            did.append("replay")
            DeviceEpochs._step_at_counter(made[0])
            if fault == "wrong":
                made[0].step.weights[0].data.add_(1e-3)

    def epochs_of(*args: Any) -> RecordingEpochs:
        made.insert(0, RecordingEpochs(*args))
        return made[0]

    @contextmanager
    def graph(graph: Graph, *, stream: str, capture_error_mode: str) -> Iterator[None]:
        assert (stream, capture_error_mode) == ("stream", "thread_local")
        monkeypatch.setattr(RecordingEpochs, "capturing", True)
        try:
            yield
        finally:
            monkeypatch.setattr(RecordingEpochs, "capturing", False)

    monkeypatch.setattr("icd.training.engine._failed", [])
    monkeypatch.setattr(RecordingEpochs, "did", did)
    monkeypatch.setattr(RecordingEpochs, "broken", fault == "refused")
    monkeypatch.setattr("icd.training.loop.DeviceEpochs", epochs_of)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", graph)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: "stream")
    device = ran(config, split, teacher, engine="graph")
    begun = ["run"] * 3 + ["record"]
    if fault == "refused":
        assert did == begun + ["run"] * 9
        assert "runs without: operation not permitted" in caplog.text
        assert device[0].engine.startswith("eager: a step could not be recorded: operation not permitted")
        assert "could not be recorded: operation not permitted" in spent()
        did.clear()
        again = ran(config, split, teacher, engine="graph")
        assert did == ["run"] * 12, "nothing is recorded any more in this process"
        assert "a recording in this process failed before" in again[0].engine
    elif fault == "wrong":  # found when both are compared, and put back
        assert did == [*begun, "replay", "run", "replay", "run"] + ["run"] * 9
        assert "from the step itself; runs without" in caplog.text
        assert device[0].engine.startswith("eager: a recorded step strays by ")
        assert not spent()
    else:
        assert did == [*begun, "replay", "run", "replay", "run"] + ["replay"] * 9
        assert not caplog.text
        assert device[0].engine == "graph"
        resumed = made[0]
        resumed.graph, resumed._log = None, None  # as where a resume finds every epoch done
        assert resumed.name == "unknown: every step was done before a resume"
    assert_same(device, ran(config, split, teacher, engine="eager"))


def test_two_trials_share_what_is_on_the_device(split: Split, teacher: Network, tmp_path: Path) -> None:
    first, second = config_of(epochs=1), config_of(epochs=1, lr=0.02)
    caches = [
        open_cache(plan_cache([config], split, "full", folder=tmp_path), config, teacher, tmp_path)
        for config in (first, second)
    ]
    mirrors = [device_cache.DeviceCache(cache, torch.device("cpu"), 50).mirrors[0] for cache in caches if cache]
    assert mirrors[0] is mirrors[1]


def test_mirrors_of_earlier_trials_make_room(
    split: Split, teacher: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, cpu = config_of(epochs=1), torch.device("cpu")
    plans = [plan_cache([config], split, "full", folder=tmp_path / name) for name in ("a", "b")]
    first, second = (open_cache(plan, config, teacher, tmp_path / name) for plan, name in zip(plans, "ab", strict=True))
    assert first is not None
    assert second is not None
    monkeypatch.setattr(device_cache, "mirrors", {})
    assert device_cache.DeviceCache(first, cpu, 50).whole
    monkeypatch.setattr(device_cache, "_HOST_ROOM", 0)
    assert not device_cache.DeviceCache(second, cpu, 50).whole
    assert device_cache.mirrors == {}
    monkeypatch.undo()
    assert device_cache.DeviceCache(first, cpu, 50).whole
    assert device_cache.mirrors
    live = config_of("SP", epochs=1)
    assert open_cache(plan_cache([live], split, folder=tmp_path), live, teacher, tmp_path) is None
    assert device_cache.mirrors == {}


def test_a_loss_that_is_not_finite_is_found_with_its_step(split: Split, teacher: Network) -> None:
    config = config_of(lr=1e6, clip_norm=None)
    found = []
    for engine in ("eager", "graph"):
        with pytest.raises(NonFiniteLossError) as caught:
            ran(config, split, teacher, engine=engine)
        found.append((caught.value.epoch, caught.value.step, str(caught.value)))
    assert found[0] == found[1]


def test_what_cannot_be_recorded_runs_without_and_says_why(split: Split, teacher: Network) -> None:
    config = config_of({"recipe": "CRD", "num_negatives": 20}, epochs=1)
    asked = ran(config, split, teacher, engine="graph")
    assert asked[0].engine.startswith("eager: CRD, ")
    assert asked[0].engine.endswith(" works on the host in every step")
    usual = ran(config, split, teacher)
    assert usual[0].engine == "eager"
    assert_same(asked, usual)


@pytest.mark.parametrize("stale", ["nothing", "images", "rate", "epoch", "all", "draws"])
@pytest.mark.parametrize("batch_size", [12, 50])
def test_a_recording_of_stale_inputs_is_found(split: Split, teacher: Network, stale: str, batch_size: int) -> None:
    """A graph that shows one batch for ever is right at the moment of its recording, and only there."""
    config = config_of(student="drops", schedule="cosine", batch_size=batch_size)
    student = initial_student(config, split.num_classes, torch.device("cpu")).train()
    step = TrainStep(student, config.method.build(None), config.training)
    epochs = DeviceEpochs(step, inputs_of(config, split, teacher))
    epochs._prepare(1)
    for _ in range(3 if batch_size == 12 else 0):
        epochs._step_at_counter()
    if batch_size == 50:
        epochs._step_at_counter()
        epochs._counter.zero_()
    inputs = {"images": epochs._indices_T3B, "rate": epochs._rates, "epoch": epochs._epoch}
    held = {name: tensor.clone() for name, tensor in inputs.items() if stale in (name, "all")}
    now = int(epochs._counter)

    class Graph:
        def replay(self) -> None:
            before = {name: inputs[name].clone() for name in held}
            for name, tensor in held.items():
                inputs[name].copy_(tensor if name == "epoch" else tensor[now].expand_as(tensor))
            if stale == "draws":  # as they were when it was recorded
                seed_step(torch.device("cpu"), config.seed, 0, 0)
            epochs._step_at_counter()
            for name, tensor in before.items():
                inputs[name].copy_(tensor)

    state = [tensor.clone() for tensor in (*step.changing(), *inputs.values(), epochs._counter)]
    drift = epochs._drift(Graph())  # type: ignore[arg-type]
    assert (drift == 0) if stale == "nothing" else (drift > _DRIFT)
    for tensor, old in zip((*step.changing(), *inputs.values(), epochs._counter), state, strict=True):
        assert torch.equal(tensor, old)


def test_a_mirror_that_is_there_is_used_however_full_the_device_is(
    split: Split, teacher: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device_cache, "mirrors", {})
    cpu, config = torch.device("cpu"), config_of(epochs=1)
    cache = open_cache(plan_cache([config], split, "full", folder=tmp_path), config, teacher, tmp_path)
    assert cache is not None
    first = device_cache.DeviceCache(cache, cpu, 50)
    monkeypatch.setattr(device_cache, "_HOST_ROOM", -1)  # what is free less a fifth, once trials use that fifth
    second = device_cache.DeviceCache(cache, cpu, 50)
    assert second.whole
    assert second.mirrors[0] is first.mirrors[0]


def test_a_mirror_that_does_not_fit_after_all_is_one_of_an_epoch(
    split: Split, teacher: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device_cache, "mirrors", {})
    cpu, config = torch.device("cpu"), config_of(epochs=1)
    cache = open_cache(plan_cache([config], split, "full", folder=tmp_path), config, teacher, tmp_path)
    assert cache is not None
    real = device_cache.Mirror

    def full(spec: Any, num_entries: int, device: torch.device) -> device_cache.Mirror:
        if num_entries > 50:
            raise torch.OutOfMemoryError("CUDA out of memory")  # another process was faster
        return real(spec, num_entries, device)

    monkeypatch.setattr(device_cache, "Mirror", full)
    made = device_cache.DeviceCache(cache, cpu, 50)
    assert not made.whole
    assert len(made.mirrors[0].is_filled_S) == 50
    assert device_cache.mirrors == {}
