"""Every file in ``bad/`` is refused with sentences a person can act on; one table says which."""

from pathlib import Path

import pytest

from icd.config.read_trial import load_trial
from icd.errors import ConfigError

FOLDER = Path(__file__).parent / "bad"
CANARY = "hunter2canary"

# File -> what must be said: for each problem one part that starts with ":LINE:" (or no line, where the file has none),
# then the value that broke the rule and what was probably meant.
EXPECTED: dict[str, tuple[str, ...]] = {
    "anchor": (":1: anchors ('&') and aliases ('*') are not allowed",),
    "arch_missing": (":1: student.arch: required key is missing",),
    "base_loss_fields_number": (":6: method.base_loss.kd:", "but got 4"),
    "base_loss_number": (":5: method.base_loss:", "but got 4", "allowed: "),
    "batch_zero": (":4: training.batch_size:", "but got 0"),
    "binary": (":2: must be UTF-8 text",),
    "bom_only": ("must not be empty",),
    "bool_no": (":5: method.cluster_temperature_squared:", "but got 'NO'"),
    "bool_number": (":5: method.allow_repeated_cells:", "but got 1"),
    "both_missing": (":1: student: required key is missing", ":1: method: required key is missing"),
    "clip_text": (":4: training.clip_norm:", "but got 'none'"),
    "clip_zero": (":4: training.clip_norm:", "but got 0"),
    "cluster_temperature_zero": (":5: method.cluster_temperature:", "but got 0"),
    "cluster_weight_clock": (":5: method.cluster_weight:", "but got '12:30'"),
    "cluster_weight_nan": (":5: method.cluster_weight:", "but got nan"),
    "cluster_weight_negative": (":5: method.cluster_weight:", "but got -2"),
    "cluster_weight_text": (":5: method.cluster_weight:", "but got 'much'"),
    "colon_in_value": (":1: not valid YAML at column 17: mapping values are not allowed here",),
    "colon_missing": (":2: not valid YAML at column 1: while scanning a simple key, could not find expected ':'",),
    "control_character": (":2: must be text without control characters",),
    "crd_momentum_one": (":5: method.momentum:", "but got 1"),
    "data_list": (":3: data:", "but got ['cifar100']"),
    "data_name_missing": (":3: data.name: required key is missing",),
    "data_null": (":3: data:", "but got None"),
    "data_path_number": (":5: data.path:", "but got 7"),
    "data_wrong_and_training_wrong": (
        ":3: data:",
        "but got 'cifar1000'",
        "did you mean 'cifar100'?",
        ":5: training.lr:",
        "but got 'fast'",
        ":6: training.epochz:",
        "did you mean 'epochs'?",
    ),
    "deep": (":3: must not be nested deeper than 32",),
    "duplicate_key": (":4: seed: duplicate key, first set on line 3",),
    "duplicate_key_inside": (":6: method.cluster_weight: duplicate key, first set on line 5",),
    "empty": ("must not be empty",),
    "epochs_fraction": (":4: training.epochs:", "but got 2.5"),
    "epochs_text": (":4: training.epochs:", "but got 'manymanymanymanymanymanymanymanymanyman"),
    "epochs_true": (":4: training.epochs:", "but got True"),
    "epochs_zero": (":4: training.epochs:", "but got 0"),
    "feature_map_gone": (
        ":2: teacher.training.augmentation:",
        "but got 32",
        ":5: training.augmentation: images must be large enough to leave vgg8 (the student) a feature map",
        "but got 4",
        ":5: training.augmentation: images must be large enough to leave vgg13 (the teacher) a feature map",
    ),
    "feature_map_gone_plain": (":4: training.augmentation:", "but got 4"),
    "field_of_other_method": (":5: method.scales: unknown key; it is a field of distill",),
    "gram_list": (":5: method.gram:", "but got ['cells']"),
    "gram_unknown": (":5: method.gram:", "but got 'cell'"),
    "grid_text": (":5: method.grid:", "but got 'four'"),
    "grid_zero": (":5: method.grid:", "but got 0"),
    "huge_integer": (":3: seed: an integer must not have more than 100 digits",),
    "indentation": (":3: not valid YAML at column 8: mapping values are not allowed here",),
    "k_one": (":8: method.base_loss.ldrld.k:", "but got 1"),
    "k_too_large": (":8: method.base_loss.ldrld.k:", "but got 101"),
    "k_too_large_cifar10": (":7: method.base_loss.ldrld.k:", "but got 11"),
    "list_as_key": (":3: a key must be a string",),
    "lr_decay_two": (":4: training.lr_decay:", "but got 2"),
    "lr_list": (":4: training.lr:", "but got [0.1, 0.2]"),
    "lr_nan": (":4: training.lr:", "but got nan"),
    "lr_text": (":4: training.lr:", "but got '0.1'"),
    "lr_zero": (":4: training.lr:", "but got 0"),
    "merge": (":3: method.'<<': merge keys ('<<') are not allowed",),
    "merge_bomb": (":1: anchors ('&') and aliases ('*') are not allowed",),
    "method_list": (":3: method:", "but got ['KD']"),
    "method_missing": (":1: method: required key is missing",),
    "method_name_list": (":4: method.name:", "but got ['distill']", "did you mean 'distill'?"),
    "method_null": (":2: method: required key is missing",),
    "method_number": (":3: method:", "but got 1"),
    "method_row_null": (":4: method.recipe:", "but got None", "allowed: "),
    "milestones_cosine": (":5: training.milestones: milestones belong to schedule step", "but got (150,)"),
    "milestones_late": (":6: training.milestones:", "but got (12, 24)"),
    "milestones_number": (":5: training.milestones:", "but got 150"),
    "milestones_order": (":5: training.milestones:", "but got (180, 150)"),
    "milestones_zero": (":5: training.milestones[0]:", "but got 0"),
    "momentum_one": (":4: training.momentum:", "but got 1"),
    "nesterov_alone": (":4: training.nesterov:", "but got True"),
    "no_base_loss": (":5: method.base_loss:", "but got {}"),
    "npz_empty_path": (":5: data.path: npz needs a path to its file or folder",),
    "npz_without_path": (":3: data.path: npz needs a path to its file or folder",),
    "null": (":1: must be a mapping of keys to values", "but got None"),
    "number_as_key": (":4: training.150: a key must be a string",),
    "octal_text": (":4: training.epochs:", "but got '0o'"),
    "only_comments": ("must not be empty",),
    "option_zero": (":5: data.train_per_class:", "train_per_class >= 1 must hold, but got 0"),
    "views_files_only": (":5: training.augmentation:", "these views show image files only"),
    "option_bool": (":5: data.image_seed:", "but got True"),
    "option_negative": (":5: data.train_per_class:", "but got -1"),
    "option_of_other_data": (":5: data.image_seed: unknown key",),
    "option_text": (":5: data.image_seed:", "but got 'one'"),
    "precision_number": (":4: training.precision:", "but got 16"),
    "preset_number": (":4: training.preset:", "but got 100", "allowed: "),
    "pretrained_resnet8": (":3: student.pretrained:", "but got 'resnet8'"),
    "training_list": (":3: training:", "but got ['cifar100']"),
    "training_number": (":3: training:", "but got 240"),
    "rank_offset": (":7: method.base_loss.ldrld.rank_offset:", "but got -1"),
    "row_and_name": (":4: method.recipe:", "but got 'KD'"),
    "scale_fraction": (":5: method.scales[1]:", "but got 2.5"),
    "scale_mobilenet": (":6: method.scales:", "but got (1, 2, 4)"),
    "scale_negative": (":7: method.scales[1]:", "but got -2"),
    "scale_null": (":5: method.scales[1]:", "but got None"),
    "scale_quoted": (":5: method.scales[1]:", "but got '2'"),
    "scale_resnet8_16": (
        ":5: method.scales: every scale must be at most the feature map of the student, 8 x 8 for resnet8 at 32 pixe",
        "but got (1, 16)",
        ":5: method.scales: every scale must be at most the feature map of the teacher, 8 x 8 for resnet20 at 32 pix",
    ),
    "scale_teacher": (":6: method.scales:", "but got (1, 8)"),
    "scale_text": (":7: method.scales[1]:", "but got 'two'"),
    "scale_zero": (":5: method.scales[1]:", "but got 0"),
    "scales_authors_text": (":5: method.scales:", "but got '[1,2,4]'"),
    "scales_empty": (":5: method.scales:", "but got ()"),
    "scales_nested": (":5: method.scales[0]:", "but got [1, 2]"),
    "scales_number": (":5: method.scales:", "but got 4"),
    "scales_twice": (":5: method.scales:", "but got (1, 2, 2)"),
    "schedule_unknown": (":4: training.schedule:", "but got 'linear'"),
    "secret_key": (
        ":3: password: unknown key; allowed: data, fingerprint, method, plugins, seed, student, teacher, training",
    ),
    "secret_nested": (":3: data.path: npz needs a path", ":5: data.api_key: unknown key"),
    "secret_syntax": (
        ":3: not valid YAML at column 11: while scanning a quoted scalar, found unexpected end of stream",
    ),
    "secret_url": (":6: data.path: a URL must not hold credentials",),
    "seed_fraction": (":3: seed:", "but got 1.0"),
    "seed_large": (":3: seed:", "but got 9223372036854775808"),
    "seed_negative": (":3: seed:", "but got -1"),
    "seed_text": (":3: seed:", "but got 'one'"),
    "seed_true": (":3: seed:", "but got True"),
    "six_mistakes": (
        ":3: data.val_fraction:",
        "but got 0.9",
        ":4: student:",
        "but got 'resnet88x'",
        "did you mean 'resnet8x4'?",
        ":7: teacher.sed:",
        "did you mean 'seed'?",
        ":10: method.cluster_weight:",
        "but got -2",
        ":12: training.lr:",
        "but got 'fast'",
        ":13: seed:",
        "but got -1",
    ),
    "split_seed_negative": (":5: data.split_seed:", "but got -1"),
    "stem_list": (":3: student.stem:", "but got ['conv3x3']"),
    "student_arch_list": (":2: student.arch:", "but got ['resnet8']", "did you mean 'resnet8'?"),
    "student_arch_number": (":2: student.arch:", "but got 8", "allowed: "),
    "student_missing": (":1: student: required key is missing",),
    "student_null": (":1: student: required key is missing",),
    "student_number": (":1: student:", "but got 8"),
    "student_pretrained_text": (":3: student.pretrained:", "but got 'yes'"),
    "tab": (":2: not valid YAML at column 1: while scanning for the next token, found character ",),
    "tag": (":1: tags ('!') are not allowed",),
    "teacher_false": (":2: teacher:", "but got False"),
    "teacher_finetuned_named": (":6: teacher.pretrained: pretrained says how weights: train begins, but weights is",),
    "teacher_finetuned_resnet20": (":4: teacher.pretrained:", "but got 'resnet20'"),
    "teacher_list": (":2: teacher:", "but got ['resnet20', 'resnet56']"),
    "teacher_missing": (":1: teacher: distill needs a teacher, but the file names none",),
    "teacher_missing_row": (":1: teacher: crd needs a teacher, but the file names none",),
    "teacher_pretrained_classes": (":5: teacher.weights: a pretrained teacher needs data of its 1000", "icd teacher"),
    "teacher_pretrained_resnet20": (":4: teacher.weights:", "but got 'resnet20'"),
    "teacher_seed_negative": (":4: teacher.seed:", "but got -1"),
    "teacher_size": (":5: teacher.training.augmentation:", "but got 64"),
    "teacher_size_student": (":2: teacher.training.augmentation:", "but got 32"),
    "teacher_views_unlike_images": (
        ":5: teacher.training.augmentation: images of digits100 are 32 x 32, which these views do not resize",
        "but got 64; take that size, or crop_flip with resize",
        ":5: teacher.training.augmentation: teacher and student must see images of one size (32)",
        "but got 64",
    ),
    "teacher_weights_number": (":4: teacher.weights:", "but got 3"),
    "temperature_inf": (":7: method.base_loss.nkd.temperature:", "but got -inf"),
    "temperature_negative": (
        ":7: method.base_loss.dkd.temperature:",
        "but got -4",
        ":8: method.base_loss.dkd.beta:",
        "but got -1",
    ),
    "temperature_zero": (":7: method.base_loss.kd.temperature:", "but got 0"),
    "top_list": (":1: must be a mapping of keys to values", "but got [{'student': 'resnet8'}, {'method': 'KD'}]"),
    "top_text": (":1: must be a mapping of keys to values", "but got 'resnet8'"),
    "two_base_losses": (":5: method.base_loss:", "but got {'kd': {}, 'dkd': {}}"),
    "two_documents": (":3: only one document is allowed",),
    "unclosed_bracket": (
        ":6: not valid YAML at column 1: while parsing a flow sequence, expected ',' or ']', but got '<stream end>'",
    ),
    "unclosed_quote": (
        ":1: not valid YAML at column 10: while scanning a quoted scalar, found unexpected end of stream",
    ),
    "unknown_arch": (":1: student:", "but got 'resnet9000x4'", "did you mean 'resnet8x4'?"),
    "unknown_arch_far": (":1: student:", "but got 'transformer'", "allowed: "),
    "unknown_arch_long": (":3: teacher.arch:", "but got 'x1x1x1x1x1x1x1x1x1x1x1x1x1x1x1x1x1x1x1x", "allowed: "),
    "unknown_base_loss": (":5: method.base_loss:", "but got 'dk'", "did you mean 'dkd'?"),
    "unknown_base_loss_key": (":7: method.base_loss.kd.temprature:", "did you mean 'temperature'?"),
    "unknown_base_loss_tag": (":6: method.base_loss.kdd:", "but got 'kdd'", "did you mean 'kd'?"),
    "unknown_data": (":5: data.val_fracton:", "did you mean 'val_fraction'?"),
    "unknown_data_options": (":5: data.options: unknown key", "allowed: "),
    "unknown_dataset": (":3: data:", "but got 'cifar1000'", "did you mean 'cifar100'?"),
    "unknown_long_key": (
        ":3: 'kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk...kkkkkkkkkkkkkkkkkkkkkkk': unknown key",
        "allowed: ",
    ),
    "unknown_method": (":3: method:", "but got 'cross_entrpy'", "did you mean 'cross_entropy'?"),
    "unknown_method_key": (":5: method.cluster_wieght:", "did you mean 'cluster_weight'?"),
    "unknown_method_key_far": (
        ":5: method.'zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz...zzzzzzzzzzzzzzzzzzzzzzz': unknown key",
        "allowed: ",
    ),
    "unknown_method_name": (":4: method.name:", "but got 'distil'", "did you mean 'distill'?"),
    "unknown_method_row": (":3: method:", "but got 'iCD-DK'", "did you mean 'iCD-DKD'?"),
    "unknown_preset": (":3: training:", "but got 'cifar-100'", "did you mean 'cifar100'?"),
    "unknown_preset_key": (":4: training.preset:", "but got 'imagnet'", "did you mean 'imagenet'?"),
    "unknown_training_key": (":4: training.learning_rate: unknown key; write training.lr: 0.1",),
    "unknown_row": (":4: method.recipe:", "but got 'SDKD'", "did you mean 'SD-KD'?"),
    "unknown_row_key": (":5: method.cluster_wieght:", "did you mean 'cluster_weight'?"),
    "unknown_stem": (":3: student.stem:", "but got 'conv7x7_s2_pool'"),
    "unknown_student": (":3: student.pretraind:", "did you mean 'pretrained'?"),
    "unknown_teacher": (":4: teacher.weihgts:", "did you mean 'weights'?"),
    "unknown_teacher_arch": (":3: teacher.arch:", "but got 'ResNet56x'", "did you mean 'resnet56'?"),
    "unknown_teacher_training": (":5: teacher.training.epoch:", "did you mean 'epochs'?"),
    "unknown_teacher_stem": (":4: teacher.stem:", "but got 'cifr'"),
    "unknown_top": (":2: techer:", "did you mean 'teacher'?"),
    "unknown_view_key": (":7: training.augmentation.crop_flip.padding:", "did you mean 'pad'?"),
    "unknown_views": (":5: training.augmentation.crop_flp:", "but got 'crop_flp'", "did you mean 'crop_flip'?"),
    "val_fraction_large": (":5: data.val_fraction:", "but got 0.9"),
    "val_fraction_percent": (":5: data.val_fraction:", "but got '10%'"),
    "val_fraction_zero": (":5: data.val_fraction:", "but got 0"),
    "views_flip_text": (":7: training.augmentation.crop_flip.flip:", "but got 'on'"),
    "views_number": (":4: training.augmentation:", "but got 32", "allowed: "),
    "views_of_other_preset": (":4: training.augmentation:", "but got 64; take that size, or crop_flip with resize"),
    "views_resize": (":7: training.augmentation.crop_flip.resize:", "but got 16"),
    "views_size_missing": (":5: training.augmentation.crop_flip.size: required key is missing",),
    "views_size_too_small": (
        ":2: teacher.training.augmentation:",
        "but got 32",
        ":3: method.scales: every scale must be at most the feature map of the student, 1 x 1 for resnet8 at 1 pixel",
        "but got (1, 2, 4)",
        ":3: method.scales: every scale must be at most the feature map of the teacher, 1 x 1 for resnet20 at 1 pixe",
    ),
    "views_size_zero": (":6: training.augmentation.crop_flip.size:", "but got 0"),
    "views_two": (":4: training.augmentation:", "but got {'crop_flip': {'size': 32}, 'rotate_flip': {'size': 32}}"),
    "views_unlike_images": (":4: training.augmentation:", "but got 64; take that size, or crop_flip with resize"),
    "weight_decay_negative": (":4: training.weight_decay:", "but got -0.0001"),
    "weights_all_off": (":5: method.base_weight:", "but got 0.0"),
    "weights_count": (":6: method.cluster_scale_weights:", "but got (1.0, 1.0, 1.0)"),
    "weights_count_row": (":5: method.base_scale_weights:", "but got (1.0, 1.0)"),
    "weights_inf": (":6: method.base_scale_weights[1]:", "but got inf"),
    "weights_nan": (":6: method.cluster_scale_weights[1]:", "but got nan"),
    "weights_negative": (":6: method.cluster_scale_weights[1]:", "but got -1"),
    "weights_zero": (":6: method.cluster_scale_weights:", "but got (0.0, 0.0)"),
}


