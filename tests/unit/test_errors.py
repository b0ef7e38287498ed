"""Texts and exit codes of errors, and their way across process borders."""

import pickle

import pytest

from icd import errors
from icd.errors import ConfigError, IcdError, Interrupted, NonFiniteLossError, Problem, did_you_mean, shorten


def subclasses(cls: type[IcdError]) -> list[type[IcdError]]:
    return [cls, *(inner for child in cls.__subclasses__() for inner in subclasses(child))]


EXIT_CODES = {
    "IcdError": 70,
    "ConfigError": 2,
    "UsageError": 2,
    "SetupError": 3,
    "DataError": 3,
    "NonFiniteLossError": 4,
    "TrialsFailedError": 4,
    "Interrupted": 130,
    "StateError": 5,
    "CheckpointError": 6,
    "TeacherError": 6,
    "TestSetClosedError": 6,
}


@pytest.mark.parametrize("name", EXIT_CODES)
def test_exit_codes(name: str) -> None:
    assert getattr(errors, name).exit_code == EXIT_CODES[name]


@pytest.mark.parametrize(
    ("name", "meant"),
    [("resnet15", "resnet14"), ("resnet57", "resnet56"), ("resnet8x3", "resnet8x4"), ("Resnet15", "resnet14")],
)
def test_of_names_that_are_as_alike_the_nearest_number_is_meant(name: str, meant: str) -> None:
    nets = ["resnet8", "resnet14", "resnet20", "resnet32", "resnet44", "resnet56", "resnet110", "resnet8x4"]
    assert did_you_mean(name, nets) == f"did you mean {meant!r}?"


def test_codes_differ() -> None:
    own = [cls for cls in subclasses(IcdError) if cls.__module__ == "icd.errors"]
    assert len({cls.code for cls in own}) == len(own) > 10


@pytest.mark.parametrize(
    ("problem", "text"),
    [
        (Problem(rule="lr > 0 must hold"), "lr > 0 must hold"),
        (Problem(rule="lr > 0 must hold", value=-1), "lr > 0 must hold, but got -1"),
        (Problem(rule="a rule", value=None), "a rule, but got None"),
        (Problem(rule="a rule", source="a.yaml", line=3), "a.yaml:3: a rule"),
        (Problem(rule="a rule", source="a.yaml"), "a.yaml: a rule"),
        (Problem(rule="a rule", hint="do that"), "a rule; do that"),
        (
            Problem(
                rule="lr > 0 must hold",
                source="a.yaml",
                line=3,
                path="training.lr",
                value="x",
                hint="try 0.1",
            ),
            "a.yaml:3: training.lr: lr > 0 must hold, but got 'x'; try 0.1",
        ),
    ],
)
def test_problem_text(problem: Problem, text: str) -> None:
    assert str(problem) == text


def test_config_error_carries_every_problem() -> None:
    two = ConfigError([Problem(rule="one"), Problem(rule="two", path="a.b")])
    assert str(two) == "one\na.b: two"
    assert [problem.rule for problem in two.problems] == ["one", "two"]
    assert ConfigError("alone").problems == (Problem(rule="alone"),)
    assert ConfigError(Problem(rule="alone")).problems == (Problem(rule="alone"),)
    assert isinstance(two, ValueError)


@pytest.mark.parametrize(
    ("name", "allowed", "text"),
    [
        ("resnet8x5", ["resnet8x4", "vgg8"], "did you mean 'resnet8x4'?"),
        ("VGG8", ["resnet8x4", "vgg8"], "did you mean 'vgg8'?"),
        ("icd-kd", ["iCD-KD", "SP"], "did you mean 'iCD-KD'?"),
        ("something", ["b", "a"], "allowed: a, b"),
        (7, ["b", "a"], "allowed: a, b"),
        ("x", [], "allowed: "),
    ],
)
def test_did_you_mean(name: object, allowed: list[str], text: str) -> None:
    assert did_you_mean(name, allowed) == text


def test_shorten() -> None:
    assert shorten("short") == "'short'"
    assert shorten("two\nlines") == repr("two\nlines")
    cut = shorten("a" * 200 + "z" * 200)
    assert len(cut) <= 80
    assert cut.startswith("'aaa")
    assert cut.endswith("zzz'")


@pytest.mark.parametrize(
    "error",
    [
        NonFiniteLossError("base", 3, 17, float("inf")),
        Interrupted("stopped at epoch 3"),
        ConfigError([Problem(rule="one", value=[1]), Problem(rule="two", line=4, source="a.yaml")]),
        errors.DataError("broken"),
        errors.TeacherError("unsafe"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_survive_pickling(error: IcdError) -> None:
    twin = pickle.loads(pickle.dumps(error))
    assert type(twin) is type(error)
    assert str(twin) == str(error)
    assert vars(twin) == vars(error)


def test_non_finite_loss_says_where() -> None:
    error = NonFiniteLossError("base", 3, 17, float("inf"))
    assert str(error) == (
        "loss term 'base' must be finite, but got inf at epoch 3, step 17; lower training.lr or the weight of that term"
    )
    assert isinstance(error, ArithmeticError)


def test_config_error_keeps_its_problems_when_pickled() -> None:
    error = ConfigError([Problem(rule="one", path="a.b"), Problem(rule="two")])
    assert pickle.loads(pickle.dumps(error)).problems == error.problems
