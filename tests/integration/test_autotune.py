"""Precision and layout that are left open are chosen by real steps, written down, and kept."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from icd.config.read_trial import read_trial
from icd.config.trial import TrialConfig, settled
from icd.config.yaml import parse_yaml
from icd.data.split import Split
from icd.errors import ConfigError
from icd.search.core.preparation import PreflightRequest
from icd.training.loop import Execution, train
from icd.training.step import TrainStep
from icd.worker import autotune
from icd.worker.autotune import Choice, choose, described
from icd.worker.preflight import run_preflight
from icd.worker.single_trial import run_trial
from icd.worker.trial_inputs import TrialFolders
from tests.tiny import images, views, write_images

OPEN: dict[str, Any] = {"precision": "auto", "channels_last": "auto"}
Speeds = Callable[[dict[Choice, float]], list[Choice]]


def config_of(teacher: Any = None, path: Path = Path("tiny.npz"), **training: Any) -> TrialConfig:
    content = {
        "data": {"name": "npz", "path": str(path), "val_fraction": 0.5},
        "student": {"arch": "resnet8", "stem": "conv7x7_s2"},
        "method": "KD" if teacher else {"name": "cross_entropy"},
        "training": {"epochs": 1, "batch_size": 25, "augmentation": views(), **training},
        **({"teacher": teacher} if teacher else {}),
    }
    return read_trial(parse_yaml(json.dumps(content), "test"))


@pytest.fixture(scope="module")
def split() -> Split:
    return images()


@pytest.fixture
def speeds(monkeypatch: pytest.MonkeyPatch) -> Speeds:
    """Let a step seem to take so long; the list tells what was timed."""

    def become(seconds: dict[Choice, float]) -> list[Choice]:
        timed = []

        def fake(one: TrainStep, batch: Any, where: Any) -> float:
            precision: Any = one.training.precision
            choice = Choice(precision, one.training.uses_channels_last)
            assert batch.images_BCHW.is_contiguous(memory_format=_layout(choice))
            timed.append(choice)
            return seconds[choice]

        monkeypatch.setattr(autotune, "_timed", fake)
        return timed

    return become


def _layout(choice: Choice) -> Any:
    return torch.channels_last if choice.channels_last else torch.contiguous_format


@pytest.mark.parametrize("fastest", [Choice("fp32", True), Choice("bf16", True), Choice("bf16", False)])
def test_the_fastest_is_chosen_and_said(split: Split, speeds: Speeds, fastest: Choice) -> None:
    every = [Choice("fp32", True), Choice("fp32", False), Choice("bf16", True), Choice("bf16", False)]
    speeds({choice: 0.1 if choice == fastest else 0.2 for choice in every})
    config = config_of(**OPEN)
    choice, seconds = choose(config, split, Execution())
    assert choice == fastest
    assert seconds == {other: 0.1 if other == fastest else 0.2 for other in every}
    line = described(config, choice, seconds)
    assert line.startswith(f"student resnet8: {fastest} (fp32, channels last ")
    assert line.endswith(" a step)")
    assert settled(config, choice).training.is_settled


def test_only_what_is_open_is_timed_and_the_hopeless_only_once(split: Split, speeds: Speeds) -> None:
    timed = speeds({Choice("fp32", True): 0.1, Choice("bf16", True): 0.9})
    choice, seconds = choose(config_of(precision="auto"), split, Execution())
    assert choice == Choice("fp32", True)
    assert list(seconds) == [choice, Choice("bf16", True)]
    assert timed.count(Choice("bf16", True)) == 2  # the first call, which is not counted, and the one that is
    assert timed.count(choice) > 3


def test_other_work_on_the_machine_does_not_decide(split: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bf16 takes half of the work here; a load that comes and goes makes the wall clock say anything."""
    work, wall, calls = [0.0], [0.0], [0]

    def step(one: TrainStep, *args: Any) -> None:
        seconds = 0.1 if one.training.precision == "bf16" else 0.2
        first = calls[0] < 2
        calls[0] += 1
        work[0] += seconds + (5.0 if first else 0.0)  # kernels are loaded
        wall[0] += seconds * (20.0 if one.training.precision == "bf16" else 1.0)

    monkeypatch.setattr(TrainStep, "__call__", step)
    monkeypatch.setattr("time.process_time", lambda: work[0])
    monkeypatch.setattr("time.perf_counter", lambda: wall[0])
    choice, seconds = choose(config_of(precision="auto"), split, Execution())
    assert choice == Choice("bf16", True)
    assert {other.precision: round(value, 9) for other, value in seconds.items()} == {"fp32": 0.2, "bf16": 0.1}


