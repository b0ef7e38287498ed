"""What a file may be and what is told of one that is wrong: every mistake at once, with a hint that can be followed."""

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from icd.config import json_schema
from icd.config.document import Document, KeyPath
from icd.config.habits import is_sweep
from icd.config.json_schema import Kind, schema_of, text_of
from icd.config.read_sweep import read_sweep
from icd.config.read_trial import read_trial
from icd.config.yaml import apply_overrides, parse_yaml, read_yaml, yaml_text
from icd.errors import ConfigError
from tests.unit.config.test_sweep_good import SHIPPED

EXAMPLES = sorted((Path(__file__).parents[3] / "examples").glob("*.yaml"))
BAD = sorted((Path(__file__).parent / "bad").glob("*.yaml"))

MISTAKES = """\
name: s
data: {name: digit100, val_fracton: 0.1}
teacher: {arch: resnet2O, stm: cub, weights: train, training: {epochs: 0, lrr: 1}}
student: {arch: resnett8, pre_trained: true}
method:
  recipe: iCD-KDD
  scale: [1, 2]
  cluster_wieght: 3
  ce_weight: -1
  cluster_scale_weights: {low: 0.05, high: 1, step: 0.1}
  cluster_weight: {low: 5, high: 1}
  cluster_temperature: {low: -1, high: 4, log: true}
training: {preset: cifar10, epochs: 0, lrr: 2}
search:
  enqueue: [{label: a b, methd: KD}]
  objective: {metric: val/top11, direction: max}
  budget: {trials: 0, hour: 3}
  pruner: asha
resources: {gpus_per_trial: 1.5, retry: 3}
"""


def told(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read_sweep(parse_yaml(text, "x.yaml"))
    return [str(problem) for problem in caught.value.problems]


def test_26_mistakes_of_a_file_are_told_at_once() -> None:
    found = told(MISTAKES)
    places = [line.split(": ")[1] for line in found]
    assert places == [
        "data.name", "data.val_fracton", "teacher.arch", "teacher.stm", "teacher.training.epochs",
        "teacher.training.lrr", "student.arch", "student.pre_trained", "method.recipe", "method.scale",
        "method.cluster_wieght", "method.ce_weight", "method.cluster_scale_weights.step", "method.cluster_weight.low",
        "method.cluster_temperature.low", "training.preset", "training.epochs", "training.lrr",
        "search.enqueue[0].label", "search.enqueue[0].methd", "search.objective.metric", "search.objective.direction",
        "search.budget.trials", "search.budget.hour", "search.pruner", "resources.gpus_per_trial", "resources.retry",
    ]  # fmt: skip
    assert len(found) == 27, "one of the 26 is two: an old habit beside it"


# Text


def test_line_ends_and_a_byte_order_mark_change_nothing(tmp_path: Path) -> None:
    text = "student: resnet8\nteacher: resnet20\nmethod: KD\n"
    plain, other = tmp_path / "a.yaml", tmp_path / "b.yaml"
    plain.write_text(text)
    other.write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    assert read_trial(read_yaml(plain)) == read_trial(read_yaml(other))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("no", "no"),
        ("0o17", 15),
        ("0x1F", 31),
        (".inf", float("inf")),
        ("~", None),
        ("1_000", "1_000"),
    ],
)
def test_scalars_are_those_of_yaml_1_2(text: str, value: object) -> None:
    assert parse_yaml(f"a: {text}", "x").data == {"a": value}


def test_text_that_looks_like_something_else_comes_back_as_text() -> None:
    words = ["12e34", "1e3", "0o17", "0x1F", ".5", "1_000", "no", "null", "~", "", "2026-01-01", "=", "a: b", "été"]
    data = {"words": words, "numbers": [1e-5, 1e300, 3, -0.5, float("inf")], "again": words, "flags": [True, None]}
    assert parse_yaml(yaml_text(data), "x").data == data


