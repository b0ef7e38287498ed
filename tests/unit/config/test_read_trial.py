"""Good trial files: defaults, presets, rows, round trips, keys, overrides, advice and the learning rate."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from icd.config.checks import advice
from icd.config.read_trial import read_trial
from icd.config.training import PRESETS, TrainingConfig
from icd.config.trial import TeacherConfig, TrialConfig, differences
from icd.config.yaml import apply_overrides, parse_yaml, read_yaml
from icd.data import DATASETS
from icd.data.views import CropFlip
from icd.errors import ConfigError
from icd.fields import annotations
from icd.losses import BASE_LOSSES
from icd.methods import METHODS, PAPER_ROWS, CellDistillation, CrossEntropy
from icd.models import MODELS

PAIR: dict[str, Any] = {"student": "resnet8", "teacher": "resnet20", "method": "KD"}
KEY = "55407ce7eef4f0e1da991cd50341126305a4648c0098347833232b8dee271620"  # of the pair, on 2026-12-01


def trial(*overrides: str, **parts: Any) -> TrialConfig:
    """Read the pair with parts replaced; None removes one."""
    data = {name: value for name, value in {**PAIR, **parts}.items() if value is not None}
    document = parse_yaml(yaml.safe_dump(data), "x.yaml")
    return read_trial(apply_overrides(document, overrides))


def cells(config: TrialConfig) -> CellDistillation:
    assert isinstance(config.method, CellDistillation)
    return config.method


def again(config: TrialConfig) -> TrialConfig:
    return read_trial(parse_yaml(yaml.safe_dump(config.to_data()), "again.yaml"))


# Defaults and short forms


def test_student_and_method_are_enough() -> None:
    config = read_trial(parse_yaml("student: resnet8\nmethod: cross_entropy\n", "x.yaml"))
    assert config.data.name == "digits100"
    assert (config.data.val_fraction, config.data.split_seed, config.data.options) == (0.1, 0, ())
    assert (config.student.arch, config.student.stem, config.student.pretrained) == ("resnet8", "conv3x3", False)
    assert config.method == CrossEntropy()
    assert config.teacher is None
    assert config.seed == 0
    assert config.training.augmentation == CropFlip(size=32, pad=2, flip=False)
    assert (config.training.epochs, config.training.schedule, config.training.lr) == (8, "cosine", 0.1)


def test_names_stand_for_mappings() -> None:
    long = trial(
        data={"name": "cifar100"},
        student={"arch": "resnet8"},
        teacher={"arch": "resnet20", "weights": "train", "seed": 0},
        method={"recipe": "iCD-KD"},
        training={"preset": "cifar100"},
    )
    assert trial(data="cifar100", method="iCD-KD", training="cifar100") == long
    assert trial(data="cifar100", method="iCD-KD") == long


def test_a_file_and_its_overrides_are_read(tmp_path: Path) -> None:
    path = tmp_path / "trial.yaml"
    path.write_text("student: resnet8\nteacher: resnet20\nmethod: iCD-KD\n")
    assert read_trial(read_yaml(path)) == trial(method="iCD-KD")
    changed = read_trial(read_yaml(path, ["seed=3", "method=iCD-DKD"]))
    assert changed == replace(trial(method="iCD-DKD"), seed=3)


@pytest.mark.parametrize("name", DATASETS)
def test_every_data_set_brings_its_preset(name: str) -> None:
    data = {"name": name, "path": "x"} if DATASETS[name].needs_path else name
    config = trial(data=data)
    expected = PRESETS[DATASETS[name].preset]
    assert config.training.epochs == expected["epochs"]
    assert config.training.batch_size == expected["batch_size"]
    assert config.training.milestones == tuple(expected.get("milestones", ()))
    assert config.training.clip_norm == expected.get("clip_norm")
    assert config.teacher is not None
    assert config.teacher.training == config.training


def test_data_options_stand_beside_the_name() -> None:
    config = trial(data={"name": "digits100", "train_per_class": 20, "image_seed": 7})
    assert config.data.options == (("image_seed", 7), ("train_per_class", 20))
    assert config.to_data()["data"]["train_per_class"] == 20


def test_null_is_the_default() -> None:
    assert trial(teacher=None, method="cross_entropy").teacher is None
    text = "student: resnet8\nmethod: cross_entropy\nteacher:\ntraining:\n"
    assert read_trial(parse_yaml(text, "x.yaml")) == trial(teacher=None, method="cross_entropy")


# Stems


@pytest.mark.parametrize(
    ("data", "arch", "stem"),
    [
        ("digits100", "resnet8", "conv3x3"),
        ("tiny_imagenet", "resnet8", "conv3x3"),
        ("cub200", "resnet8", "conv7x7_s2"),
        ("cub200", "shufflenetv2", "conv7x7_s2"),
        ("cub200", "torchvision_resnet18", "conv7x7_s2_pool"),
        ("digits100", "torchvision_resnet18", "conv7x7_s2_pool"),
    ],
)
def test_the_image_size_chooses_the_stem(data: str, arch: str, stem: str) -> None:
    config = trial(data=data, student=arch)
    assert config.student.stem == stem
    assert config.teacher is not None
    assert config.teacher.stem == ("conv7x7_s2" if data == "cub200" else "conv3x3")
    assert trial(data=data, student={"arch": arch, "stem": "auto"}) == config
    assert trial(student={"arch": "resnet8", "stem": "conv7x7_s2"}).student.stem == "conv7x7_s2", "or it is asked for"


# Rows of the paper


@pytest.mark.parametrize("row", PAPER_ROWS)
def test_a_row_is_the_paper_s(row: str) -> None:
    assert trial(method=row).method == PAPER_ROWS[row]
    assert trial(method={"recipe": row}).method == PAPER_ROWS[row]


@pytest.mark.parametrize("name", METHODS)
def test_a_method_may_be_named_alone(name: str) -> None:
    assert trial(method={"name": name}).method == trial(method=name).method == METHODS[name]()


def test_a_row_keeps_what_the_file_does_not_change() -> None:
    method = cells(trial(method={"recipe": "iCD-DKD", "cluster_weight": 3}))
    assert method == replace(cells(trial(method="iCD-DKD")), cluster_weight=3.0)
    assert method.warmup_epochs == 20


def test_new_scales_drop_the_row_s_weights() -> None:
    method = cells(trial(method={"recipe": "iCD-KD", "scales": [1, 4]}))
    assert method.scales == (1, 4)
    assert method.cluster_scale_weights == pytest.approx((0.25, 0.75))
    assert method.base_scale_weights is None
    kept = cells(trial(method={"recipe": "iCD-KD", "cluster_scale_weights": [1, 1, 2]}))
    assert kept.cluster_scale_weights == (0.25, 0.25, 0.5)
    both = cells(trial(method={"recipe": "iCD-KD", "scales": [2, 4], "cluster_scale_weights": [3, 1]}))
    assert both.cluster_scale_weights == (0.75, 0.25)


@pytest.mark.parametrize("name", BASE_LOSSES)
def test_a_base_loss_is_a_name_or_a_name_with_fields(name: str) -> None:
    expected = BASE_LOSSES[name]()
    for said in (name, {name: dict[str, Any]()}, {name: None}):
        assert cells(trial(method={"name": "distill", "base_loss": said})).base_loss == expected
    field = next(iter(annotations(BASE_LOSSES[name])))  # a number: temperature, or a power
    changed = cells(trial(method={"recipe": "KD", "base_loss": {name: {field: 2}}})).base_loss
    assert changed == replace(expected, **{field: 2.0})  # type: ignore[type-var]  # every base loss is a dataclass


# Presets


@pytest.mark.parametrize("data", ["cifar100", "cub200", "tiny_imagenet", "digits100"])
@pytest.mark.parametrize("arch", ["mobilenetv2", "shufflenetv1", "shufflenetv2", "resnet8", "vgg8", "wrn_16_2"])
def test_small_families_have_a_small_rate_where_the_authors_give_one(data: str, arch: str) -> None:
    small = arch in ("mobilenetv2", "shufflenetv1", "shufflenetv2") and data in ("cifar100", "cub200")
    config = trial(data=data, student=arch, method="KD")
    assert config.training.lr == (0.01 if small else PRESETS[data]["lr"])
    assert trial(data=data, student=arch, training={"lr": 0.3}).training.lr == 0.3
    assert config.teacher is not None
    assert config.teacher.training is not None
    assert config.teacher.training.lr == PRESETS[data]["lr"]  # a resnet, whatever the student is


@pytest.mark.parametrize(
    ("changes", "milestones"),
    [
        ({}, (150, 180, 210)),
        ({"epochs": 24}, (15, 18, 21)),
        ({"epochs": 480}, (300, 360, 420)),
        ({"epochs": 5}, (3, 4)),
        ({"epochs": 1}, ()),
        ({"epochs": 24, "milestones": [20]}, (20,)),
        ({"milestones": [20, 30]}, (20, 30)),
        ({"milestones": []}, ()),
        ({"schedule": "cosine"}, ()),
        ({"schedule": "cosine", "epochs": 24}, ()),
        ({"schedule": "step", "epochs": 24}, (15, 18, 21)),
    ],
)
def test_milestones_move_with_the_epochs(changes: dict[str, Any], milestones: tuple[int, ...]) -> None:
    assert trial(data="cifar100", training=changes).training.milestones == milestones


def test_a_teacher_has_its_own_protocol() -> None:
    config = trial(data="cifar100", teacher={"arch": "resnet20", "training": {"epochs": 24}, "seed": 5})
    assert config.teacher is not None
    assert config.teacher.training is not None
    assert (config.training.epochs, config.teacher.training.epochs, config.teacher.seed) == (240, 24, 5)


@pytest.mark.parametrize("weights", ["resnet20-digits", "pretrained"])
def test_a_teacher_that_is_not_trained_has_no_protocol(weights: str) -> None:
    arch = "torchvision_resnet18" if weights == "pretrained" else "resnet20"
    views = {"crop_flip": {"size": 64, "resize": 64}}
    data = {"name": "imagefolder", "path": "imagenet"}  # how many classes it has is known once it is read
    config = trial(data=data, teacher={"arch": arch, "weights": weights}, training={"augmentation": views})
    assert config.teacher == TeacherConfig(
        arch=arch, stem=config.teacher.stem if config.teacher else "conv3x3", weights=weights
    )
    assert again(config) == config


# Round trips


@pytest.mark.parametrize("row", [*PAPER_ROWS, "cross_entropy"])
@pytest.mark.parametrize("data", ["digits100", "cifar100", "tiny_imagenet", "cub200", "npz"])
def test_what_is_written_is_read_again(row: str, data: str) -> None:
    named = {"name": data, "path": "a/b.npz"} if data == "npz" else {"name": data, "split_seed": 3}
    config = trial(data=named, method=row, seed=2)
    assert again(config) == config
    assert again(config).key() == config.key()


@pytest.mark.parametrize("arch", MODELS)
def test_every_network_is_read_again(arch: str) -> None:
    config = trial(student=arch, teacher=arch)
    assert again(config) == config


@pytest.mark.parametrize("loss", BASE_LOSSES)
def test_odd_settings_are_read_again(loss: str) -> None:
    method = {
        "name": "distill",
        "base_loss": {loss: {next(iter(annotations(BASE_LOSSES[loss]))): 0.3}},
        "scales": [4, 1, 2],
        "cluster_scale_weights": [0.1, 0.7, 0.2],
        "base_scale_weights": [3, 1, 1],
        "grid": None,
        "gram": "classes",
        "global_verdict": "logits",
    }
    training = {"clip_norm": None, "momentum": 0, "nesterov": False, "lr": 1e-7, "precision": "bf16"}
    config = trial(method=method, training=training, seed=2**63 - 1)
    assert again(config) == config
    assert cells(config).scales == (1, 2, 4)
    assert cells(config).cluster_scale_weights == (0.7, 0.2, 0.1)


# Keys


def method_key(**fields: Any) -> str:
    return trial(method={"name": "distill", **fields}).key()


def test_equal_settings_have_equal_keys() -> None:
    key = method_key(scales=[1, 2, 4], cluster_scale_weights=[1, 2, 3])
    assert method_key(scales=[4, 1, 2], cluster_scale_weights=[3, 1, 2]) == key
    assert method_key(scales=[1, 2, 4], cluster_scale_weights=[0.1, 0.2, 0.3]) == key
    assert method_key(scales=[1, 2, 4], cluster_scale_weights=[70, 140, 210]) == key
    assert method_key(scales=[1, 2, 4], cluster_scale_weights=[1, 2, 4]) != key
    base = method_key(scales=[1, 2], base_scale_weights=[1, 3])
    assert method_key(scales=[2, 1], base_scale_weights=[0.75, 0.25]) == base
    assert method_key(scales=[1, 2]) != base


def test_equal_numbers_have_equal_keys() -> None:
    assert method_key(cluster_weight=2) == method_key(cluster_weight=2.0)
    assert method_key(cluster_weight=0) == method_key(cluster_weight=-0.0)
    config = trial(method="iCD-KD")
    assert replace(config, method=replace(cells(config), cluster_weight=2)).key() == config.key()


CHANGES = [
    "seed=1", "student=resnet14", "student={arch: resnet8, stem: conv7x7_s2}", "teacher=resnet32",
    "teacher={arch: resnet20, seed: 1}", "teacher={arch: resnet20, weights: other}",
    "teacher={arch: resnet20, training: {epochs: 9}}", "data=cifar100", "data={name: digits100, val_fraction: 0.2}",
    "data={name: digits100, split_seed: 1}", "data={name: digits100, image_seed: 1}",
    "data={name: digits100, path: x}", "method=DKD", "method={recipe: KD, base_loss: {kd: {temperature: 3}}}",
    "method={recipe: KD, base_weight: 0.8}", "method={recipe: KD, ce_weight: 0.8}",
    "method={recipe: KD, warmup_epochs: 1}", "method={recipe: KD, consistent_weight: 0.8}",
    "method={recipe: KD, complementary_weight: 0.8}", "method={recipe: KD, cluster_weight: 0.8}",
    "method={recipe: KD, cluster_temperature: 0.8}", "method={recipe: KD, cluster_temperature_squared: true}",
    "method={recipe: KD, scales: [2]}", "method={recipe: KD, gram: classes}", "method={recipe: KD, grid: 8}",
    "method={recipe: KD, global_verdict: logits}", "method={recipe: KD, allow_repeated_cells: true}",
    "training={epochs: 9}", "training={lr: 0.2}", "training={batch_size: 65}", "training={weight_decay: 0}",
    "training={momentum: 0.8}", "training={nesterov: false}", "training={clip_norm: null}",
    "training={drop_last: true}", "training={precision: bf16}", "training={channels_last: false}",
    "training={report_every: 2}", "training={schedule: step}", "training={lr_decay: 0.2}",
    "training={lr_warmup_epochs: 1}", "training={schedule: step, milestones: [3]}",
    "training={augmentation: {crop_flip: {size: 32, pad: 4, flip: false}}}",
    "training={augmentation: {rand_augment: {size: 32, pad: 4}}}", "training={optimizer: adamw}",
    "training={label_smoothing: 0.1}", "training={ema_decay: 0.999}",
]  # fmt: skip


def test_every_field_changes_the_key() -> None:
    keys = [trial().key(), *(trial(change).key() for change in CHANGES)]
    assert len(set(keys)) == len(keys)


def test_every_field_is_written_and_its_default_leaves_the_key_as_it_is() -> None:
    usual = {"optimizer": "sgd", "label_smoothing": 0.0, "ema_decay": None}
    assert trial(training=usual).key() == trial().key() == KEY
    assert usual.keys() <= trial().to_data()["training"].keys()
    changed = trial(training={"optimizer": "adamw", "label_smoothing": 0.1, "ema_decay": 0.9})
    assert again(changed) == changed


def test_a_preset_says_nothing_of_adamw() -> None:
    plain = trial(training={"optimizer": "adamw"}).training
    assert (plain.lr, plain.weight_decay, plain.nesterov, plain.clip_norm) == (0.001, 0.01, False, 40)
    assert trial(training={"optimizer": "adamw", "lr": 0.003}).training.lr == 0.003
    with pytest.raises(ConfigError, match="nesterov belongs to optimizer sgd, but got True"):
        trial(training={"optimizer": "adamw", "nesterov": True})


def test_how_often_a_training_is_looked_at_is_no_part_of_the_key() -> None:
    plain, rare = trial(), trial("training={measure_every: 5}")
    assert rare.key() == plain.key()
    assert trial("teacher={arch: resnet20, training: {epochs: 9, measure_every: 0}}").key() == (
        trial("teacher={arch: resnet20, training: {epochs: 9}}").key()
    )
    assert rare.to_data()["training"]["measure_every"] == 5
    assert again(rare) == rare


def test_a_data_digest_stands_for_path_and_options() -> None:
    def known(digest: str, **data: Any) -> TrialConfig:
        return trial(data={"name": "npz", "digest": digest, **data})

    assert known("d1", path="a.npz").key() == known("d1", path="b.npz").key()
    assert known("d1", path="a.npz") != known("d1", path="b.npz")
    assert known("d1", path="a.npz").key() != known("d2", path="a.npz").key()
    assert known("d1", path="a.npz").key() != known("d1", path="a.npz", val_fraction=0.2).key()
    assert known("d1", path="a.npz").key() != known("d1", path="a.npz", split_seed=1).key()
    assert again(known("d1", path="a.npz")) == known("d1", path="a.npz")


def test_a_teacher_digest_stands_for_its_origin() -> None:
    def known(digest: str, **teacher: Any) -> str:
        return trial(teacher={"arch": "resnet20", "digest": digest, **teacher}).key()

    assert known("d1") == known("d1", weights="some-name") == known("d1", seed=4, training={"epochs": 3})
    assert known("d1") != known("d2")
    assert known("d1") != known("d1", stem="conv7x7_s2")
    assert known("d1") != known("d1", arch="resnet32")


def test_a_method_without_a_teacher_drops_it() -> None:
    config = trial(method="cross_entropy")
    assert config.teacher is None
    assert config.key() == trial(method="cross_entropy", teacher=None).key()
    assert "teacher" not in config.to_data()


# Overrides


def test_a_bad_override_is_named_and_has_no_line() -> None:
    with pytest.raises(ConfigError) as caught:
        trial("training.lr=fast", "seed=-1", studnt="resnet8")
    texts = [str(problem) for problem in caught.value.problems]
    assert any(text.startswith("--set training.lr=fast: training.lr: must be a number") for text in texts)
    assert any(text.startswith("--set seed=-1: seed: 0 <= seed <= ") for text in texts)
    assert any(text.startswith("x.yaml:3: studnt: unknown key") for text in texts)


# Problems


def test_a_scale_as_large_as_the_map_is_allowed_and_a_larger_one_on_request() -> None:
    assert cells(trial(method={"recipe": "iCD-KD", "scales": [1, 8]})).scales == (1, 8)
    with pytest.raises(ConfigError, match="8 x 8 for resnet8 at 32 pixels"):
        trial(method={"recipe": "iCD-KD", "scales": [1, 9]})
    forced = {"recipe": "iCD-KD", "allow_repeated_cells": True}
    assert cells(trial(data="cifar100", student="mobilenetv2", method=forced)).scales == (1, 2, 4)


# Advice


def test_a_usual_trial_needs_no_advice() -> None:
    assert advice(trial(data="cifar100", method="iCD-KD")) == []
    assert advice(trial(method="cross_entropy")) == []


@pytest.mark.parametrize(
    ("parts", "part"),
    [
        ({"data": "cifar100", "student": "mobilenetv2", "training": {"lr": 0.05}}, "training.lr 0.05: the cifar100"),
        ({"training": {"lr": 1}}, "with 0.1"),
        ({"method": "iCD-DKD"}, "method.warmup_epochs 20: longer than the training (8 epochs)"),
        ({"method": {"recipe": "KD", "cluster_weight": 2}}, "method.cluster_weight: scale 1 alone"),
        (
            {"training": {"augmentation": {"crop_flip": {"size": 32}}}},
            "training.augmentation.flip: a mirrored image of digits100",
        ),
    ],
)
def test_advice_names_the_field(parts: dict[str, Any], part: str) -> None:
    lines = advice(trial(**parts))
    assert len(lines) == 1
    assert part in lines[0]


# Differences


def test_differences_are_dotted_and_sorted() -> None:
    old, new = trial(method="iCD-KD"), trial("seed=3", method={"recipe": "iCD-KD", "cluster_weight": 8})
    assert differences(old.to_data(), new.to_data()) == ["method.cluster_weight: 2.0 -> 8.0", "seed: 0 -> 3"]
    assert differences(old.to_data(), old.to_data()) == []
    assert differences({"a": {"b": 1}}, {}) == ["a: {'b': 1} -> None"]
    assert differences({"a": {"b": 1}}, {"a": {"c": 1}}) == ["a.b: 1 -> None", "a.c: None -> 1"]


# Learning rate


def training(preset: str = "cifar100", **changes: Any) -> TrainingConfig:
    return trial(data=preset, training=changes).training


@pytest.mark.parametrize(
    ("epoch", "rate"),
    [(1, 0.05), (150, 0.05), (151, 5e-3), (180, 5e-3), (181, 5e-4), (210, 5e-4), (211, 5e-5), (240, 5e-5)],
)
@pytest.mark.parametrize("progress", [0.0, 0.5, 0.999])
def test_the_step_schedule_drops_after_a_milestone(epoch: int, rate: float, progress: float) -> None:
    assert training().learning_rate(epoch, progress) == pytest.approx(rate)


def test_cosine_falls_from_the_rate_to_almost_nothing() -> None:
    cosine = training("digits100")
    assert cosine.learning_rate(1, 0.0) == 0.1
    assert cosine.learning_rate(5, 0.0) == pytest.approx(0.05)
    assert 0 < cosine.learning_rate(8, 0.999) < 1e-6
    steps = [cosine.learning_rate(epoch, part / 10) for epoch in range(1, 9) for part in range(10)]
    assert steps == sorted(steps, reverse=True)
    assert len(set(steps)) == len(steps)


def test_the_rate_warms_up_over_ldrld_s_20_epochs() -> None:
    warm = training(lr_warmup_epochs=20)
    assert warm.learning_rate(1, 0.0) == pytest.approx(0.05 / 20)
    assert warm.learning_rate(1, 0.9) == warm.learning_rate(1, 0.0)
    assert warm.learning_rate(10, 0.0) == pytest.approx(0.025)
    assert warm.learning_rate(20, 0.0) == 0.05
    assert warm.learning_rate(150, 0.0) == 0.05
    assert warm.learning_rate(151, 0.0) == pytest.approx(5e-3)