def test_choices_take_turns_and_the_least_disturbed_step_counts(split: Split, speeds: Speeds) -> None:
    timed = speeds({Choice("fp32", True): 0.1, Choice("bf16", True): 0.101})
    choice, _ = choose(config_of(precision="auto"), split, Execution())
    assert timed[:6] == 3 * [Choice("fp32", True), Choice("bf16", True)]
    assert choice == Choice("fp32", True)


def test_real_steps_are_timed(split: Split) -> None:
    choice, seconds = choose(config_of(channels_last="auto"), split, Execution())
    assert seconds[choice] <= 1.05 * min(seconds.values())
    assert all(0 < value < 10 for value in seconds.values())


def test_the_choice_is_in_the_trial_and_stays(tmp_path: Path, speeds: Speeds) -> None:
    places, path = TrialFolders(root=tmp_path), write_images(tmp_path / "images.npz")
    speeds({Choice("fp32", True): 0.2, Choice("fp32", False): 0.1})
    said: list[str] = []
    first = run_trial(config_of(path=path, channels_last="auto"), "one", places, Execution(), announce=said.append)
    kept = yaml.safe_load((tmp_path / "trials/one/config.yaml").read_text())["training"]
    assert (kept["precision"], kept["channels_last"]) == ("fp32", False)
    assert any("student resnet8: fp32, channels first" in line for line in said)
    timed = speeds({Choice("fp32", True): 0.1, Choice("fp32", False): 0.2})
    again = run_trial(config_of(path=path, channels_last="auto"), "one", places, Execution(), resume=True)
    assert again == first
    assert timed == []


def test_a_sweep_chooses_once_for_each_student(tmp_path: Path, speeds: Speeds) -> None:
    path = write_images(tmp_path / "images.npz")
    timed = speeds({Choice("fp32", True): 0.1, Choice("bf16", True): 0.2})
    configs = [config_of(path=path, precision="auto", lr=lr).to_data() for lr in (0.1, 0.2)]
    request = PreflightRequest(configs=configs, root=str(tmp_path))
    prepared = run_preflight(request, lambda line: None, lambda: False)
    assert list(prepared.tuned.values()) == [("fp32", True)]
    assert prepared.pin(config_of(path=path, precision="auto", lr=0.3)).training.precision == "fp32"
    between = config_of(path=path, precision="auto", batch_size=37)  # of a range, of which only the ends were prepared
    assert prepared.pin(between).training.precision == "fp32"
    timed.clear()
    kept = dict.fromkeys(prepared.tuned, ("bf16", True))
    request = PreflightRequest(configs=configs, root=str(tmp_path), tuned=kept)
    prepared = run_preflight(request, lambda line: None, lambda: False)
    assert timed == []
    assert prepared.pin(config_of(path=path, precision="auto")).training.precision == "bf16"


def test_nothing_is_trained_with_an_open_choice(split: Split) -> None:
    with pytest.raises(ValueError, match="must be chosen before a trial is trained"):
        train(config_of(precision="auto"), split, None, Execution())


def test_a_teacher_s_must_be_given() -> None:
    with pytest.raises(ConfigError) as caught:
        config_of(
            teacher={"arch": "resnet14", "weights": "train", "training": {"epochs": 1, "augmentation": views(), **OPEN}}
        )
    assert [str(problem) for problem in caught.value.problems] == [
        f"test:1: teacher.training.{name}: {name} of a teacher must be given, not chosen by timing, but got 'auto'"
        for name in ("precision", "channels_last")
    ]