def test_bad_keys_are_told_with_everything_else() -> None:
    text = "name: x\nname: y\n1: 2\nstudent: resnet88\nteacher: resnet20\n"
    found = told(f"{text}method: {{cluster_weight: {{low: 1, high: 2}}}}\nsearch: {{budget: {{hours: 1}}}}\n")
    assert [line.split(";")[0] for line in found] == [
        "x.yaml:2: name: duplicate key, first set on line 1",
        "x.yaml:3: 1: a key must be a string",
        "x.yaml:4: student: unknown network, but got 'resnet88'",
    ]


# Files that the pages show


def test_files_in_the_pages_are_valid() -> None:
    root, read = Path(__file__).parents[3], []
    for page in [root / "README.md", *sorted((root / "docs").rglob("*.md"))]:
        for text in re.findall(r"```yaml\n(.*?)```", page.read_text(), re.DOTALL):
            document = parse_yaml(text, page.name)
            if "student" in document.data and "method" in document.data:
                (read_sweep if is_sweep(document.data) else read_trial)(document)
                read.append(page.name)
    assert {"README.md", "sweep.md", "train.md", "own-data.md", "reproduce.md"} <= set(read)


# Files that extend another


def test_a_file_is_laid_over_the_one_it_extends(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(
        "name: a\nteacher: resnet20\nstudent: resnet8\n"
        "method:\n  recipe: iCD-KD\n  cluster_weight: {low: 1, high: 2}\n"
        "  base_loss: {kd: {temperature: {low: 1, high: 8}}}\n"
        "search: {budget: {trials: 9}}\n"
    )
    file = tmp_path / "b.yaml"
    file.write_text(
        "extends: base.yaml\nname: b\nstudent: resnet14\nmethod: {base_loss: dkd, cluster_weight: 3, gram: cell}\n"
    )
    with pytest.raises(ConfigError) as caught:
        read_sweep(read_yaml(file, ["teacher=resnet99", "search.budget.trials=0"]))
    lines = [str(problem).replace(str(tmp_path), "") for problem in caught.value.problems]
    assert any(line.startswith("/b.yaml:4: method.gram: gram must be one of") for line in lines)
    assert any(line.startswith("--set teacher=resnet99: teacher: unknown network") for line in lines)
    config = read_sweep(read_yaml(file, ["method.gram=cells", "method.warmup_epochs={choices: [0, 5]}"]))
    assert (config.name, config.template["student"]) == ("b", {"arch": "resnet14"})
    assert config.template["method"]["base_loss"] == {"dkd": {}}, "a base loss replaces another"


@pytest.mark.parametrize(
    ("text", "said"),
    [("extends: x.yaml", "must end"), ("extends: y.yaml", "no such file"), ("extends: 3", "must be the name")],
)
def test_a_base_that_cannot_be_read_is_told_at_its_line(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "x.yaml").write_text(f"name: x\n{text}\n")
    with pytest.raises(ConfigError, match=rf"x.yaml:2: extends: .*{said}"):
        read_sweep(read_yaml(tmp_path / "x.yaml"))


# Old files, and files for another verb


@pytest.mark.parametrize(
    "part", ["space: {cluster_weight: {low: 1, high: 2}}", "generalist: {pairs: []}", "protocol: {epochs: 3}"]
)
def test_an_old_file_is_one_sentence(part: str) -> None:
    (line,) = told(f"name: x\nteacher: resnet20\nstudent: resnet8\nmethod: KD\n{part}\nbudget: {{trials: 3}}\n")
    assert "is of an older icd" in line


def test_a_trial_is_no_sweep_and_a_sweep_no_trial() -> None:
    (line,) = told("student: resnet8\nteacher: resnet20\nmethod: KD\n")
    assert line.endswith("use 'icd train'")
    with pytest.raises(ConfigError, match="use 'icd sweep'"):
        read_trial(read_yaml(SHIPPED[0]))


def test_a_range_in_a_trial_is_told_with_a_value() -> None:
    text = "student: resnet8\nteacher: resnet20\nmethod: {cluster_weight: {low: 1, high: 2}}\nseed: {choices: [3, 4]}\n"
    with pytest.raises(ConfigError) as caught:
        read_trial(parse_yaml(text, "x.yaml"))
    hints = [problem.hint for problem in caught.value.problems]
    assert hints == ["write method.cluster_weight: 1", "write seed: 3"]


def test_a_hint_names_the_place_in_the_sweep_of_what_a_trial_has_wrong() -> None:
    text = (
        "name: x\nteacher: resnet20\nstudent: resnet8\nmethod: {recipe: iCD-KD, cluster_weight: {low: 1, high: 2}}\n"
        "search:\n  enqueue: [{label: a, method: {recipe: iCD-KD, cluster_weight: {low: 1, high: 2}}}]\n"
        "  budget: {trials: 9}\n"
    )
    with pytest.raises(ConfigError) as caught:
        read_sweep(parse_yaml(text, "x.yaml"))
    assert [problem.hint for problem in caught.value.problems] == ["write search.enqueue[0].method.cluster_weight: 1"]


# Habits of other tools: following the hint makes the file valid

BASE: dict[str, Any] = {
    "name": "x",
    "teacher": "resnet20",
    "student": "resnet8",
    "method": {"recipe": "iCD-KD", "warmup_epochs": {"choices": [0, 2]}},
    "training": {"epochs": 8},
    "search": {"budget": {"trials": 9}},
}
HABITS: list[tuple[str, Any]] = parse_yaml(Path(__file__).with_name("habits.yaml").read_text(), "habits").data


def put(data: dict[str, Any], path: str, value: Any) -> None:
    names = path.split(".")
    for name in names[:-1]:
        data = data.setdefault(name, {})
    data[names[-1]] = value


def without(data: Any, path: KeyPath) -> None:
    for name in path[:-1]:
        data = data[name]
    del data[path[-1]]


@pytest.mark.parametrize(("path", "value"), HABITS, ids=str)
def test_following_the_hint_makes_the_file_valid(path: str, value: Any) -> None:
    data = json.loads(json.dumps(BASE))
    put(data, path, value)
    document = Document(data, "x.yaml")
    for _ in range(5):  # a habit may come with another
        try:
            read_sweep(document)
            return
        except ConfigError as error:
            problem = error.problems[0]
        assert problem.hint.startswith("write "), str(problem)
        where, _, text = problem.hint.removeprefix("write ").partition(": ")
        if problem.path != where:
            mistaken = document.data
            *above, last = problem.path.split(".")
            for name in above:
                mistaken = mistaken[name]
            mistaken.pop(last, None)
        document = apply_overrides(Document(document.data, "x.yaml"), [f"{where}={text}"])
    read_sweep(document)


def test_there_are_sixty_habits() -> None:
    assert len(HABITS) >= 60


@pytest.mark.parametrize(
    "value",
    ["uniform()", "randint(a, b)", "uniform(x", {"_value": []}, {"min": "a", "max": "b", "type": "log", "base": 10}],
    ids=str,
)
def test_a_habit_around_other_things_is_refused_like_anything(value: Any) -> None:
    data = json.loads(json.dumps(BASE))
    put(data, "training.lr", value)
    with pytest.raises(ConfigError, match=r"training\.lr"):
        read_sweep(Document(data, "x.yaml"))


# What is told is a place that --set takes


@pytest.mark.parametrize("file", BAD, ids=lambda file: file.stem)
def test_a_path_that_is_told_is_one_that_set_takes(file: Path) -> None:
    document = None
    try:
        document = read_yaml(file)
        read_trial(document)
    except ConfigError as error:
        problems = [problem for problem in error.problems if problem.path and problem.line is not None]
    if document is None or not isinstance(document.data, dict):
        return
    for problem in problems:
        if not any(part in problem.rule for part in ("key must be", "duplicate", "merge", "digits", "URL")):
            apply_overrides(document, [f"{problem.path}=1"])


# JSON Schema


@pytest.fixture(scope="module")
def schemas() -> dict[str, jsonschema.Draft202012Validator]:
    return {kind: jsonschema.Draft202012Validator(schema_of(kind)) for kind in ("trial", "sweep")}


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.stem)
def test_the_schema_takes_every_shipped_file(file: Path, schemas: dict[str, jsonschema.Draft202012Validator]) -> None:
    schemas["sweep"].validate(yaml.safe_load(file.read_text()))
    schemas["sweep"].validate(read_sweep(read_yaml(file)).to_data())