def refused(name: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        load_trial(FOLDER / f"{name}.yaml")
    return caught.value


def test_the_table_and_the_folder_agree() -> None:
    assert sorted(EXPECTED) == sorted(path.stem for path in FOLDER.iterdir())
    assert len(EXPECTED) >= 60


@pytest.mark.parametrize("name", EXPECTED)
def test_a_bad_file_is_refused_with_every_mistake_in_it(name: str) -> None:
    error = refused(name)
    message = str(error)
    for part in EXPECTED[name]:
        assert part in message
    assert len(error.problems) == max(1, sum(part.startswith(":") for part in EXPECTED[name]))
    numbers = [problem.line or 0 for problem in error.problems]
    assert numbers == sorted(numbers), "in the order of the file"
    check_what_holds_for_every_refusal(error, str(FOLDER / f"{name}.yaml"))


def check_what_holds_for_every_refusal(error: ConfigError, source: str) -> None:
    assert error.exit_code == 2
    assert error.code == "CONFIG"
    assert CANARY not in repr(error)
    assert CANARY not in str(error.__cause__)
    lines = str(error).split("\n")
    assert len(lines) == len(error.problems)
    assert len(set(lines)) == len(lines)
    for line in lines:
        assert line.startswith(f"{source}:")
        assert line.isprintable()
        assert len(line.removeprefix(str(FOLDER))) < 400
        for noise in ("Traceback", "pydantic", "<class", "object at 0x", "icd."):
            assert noise not in line.removeprefix(source)


@pytest.mark.parametrize("name", [name for name in EXPECTED if name.startswith("secret")])
def test_a_secret_is_in_the_file_so_that_not_printing_it_means_something(name: str) -> None:
    assert CANARY in (FOLDER / f"{name}.yaml").read_text()
