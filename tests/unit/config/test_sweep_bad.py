"""Sweep files that are refused, each with sentences a person can act on; one table says which."""

import time

import pytest

from icd.errors import ConfigError
from tests.unit.config.sweeps import sweep, sweep_text

NET = "{teacher: resnet20, student: resnet8}"

# Name -> parts that differ from the small sweep, its space (None for the usual one), and what must be said: for each
# problem a part that starts with ":LINE:" (x.yaml precedes it), then the value and what was probably meant.
Case = tuple[dict[str, str | None], str | None, tuple[str, ...]]
CASES: dict[str, Case] = {
    # The whole file
    "unknown_key": ({"samplers": "tpe"}, None, (":10: samplers: unknown key; did you mean 'sampler'?",)),
    "name_missing": ({"name": None}, None, ("name: required key is missing",)),
    "name_number": ({"name": "7"}, None, (":1: name: must be 1 to 64 letters", "but got 7")),
    "name_path": ({"name": "../x"}, None, (":1: name: must be 1 to 64 letters", "but got '../x'")),
    "name_dot": ({"name": ".x"}, None, (":1: name: must be 1 to 64 letters",)),
    "name_long": ({"name": "x" * 65}, None, (":1: name: must be 1 to 64 letters",)),
    "name_newline": ({"name": '"x\\n"'}, None, (":1: name: must be 1 to 64 letters", r"but got 'x\n'")),
    "space_missing": ({}, "", ("space: required key is missing",)),
    "space_empty": ({"ranges": "{}"}, "", (":9: space: must name at least one thing to sample",)),
    "space_list": ({"ranges": "[scales]"}, "", (":9: space: must be a mapping of keys to values, but got ['scales']",)),
    "method_missing": ({"method": None}, "protocol: {lr: {low: 0.1, high: 1}}", ("method: required key is missing",)),
    "student_missing": ({"student": None}, None, ("student: required key is missing",)),
    "teacher_missing": ({"teacher": None}, None, (":5: method needs", "teacher: distill needs a teacher")[1:]),
    # The fixed part, as in a trial's file
    "fixed_student": ({"student": "resnet88"}, None, (":4: student: unknown network", "did you mean 'resnet8'?")),
    "fixed_data": ({"data": "digits10"}, None, (":2: data: unknown data set", "did you mean 'digits100'?")),
    "fixed_option": ({"data": "{name: digits100, train_per_class: .nan}"}, None, (":2: data.train_per_class:", "nan")),
    "fixed_method": ({"method": "iCD-KDD"}, None, (":5: method: unknown", "but got 'iCD-KDD'")),
    "fixed_method_list": ({"method": "[KD]"}, None, (":5: method: must be a mapping", "but got ['KD']")),
    "fixed_method_row_list": ({"method": "{row: [KD]}"}, None, (":5: method.row: unknown row", "but got ['KD']")),
    "fixed_seed": ({"seed": "-1"}, None, (":10: seed: seed must be a whole number", "but got -1")),
    "fixed_protocol": ({"protocol": "{epochs: 0}"}, None, (":10: protocol.epochs: epochs >= 1", "but got 0")),
    "fixed_protocol_key": ({"protocol": "{epoch: 9}"}, None, (":10: protocol.epoch: unknown key", "'epochs'")),
    "fixed_protocol_list": (
        {"protocol": "[1]"},
        "protocol: {lr: {low: 0.1, high: 1}}",
        (":10: protocol: must be a mapping", "but got [1]"),
    ),
    # Ranges
    "range_order": (
        {},
        "cluster_weight: {low: 2, high: 1}",
        (":9: space.cluster_weight.low: low < high (1) must hold",),
    ),
    "range_equal": (
        {},
        "cluster_weight: {low: 2, high: 2}",
        (":9: space.cluster_weight.low: low < high (2) must hold",),
    ),
    "range_low_missing": ({}, "cluster_weight: {high: 2}", (":9: space.cluster_weight.low: required key is missing",)),
    "range_high_missing": ({}, "cluster_weight: {low: 2}", (":9: space.cluster_weight.high: required key",)),
    "range_key": (
        {},
        "cluster_weight:\n  low: 1\n  hihg: 2",
        (
            ":9: space.cluster_weight.high: required key",
            ":11: space.cluster_weight.hihg: unknown key; did you mean 'high'?",
        ),
    ),
    "range_min_max": ({}, "cluster_weight: {min: 1, max: 2}", (".min: unknown key", ".max: unknown key")),
    "range_log_zero": (
        {},
        "cluster_weight: {low: 0, high: 2, log: true}",
        (":9: space.cluster_weight.low: a logarithmic range needs low > 0, but got 0",),
    ),
    "range_log_text": ({}, "cluster_weight: {low: 1, high: 2, log: yes}", (".log: must be true or false",)),
    "range_log_step": (
        {},
        "cluster_weight: {low: 1, high: 2, log: true, step: 1}",
        (":9: space.cluster_weight.step: a logarithmic range has no step",),
    ),
    "range_step_zero": ({}, "cluster_weight: {low: 1, high: 2, step: 0}", (".step: step > 0 must hold, but got 0",)),
    "range_step_negative": ({}, "cluster_weight: {low: 1, high: 2, step: -1}", (".step: step > 0 must hold",)),
    "range_step_misfit": (
        {},
        "cluster_weight: {low: 1, high: 2, step: 0.3}",
        (".high: must be low plus a whole number of steps (0.3), but got 2", "take high: 1.9 or 2.2"),
    ),
    "range_step_tiny": ({}, "cluster_weight: {low: 1, high: 2, step: 1e-9}", (".step: must leave at most 100000",)),
    "range_text": ({}, "cluster_weight: {low: one, high: 2}", (".low: must be a number, but got 'one'",)),
    "range_true": ({}, "cluster_weight: {low: true, high: 2}", (".low: must be a number, but got True",)),
    "range_nan": ({}, "cluster_weight: {low: .nan, high: 2}", (".low: must be finite, but got nan",)),
    "range_infinite": ({}, "cluster_weight: {low: 1, high: .inf}", (".high: must be finite, but got inf",)),
    "range_null": ({}, "cluster_weight: {low: null, high: 2}", (".low: must be a number, but got None",)),
    "range_huge": ({}, "protocol: {epochs: {low: 1, high: 99999999999999999999}}", (".high: must fit 64 bits",)),
    "range_outside": (
        {},
        "cluster_weight: {low: -1, high: 2}",
        (":9: space.cluster_weight.low: cluster_weight >= 0 must hold, but got -1",),
    ),
    "range_outside_zero": (
        {},
        "cluster_temperature: {low: 0, high: 2}",
        (".low: cluster_temperature > 0 must hold, but got 0",),
    ),
    "range_of_integer": ({}, "grid: {low: 1.5, high: 4}", (":9: space.grid.low: must be a whole number, but got 1.5",)),
    "range_of_integer_step": ({}, "grid: {low: 1, high: 4, step: 1.5}", (".step: must be a whole number",)),
    "range_of_literal": ({}, "gram: {low: 1, high: 4}", (":9: space.gram: gram is no number, so it has no range",)),
    "range_of_bool": ({}, "allow_repeated_cells: {low: 0, high: 1}", ("allow_repeated_cells is no number",)),
    "range_of_list": ({}, "scales: {low: 1, high: 4}", (":9: space.scales: scales is no number",)),
    "range_of_views": ({}, "protocol: {views: {low: 1, high: 4}}", (":9: space.protocol.views: views is no number",)),
    "mapping_for_text": ({}, "gram: {cells: 1}", (":9: space.gram: gram is no number",)),
    # Fixed values and choices
    "value_type": ({}, "cluster_weight: much", (":9: space.cluster_weight: must be a number, but got 'much'",)),
    "value_range": ({}, "cluster_weight: -1", (":9: space.cluster_weight: cluster_weight >= 0 must hold",)),
    "value_literal": ({}, "gram: cell", (":9: space.gram: must be one of", "but got 'cell'")),
    "choice_empty": ({}, "gram: {choices: []}", (":9: space.gram.choices: must be a list of at least one option",)),
    "choice_text": ({}, "gram: {choices: cells}", (":9: space.gram.choices: must be a list", "but got 'cells'")),
    "choice_key": ({}, "gram: {choices: [cells], default: 1}", (":9: space.gram.default: unknown key",)),
    "choice_twice": ({}, "cluster_weight: {choices: [2, 1, 2.0]}", (".choices[2]: must differ from option 1",)),
    "choice_type": (
        {},
        "cluster_weight:\n  choices:\n    - 1\n    - two",
        (":12: space.cluster_weight.choices[1]: must be",),
    ),
    "choice_range": ({}, "cluster_weight: {choices: [1, -2]}", (".choices[1]: cluster_weight >= 0 must hold",)),
    "choice_bool": ({}, "allow_repeated_cells: {choices: [1]}", (".choices[0]: must be true or false",)),
    # Scales and weights
    "scales_same": ({}, "scales: {choices: [[1, 2], [2, 1]]}", (".choices[1]: must differ from option 1",)),
    "scales_text": ({}, "scales: {choices: [[1, two]]}", (":9: space.scales.choices[0][1]: must be a whole number",)),
    "scales_zero": ({}, "scales: {choices: [[0, 1]]}", (":9: space.scales.choices[0][0]: scales[0] >= 1 must hold",)),
    "scales_none": ({}, "scales: {choices: [[]]}", (":9: space.scales.choices[0]: scales must name at least one",)),
    "scales_twice": ({}, "scales: {choices: [[1], [2, 2]]}", (".choices[1]: scales must differ from each other",)),
    "scales_fixed_twice": ({}, "scales: [2, 2]\ncluster_weight: 2", (":9: space.scales: scales must differ",)),
    "scales_too_fine": (
        {},
        "cluster_weight: 2\nscales:\n  choices:\n    - [1, 2]\n    - [1, 16]",
        (":13: space.scales.choices[1]: every scale must be at most the feature map of the student", "(1, 16)"),
    ),
    "scales_too_fine_for_one": (
        {"student": None},
        "student:\n- resnet8\n- mobilenetv2\nscales: {choices: [[1, 2], [1, 2, 4], [2]]}",
        (":12: space.scales.choices[1]: every scale must be at most the feature map of the student, 2 x 2 for mob",),
    ),
    "scales_row_too_fine": (
        {"student": "mobilenetv2"},
        None,
        ("method.scales: every scale must be at most the feature map of the student", "allow_repeated_cells: true"),
    ),
    "subsets_empty": ({}, "scales: {subsets_of: []}", (".subsets_of: must name 1 to 8 different scales, but got []",)),
    "subsets_many": (
        {},
        "scales: {subsets_of: [1, 2, 3, 4, 5, 6, 7, 8, 9]}",
        (".subsets_of: must name 1 to 8 different scales",),
    ),
    "subsets_twice": ({}, "scales: {subsets_of: [1, 1]}", (".subsets_of: must name 1 to 8 different scales",)),
    "subsets_text": ({}, "scales: {subsets_of: [1, two]}", (":9: space.scales.subsets_of[1]: must be a whole number",)),
    "subsets_number": ({}, "scales: {subsets_of: 4}", (":9: space.scales.subsets_of: must be a list, but got 4",)),
    "subsets_key": ({}, "scales: {subsets_of: [1], contains: [1]}", (".contains: unknown key", "'containing'")),
    "subsets_containing": (
        {},
        "scales: {subsets_of: [1, 2], containing: [4]}",
        (".containing[0]: must be one of subsets_of, 1, 2, but got 4",),
    ),
    "weights_zero": ({}, "scale_weights: {low: 0, high: 1}", (".low: scale_weights > 0 must hold, but got 0",)),
    "weights_step": ({}, "scale_weights: {low: 0.1, high: 1, step: 0.1}", (".step: unknown key",)),
    "weights_never": (
        {},
        "scales: [1, 2]\nscale_weights: {low: 0.1, high: 1}",
        (":10: space.scale_weights: no set of scales has two weights that matter",),
    ),
    "weights_length": (
        {},
        "scales: {choices: [[1, 2, 4], [1, 2]]}\nscale_weights: [1, 2, 3]",
        (":10: space.scale_weights: scale_weights must give one weight for each of the 2 scales",),
    ),
    # Base losses and methods
    "loss_unknown": ({}, "base_loss: [kd, dkb]", (":9: space.base_loss[1]: unknown base loss", "did you mean 'dkd'?")),
    "loss_name": ({}, "base_loss: kdd", (":9: space.base_loss: unknown base loss", "'kd'")),
    "loss_twice": ({}, "base_loss: [kd, kd]", (":9: space.base_loss[1]: must differ from the other choices",)),
    "loss_number": ({}, "base_loss: {choices: [4]}", (":9: space.base_loss.choices[0]: unknown base loss",)),
    "loss_empty": ({}, "base_loss: {}", (":9: space.base_loss: must name at least one base loss",)),
    "loss_field": (
        {},
        "base_loss:\n  kd: {}\n  dkd: {gama: {low: 1, high: 2}}",
        (":11: space.base_loss.dkd.gama: unknown key",),
    ),
    "loss_fields_number": ({}, "base_loss:\n  kd: 4\n  dkd:", (":10: space.base_loss.kd: must be a mapping",)),
    "loss_range": (
        {},
        "base_loss:\n  kd:\n    temperature: {low: 0, high: 8}\n  dkd:",
        (":11: space.base_loss.kd.temperature.low: temperature > 0 must hold, but got 0",),
    ),
    "loss_integer": (
        {},
        "base_loss: {kd: , ldrld: {k: {low: 2.5, high: 9}}}",
        ("ldrld.k.low: must be a whole number",),
    ),
    "loss_classes": (
        {},
        "base_loss:\n  kd:\n  ldrld: {k: {low: 3, high: 101}}",
        (":11: space.base_loss.ldrld.k: k <= number of classes (100) must hold, but got 101",),
    ),
    "field_unknown": (
        {},
        "cluster_wieght: {low: 1, high: 2}",
        (":9: space.cluster_wieght: unknown key", "'cluster_weight'"),
    ),
    "field_of_another": (
        {},
        "similarity_weight: {low: 1, high: 2}",
        (":9: space.similarity_weight: is a field of sp, but the sweep's method is distill",),
    ),
    "field_of_distill": (
        {"method": "SP"},
        "scales: {subsets_of: [1, 2]}",
        (":9: space.scales: is a field of distill, but the sweep's method is sp",),
    ),
    "method_and_fields": (
        {"method": None},
        "method: [KD, SP]\ncluster_weight: {low: 1, high: 2}",
        (":9: space.method: sample whole methods (space.method) or fields of one method, not both", "move cluster_w"),
    ),
    "method_twice": ({}, "method: [KD, SP]", (":5: method: is sampled in space.method and fixed here", "'iCD-KD'")),
    "method_unknown": (
        {"method": None},
        "method:\n  - KD\n  - SPP",
        (":11: space.method[1]: unknown method, but got 'SPP'; did you mean 'SP'?",),
    ),
    "method_field": (
        {"method": None},
        "method:\n  KD: {}\n  SP: {cluster_weight: 1}",
        (":11: space.method.SP.cluster_weight: unknown key",),
    ),
    "method_range": (
        {"method": None},
        "method:\n  KD: {}\n  SP:\n    similarity_weight: {low: -1, high: 1}",
        (":12: space.method.SP.similarity_weight.low: similarity_weight >= 0 must hold, but got -1",),
    ),
    "method_scales": (
        {"method": None},
        "method:\n  KD: {}\n  SD-KD: {scales: [1, 64]}",
        (":11: space.method.SD-KD.scales: every scale must be at most the feature map",),
    ),
    "method_empty": ({"method": None}, "method: []", (":9: space.method: must be a list of at least one option",)),
    # Networks, protocol, seed
    "student_twice": ({}, "student: [resnet8, resnet14]", (":4: student: is sampled in space.student and fixed here",)),
    "student_unknown": (
        {"student": None},
        "student:\n  - resnet8\n  - resnet15",
        (":11: space.student[1]: unknown network, but got 'resnet15'",),
    ),
    "student_stem": (
        {"student": None},
        "student:\n  choices:\n    - resnet8\n    - {arch: resnet8, stem: cup}",
        (":12: space.student.choices[1].stem: stem of resnet8 must be one of",),
    ),
    "student_name": ({"student": None}, "student: resnet8", (":9: space.student: must be a list",)),
    "student_number": ({"student": None}, "student: [8]", (":9: space.student[0]: must be a network's name",)),
    "student_same": ({"student": None}, "student: [resnet8, resnet8]", (".student[1]: must differ from option 1",)),
    "teacher_weights": (
        {"teacher": None},
        "teacher: {choices: [resnet20, {arch: resnet20, weight: train}]}",
        (":9: space.teacher.choices[1].weight: unknown key; did you mean 'weights'?",),
    ),
    "pair_and_student": ({"teacher": None}, f"pair: [{NET}]", (":4: student: space.pair sets the student too",)),
    "pair_incomplete": (
        {"teacher": None, "student": None},
        "pair: [{teacher: resnet20}]",
        (":9: space.pair[0].student: a pair needs a teacher and a student, but got None",),
    ),
    "pair_key": (
        {"teacher": None, "student": None},
        "pair: [{teacher: resnet20, student: resnet8, stem: cub}]",
        (":9: space.pair[0].stem: unknown key",),
    ),
    "pair_unknown": (
        {"teacher": None, "student": None},
        f"pair:\n  choices:\n    - {NET}\n    - teacher: resnet20\n      student: resnet9",
        (":13: space.pair.choices[1].student: unknown network, but got 'resnet9'",),
    ),
    "protocol_key": ({}, "protocol: {lrr: {low: 0.1, high: 1}}", (":9: space.protocol.lrr: unknown key", "'lr'")),
    "protocol_list": ({}, "protocol: [lr]", (":9: space.protocol: must be a mapping of keys to values",)),
    "protocol_range": ({}, "protocol: {lr: {low: 0, high: 1}}", (":9: space.protocol.lr.low: lr > 0 must hold",)),
    "protocol_preset": ({}, "protocol: {preset: {choices: [cub201]}}", (".choices[0]: unknown preset", "'cub200'")),
    "protocol_milestones": (
        {"protocol": "cifar100"},
        "protocol:\n  epochs: {low: 100, high: 240}\n  milestones: [150]",
        (":11: space.protocol.milestones: milestones < epochs (100) must hold",),
    ),
    "seed_text": ({}, "seed: {choices: [0, one]}", (":9: space.seed.choices[1]: must be a whole number",)),
    "seed_negative": ({}, "seed: {choices: [0, -1]}", (":9: space.seed.choices[1]: seed must be a whole number",)),
    "seed_range": ({}, "seed: {low: 0, high: 9}", (":9: space.seed: must be a list of options or {choices: [...]}",)),
    "seed_of_the_sampler": ({"seed": "one"}, "seed: [0, 1]", (":10: seed: seed must be", "but got 'one'")),
    "seed_of_the_sampler_negative": ({"seed": "-1"}, "seed: [0, 1]", (":10: seed: seed must be", "but got -1")),
    # Baselines
    "row_unknown": ({"enqueue": "[KD, iCD-KB]"}, None, (":10: enqueue[1]: unknown row", "did you mean 'iCD-KD'?")),
    "row_method": ({"enqueue": "[distill]"}, None, (":10: enqueue[0]: unknown row, but got 'distill'",)),
    "row_number": ({"enqueue": "[7]"}, None, (":10: enqueue[0]: unknown row, but got 7",)),
    "enqueue_text": ({"enqueue": "KD"}, None, (":10: enqueue: must be a list of rows or mappings, but got 'KD'",)),
    "label_twice": (
        {"enqueue": "[KD, {label: KD, seed: 1}]"},
        None,
        (":10: enqueue[1]: every baseline needs a label",),
    ),
    "label_missing": ({"enqueue": "[{seed: 1}]"}, None, (":10: enqueue[0].label: required key is missing",)),
    "label_text": ({"enqueue": "[{label: a b}]"}, None, (":10: enqueue[0].label: must be 1 to 64 letters",)),
    "baseline_key": (
        {"enqueue": "[{label: a, methods: KD}]"},
        None,
        (".methods: unknown key; did you mean 'method'?",),
    ),
    "baseline_data": ({"enqueue": "[{label: a, data: cifar10}]"}, None, (":10: enqueue[0].data: unknown key",)),
    "baseline_method": (
        {"enqueue": "[KD, {label: a, method: {cluster_weight: -1}}]"},
        None,
        (":10: enqueue[1].method.cluster_weight: cluster_weight >= 0 must hold, but got -1",),
    ),
    "baseline_protocol": (
        {"enqueue": "[{label: a, protocol: {epochs: 0}}]"},
        None,
        (":10: enqueue[0].protocol.epochs: epochs >= 1 must hold, but got 0",),
    ),
    "from_itself": ({"enqueue": "{from: x}"}, None, (":10: enqueue.from: must be another sweep", "but got 'x'")),
    "from_all_at_once": (
        {"enqueue": "[KB, {from: a/b, top: 0, topp: 1}, {from: other}, {from: other, top: 2.5}]"},
        None,
        (
            ":10: enqueue[0]: unknown row, but got 'KB'",
            ":10: enqueue[1].topp: unknown key; did you mean 'top'?",
            ":10: enqueue[1].from: must be 1 to 64 letters",
            ":10: enqueue[1].top: top >= 1 must hold, but got 0",
            ":10: enqueue[3].top: must be a whole number, but got 2.5",
        ),
    ),
    "from_twice": (
        {"enqueue": "[{from: other}, {from: other, top: 2}]"},
        None,
        (":10: enqueue[1].from: every sweep may be named once, but got 'other'",),
    ),
    "from_budget": (
        {"budget": "{trials: 6}", "enqueue": "[KD, SD-KD, {from: other}]"},
        None,
        (":7: budget.trials: trials >= the 7 configurations of enqueue must hold, but got 6",),
    ),
    "baseline_no_method": (
        {"method": None, "enqueue": "[{label: a, seed: 1}]"},
        "method: [KD, SP]",
        (":10: enqueue[0]: required key is missing",),
    ),
    "baseline_scales": (
        {"student": "mobilenetv2", "method": "KD", "enqueue": "[KD, SD-KD]"},
        "protocol: {lr: {low: 0.01, high: 0.1}}",
        (":10: enqueue[1].scales: every scale must be at most the feature map of the student",),
    ),
    # Objective, sampler, pruner, budget, resources
    "metric": ({"objective": "{metric: val/topp1}"}, None, (":10: objective.metric: unknown metric", "'val/top1'?")),
    "metric_test": ({"objective": "{metric: test/top1}"}, None, ("unknown metric, but got 'test/top1'", "val/top1")),
    "metric_number": ({"objective": "[1]"}, None, (":10: objective[0]: must be a mapping",)),
    "metric_twice": ({"objective": "[val/top1, val/top1]"}, None, (":10: objective[1].metric: must differ",)),
    "objective_empty": ({"objective": "[]"}, None, (":10: objective: must name at least one metric",)),
    "objective_key": ({"objective": "{metrics: val/loss}"}, None, (".metrics: unknown key", "'metric'")),
    "direction": ({"objective": "{direction: up}"}, None, (":10: objective.direction: must be one of 'maximize'",)),
    "sampler": ({"sampler": "tpee"}, None, (":6: sampler.name: must be one of 'auto'", "but got 'tpee'")),
    "sampler_key": ({"sampler": "{name: tpe, startup: 3}"}, None, (":6: sampler.startup: unknown key",)),
    "sampler_startup": (
        {"sampler": "{startup_trials: -1}"},
        None,
        (":6: sampler.startup_trials: startup_trials >= 0",),
    ),
    "grid_infinite": ({"sampler": "grid"}, None, (":6: sampler: a grid needs a step or choices for cluster_weight",)),
    "grid_weights": (
        {"sampler": "{name: grid}"},
        "scales: [1, 2, 4]\nscale_weights: {low: 0.1, high: 1}",
        (":6: sampler.name: a grid needs a step or choices for scale_weights.s2, scale_weights.s4",),
    ),
    "cmaes_weights": (
        {"sampler": "cmaes"},
        "scales: {subsets_of: [1, 2, 4]}\nscale_weights: {low: 0.1, high: 1}",
        (":6: sampler: cmaes needs parameters that every trial has", "scale_weights.s2, scale_weights.s4"),
    ),
    "cmaes_conditions": (
        {"sampler": "cmaes", "method": None},
        "method:\n  KD:\n  SP: {similarity_weight: {low: 1, high: 9}}",
        (":6: sampler: cmaes needs parameters that every trial has, which SP.similarity_weight are not",),
    ),
    "cmaes_choices": (
        {"sampler": "cmaes"},
        "gram: {choices: [cells, classes]}\ncluster_weight: {low: 1, high: 2}",
        (":6: sampler: cmaes needs numbers only, which gram are not",),
    ),
    "cmaes_two": (
        {"sampler": "cmaes", "objective": "[val/top1, cost/seconds]"},
        None,
        (":6: sampler: cmaes takes one",),
    ),
    "pruner": ({"pruner": "{name: asha}"}, None, (":10: pruner.name: must be one of 'successive_halving'",)),
    "pruner_reduction": ({"pruner": "{reduction: 1}"}, None, (":10: pruner.reduction: reduction >= 2 must hold",)),
    "pruner_share": ({"pruner": "{control_share: 1.5}"}, None, ("0 <= control_share <= 1 must hold",)),
    "pruner_late": (
        {"pruner": "{name: median, min_epochs: 9}"},
        None,
        (":10: pruner.min_epochs: min_epochs <= protocol.epochs (8) must hold, but got 9",),
    ),
    "pruner_late_range": (
        {"pruner": "{name: median, min_epochs: 6}"},
        "protocol: {epochs: {low: 5, high: 20}}",
        (":10: pruner.min_epochs: min_epochs <= protocol.epochs (5) must hold",),
    ),
    "pruner_two": (
        {"pruner": "{name: median}", "objective": "[val/top1, cost/seconds]"},
        None,
        (":10: pruner.name: a sweep with several objectives cannot be pruned",),
    ),
    "dead_terms_two": (
        {"pruner": "{dead_terms: true}", "objective": "[val/top1, cost/seconds]"},
        None,
        (":10: pruner.dead_terms: a sweep with several objectives cannot be pruned; take false",),
    ),
    "dead_terms_unseen": (
        {"pruner": "{dead_terms: true}", "protocol": "{epochs: 8, measure_every: 0}"},
        None,
        ("pruner.dead_terms: dead terms are found by measuring, and protocol.measure_every is 0",),
    ),
    "pruner_cost": (
        {"pruner": "{name: median}", "objective": "cost/parameters"},
        None,
        (":10: pruner.name: pruning needs an objective that every epoch reports, and cost/parameters is none",),
    ),
    "budget_missing": ({"budget": None}, None, ("budget.trials: required key is missing; only a grid ends",)),
    "budget_hours": ({"budget": "{hours: 2}"}, None, (":7: budget.trials: required key is missing",)),
    "budget_zero": ({"budget": "{trials: 0}"}, None, (":7: budget.trials: trials >= 1 must hold, but got 0",)),
    "budget_number": ({"budget": "20"}, None, (":7: budget: must be a mapping", "but got 20")),
    "budget_key": ({"budget": "{trials: 9, hour: 3}"}, None, (":7: budget.hour: unknown key; did you mean 'hours'?",)),
    "budget_small": (
        {"budget": "{trials: 2}", "enqueue": "[KD, SD-KD, iCD-KD]"},
        None,
        (":7: budget.trials: trials >= the 3 baselines of enqueue must hold, but got 2",),
    ),
    "resources_zero": (
        {"resources": "{cpus_per_trial: 0}"},
        None,
        (":10: resources.cpus_per_trial: cpus_per_trial > 0",),
    ),
    "resources_trials_per_process": (
        {"resources": "{trials_per_process: 4}"},
        None,
        (":10: resources.trials_per_process: unknown key", "gpus_per_trial: 0.25", "MPS"),
    ),
    "resources_room": (
        {"resources": "{autoscale: true}"},
        None,
        (":10: resources.autoscale: autoscale must be false where max_concurrent is null", "but got True"),
    ),
    "resources_device": ({"resources": "{device: 5}"}, None, (":10: resources.device: must be text, but got 5",)),
    "resources_key": ({"resources": "{gpu_per_trial: 1}"}, None, (".gpu_per_trial: unknown key", "gpus_per_trial")),
    "resources_text": ({"resources": "{retries: many}"}, None, (":10: resources.retries: must be a whole number",)),
    # Everything at once, in the order of the file
    "many": (
        {"name": "a/b", "student": "resnet88", "budget": "{trial: 3}", "pruner": "{name: nothing}", "enqueue": "[KB]"},
        "cluster_weight: {low: 3, high: 2}\ngram: {choices: [cell]}\nprotocol: {lr: {low: -1, high: 1}}",
        (
            ":1: name:",
            ":4: student: unknown network",
            ":7: budget.trial: unknown key",
            ":9: space.cluster_weight.low: low < high",
            ":10: space.gram.choices[0]: must be one of",
            ":11: space.protocol.lr.low: lr > 0",
            ":12: pruner.name: must be one of",
            ":13: enqueue[0]: unknown row",
        ),
    ),
}