def test_the_schema_refuses_what_can_be_seen_without_rules_between_parts(
    schemas: dict[str, jsonschema.Draft202012Validator],
) -> None:
    refused = 0
    for file in BAD:
        try:
            data = read_yaml(file).data
        except ConfigError:
            continue  # no YAML, which every editor says
        refused += not schemas["trial"].is_valid(data)
    assert refused >= 140


@pytest.mark.parametrize("kind", ["trial", "sweep"])
def test_the_schema_that_the_package_brings_is_current(kind: Kind) -> None:
    """Editors read it, and so does ``icd schema``; ``python -m icd.config.json_schema`` writes it anew."""
    stored = Path(json_schema.__file__).with_name(f"{kind}.schema.json")
    assert stored.read_text() == text_of(kind)


def test_the_schema_takes_every_example(schemas: dict[str, jsonschema.Draft202012Validator]) -> None:
    for file in EXAMPLES:
        schemas["trial"].validate(read_yaml(file).data)
        schemas["trial"].validate(read_trial(read_yaml(file)).to_data())
        assert "/trial.schema.json" in file.read_text().splitlines()[0]


def test_the_schema_says_meaning_range_and_default(schemas: dict[str, jsonschema.Draft202012Validator]) -> None:
    schema: Any = schemas["trial"].schema
    weight = schema["$defs"]["method.distill"]["properties"]["cluster_weight"]
    assert (weight["minimum"], weight["default"]) == (0, 0.0)
    assert weight["description"].startswith("Weight of the cluster term")
    keys: Any = schemas["sweep"].schema["properties"]
    told = [*keys.values(), *keys["search"]["properties"].values()]
    assert all(key["description"] for key in told)
    assert not any(key["description"] == kind.get("description") for key in told for kind in key.get("anyOf", ()))