def refused(case: Case) -> ConfigError:
    parts, space, _ = case
    with pytest.raises(ConfigError) as caught:
        sweep(**parts) if space is None else sweep(space, **parts)
    return caught.value


@pytest.mark.parametrize("name", CASES)
def test_a_bad_sweep_is_refused(name: str) -> None:
    message, place = str(refused(CASES[name])), 0
    for part in CASES[name][2]:
        assert part in message[place:], f"{part!r} is missing or out of order in\n{message}"
        place = message.index(part, place) + 1


@pytest.mark.parametrize("name", CASES)
def test_every_line_names_the_file_and_is_short(name: str) -> None:
    lines = str(refused(CASES[name])).splitlines()
    assert all(line.startswith("x.yaml:") and len(line) < 500 for line in lines)
    assert len(lines) == len(set(lines))


def test_one_mistake_is_one_problem() -> None:
    """Problems that trials of a corner have are told once, and not again where the space has told them."""
    single = [name for name, case in CASES.items() if len([part for part in case[2] if part.startswith(":")]) == 1]
    several = {name: str(refused(CASES[name])) for name in single if len(refused(CASES[name]).problems) > 1}
    assert sorted(several) == ["method_scales", "scales_too_fine"]  # for the student and the teacher


def test_an_override_is_named() -> None:
    with pytest.raises(
        ConfigError, match=r"--set space.cluster_weight.low=3: space.cluster_weight.low: low < high \(2\)"
    ):
        sweep("cluster_weight: {low: 1, high: 2}", "space.cluster_weight.low=3")
    with pytest.raises(ConfigError, match=r"--set space.scales=\[1,16\]: space.scales: every scale must be at most"):
        sweep("cluster_weight: {low: 1, high: 2}", "space.scales=[1,16]")


def test_a_file_full_of_mistakes_is_refused_quickly() -> None:
    space = "student: [" + ", ".join(f"net{number}" for number in range(400)) + "]\ncluster_weight: {low: 3, high: 2}"
    started = time.monotonic()
    with pytest.raises(ConfigError) as caught:
        sweep(space, student=None)
    assert len(caught.value.problems) == 401
    assert time.monotonic() - started < 20


def test_the_small_sweep_itself_is_good() -> None:
    assert sweep().name == "x"
    assert sweep_text().splitlines()[7] == "space:"