# --set


def test_an_override_reaches_every_place_that_a_path_names() -> None:
    text = "student: resnet8\nmethod: {choices: {KD: {ce_weight: 1}, SP: {ce_weight: 2}, CRD: }}\npairs: [{teacher: a}]"
    document = apply_overrides(
        parse_yaml(text, "x"),
        ["student.pretrained=true", "method.ce_weight=3", "pairs[0].teacher=b", "method.CRD.momentum=0.5", "seed="],
    )
    assert document.data == {
        "student": {"arch": "resnet8", "pretrained": True},
        "method": {"choices": {"KD": {"ce_weight": 3}, "SP": {"ce_weight": 3}, "CRD": {"momentum": 0.5}}},
        "pairs": [{"teacher": "b"}],
        "seed": None,
    }
    assert document.origin(("student", "pretrained")) == ("--set student.pretrained=true", None)


@pytest.mark.parametrize(
    ("assignment", "said"),
    [
        ("a", "must look like KEY=VALUE"),
        ("=1", "must look like KEY=VALUE"),
        ("a..b=1", "must look like KEY=VALUE"),
        ("seed.x=1", "must be a mapping to take the key 'x', but got 3"),
        ("pairs[7]=1", "the list has 1 items, counted from 0, so it has no [7]"),
        ("student=[", "not valid YAML"),
        ("password=hunter2", None),
    ],
)
def test_an_override_that_cannot_be_applied_is_told(assignment: str, said: str | None) -> None:
    document = parse_yaml("seed: 3\npairs: [1]", "x")
    if said is None:
        changed = apply_overrides(document, [assignment])
        assert "hunter2" not in str(changed.problem(("password",), "unknown key")), "it may be in a log"
        return
    with pytest.raises(ConfigError, match=rf"^--set .*{re.escape(said)}"):
        apply_overrides(document, [assignment])
