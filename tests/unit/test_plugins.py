"""Plugins: found, imported once, kept with their text, and refused with a sentence where they are wrong."""

import base64
import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import icd
from icd.cli.submit import FILE_VARIABLE, read_file
from icd.config.read_sweep import read_sweep
from icd.config.read_trial import read_trial
from icd.config.trial import DataConfig, differences
from icd.config.yaml import Document, parse_yaml, read_yaml, yaml_text
from icd.errors import ConfigError, StateError
from icd.fields import annotations
from icd.losses import BASE_LOSSES
from icd.plugins import changed_files
from tests.command import Command, one_line
from tests.support.plugins import VALUE, sweep_document, write_plugin, write_trial


def refused(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        read_trial(read_yaml(path))
    return str(caught.value)


def test_a_file_beside_the_configuration_is_found_and_travels_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugin = write_plugin(tmp_path)
    trial = read_trial(read_yaml(write_trial(tmp_path, ["./my_loss.py"])))
    assert type(trial.method.base_loss).__name__ == "Cosine"  # type: ignore[attr-defined]
    assert trial.to_data()["plugins"] == [
        {"name": "my_loss.py", "digest": trial.plugins[0].digest, "source": plugin.read_text()}
    ]
    stored = json.loads(json.dumps(trial.to_data()))
    monkeypatch.chdir("/")
    (tmp_path / "stored.yaml").write_text(yaml_text(stored))
    monkeypatch.setenv("ICD_PLUGINS", str(write_plugin(tmp_path, value="labels_N * 0.5")))
    assert read_trial(read_yaml(tmp_path / "stored.yaml")) == trial  # whatever the file says now
    plugin.unlink()
    monkeypatch.delenv("ICD_PLUGINS")
    assert read_trial(Document(stored, "elsewhere")) == trial  # with no way to the file
    assert read_trial(Document(stored, "elsewhere")).key() == trial.key()


def test_another_text_is_another_key_and_the_change_is_told(tmp_path: Path) -> None:
    write_plugin(tmp_path)
    before = read_trial(read_yaml(write_trial(tmp_path, ["my_loss.py"])))
    write_plugin(tmp_path, value=f"2 * {VALUE}")
    after = read_trial(read_yaml(tmp_path / "t.yaml"))
    assert before.key() != after.key()
    (line,) = differences(before.to_data(), after.to_data())
    assert line.startswith(f"plugins.my_loss.py: digest {before.plugins[0].digest[:12]} -> ")
    assert "from line 15: 'return self.weight" in line


def test_only_what_a_trial_uses_is_in_its_key(tmp_path: Path) -> None:
    write_plugin(tmp_path)
    write_plugin(tmp_path, "other.py", name="other")
    alone = read_trial(read_yaml(write_trial(tmp_path, ["my_loss.py"])))
    both = read_trial(read_yaml(write_trial(tmp_path, ["other.py", "my_loss.py"])))
    assert both == alone
    plain = read_trial(read_yaml(write_trial(tmp_path, ["other.py"], base_loss="kd")))
    assert plain.plugins == ()
    assert "plugins" not in plain.to_data()


def test_plugins_of_the_environment_are_added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ICD_PLUGINS", str(write_plugin(tmp_path, name="from_environment")))
    trial = read_trial(read_yaml(write_trial(tmp_path, None, base_loss="from_environment")))
    assert [plugin.name for plugin in trial.plugins] == ["my_loss.py"]


def test_the_data_of_a_teacher_may_be_a_plugin_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Command
) -> None:
    read = "raise icd.errors.DataError('has been read')"
    (tmp_path / "data.py").write_text(f"import icd\n@icd.register_dataset('d')\ndef load(request):\n    {read}\n")
    monkeypatch.setenv("ICD_PLUGINS", str(tmp_path / "data.py"))
    said = command("--root", tmp_path, "teacher", "train", "--arch", "resnet8", "--data", "d")
    assert "has been read" in one_line(said, 3, "DATA")


def test_an_installed_module_is_named_and_must_be_the_same_everywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "icd_test_package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    write_plugin(package, "losses.py", name="packaged")
    monkeypatch.syspath_prepend(str(tmp_path))
    trial = read_trial(read_yaml(write_trial(tmp_path, ["icd_test_package.losses"], base_loss="packaged")))
    data = trial.to_data()
    assert data["plugins"] == [{"name": "icd_test_package.losses", "digest": trial.plugins[0].digest}]
    data["plugins"][0]["digest"] = "0" * 64
    with pytest.raises(StateError, match=r"plugin icd_test_package.losses is not what .* \(digest 000000000000, here "):
        read_trial(Document(data, "trial 0"))
    data["plugins"] = [{"name": "icd_not_here", "digest": "0" * 64}]
    with pytest.raises(ConfigError, match=r"plugin 'icd_not_here' is not installed on .*; install it there, or give"):
        read_trial(Document(data, "trial 0"))


@pytest.mark.parametrize(
    ("listed", "owner"),
    [(["losses", "more"], "losses"), (["more", "losses"], "losses"), (["", "losses"], "losses"), (["more", ""], "")],
    ids=lambda case: ",".join(case) if isinstance(case, list) else "",
)
def test_modules_of_a_package_that_imports_them_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, listed: list[str], owner: str
) -> None:
    name = f"icd_several_{'_'.join(listed)}"
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").write_text("from . import losses, more\n")
    write_plugin(tmp_path / name, "losses.py", name=f"{name}_1")
    write_plugin(tmp_path / name, "more.py", name=f"{name}_2")
    monkeypatch.syspath_prepend(str(tmp_path))
    modules = [f"{name}.{module}".rstrip(".") for module in listed]
    for order in (modules, modules[::-1]):  # what was imported first decides nothing
        trial = read_trial(read_yaml(write_trial(tmp_path, order, base_loss=f"{name}_1")))
        assert [plugin.name for plugin in trial.plugins] == [f"{name}.{owner}".rstrip(".")]


def test_an_entry_point_of_an_installed_package_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_plugin(tmp_path, "icd_test_entry.py", name="entered")
    info = tmp_path / "entry-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: entry\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[icd.plugins]\nentry = icd_test_entry\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    trial = read_trial(read_yaml(write_trial(tmp_path, None, base_loss="entered")))
    assert [plugin.name for plugin in trial.plugins] == ["icd_test_entry"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1 / 0", "my_loss.py:1: cannot be imported: ZeroDivisionError: division by zero"),
        ("def f(:", "my_loss.py:1: cannot be imported: SyntaxError: invalid syntax"),
        ("raise SystemExit(3)", "my_loss.py:1: cannot be imported: SystemExit: 3"),
        ("import my_other_file", "ModuleNotFoundError: No module named 'my_other_file'; a plugin is one file or an"),
        ("x = 1", "my_loss.py: registers nothing; call icd.register_base_loss"),
        ("import icd\nicd.register_base_loss('mine', 3)", "base loss 'mine' must be a frozen dataclass, but got 3"),
        ("import icd\nicd.register_model('m', 3)", "network 'm' must be a function of the number of classes"),
        ("import icd\nicd.register_dataset('d', lambda: 3)", "data set 'd' must be a function of a request"),
        ("import icd\nicd.register_dataset('d', lambda r, x: 3)", "option 'x' needs a type and a default"),
    ],
)
def test_what_is_wrong_with_a_file_is_told_with_its_line(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "my_loss.py").write_text(text)
    told = refused(write_trial(tmp_path, ["my_loss.py"], base_loss="kd"))
    assert "t.yaml:" in told
    assert "plugins[0]" in told
    assert said in told


def test_what_a_broken_plugin_would_have_added_is_not_called_unknown_as_well(tmp_path: Path) -> None:
    (tmp_path / "my_loss.py").write_text("def f(:")
    sweep = tmp_path / "s.yaml"
    sweep.write_text(yaml.safe_dump(sweep_document(tmp_path / "x.npz", ["my_loss.py"])))
    assert refused(write_trial(tmp_path, ["my_loss.py"])).count("\n") == 0
    with pytest.raises(ConfigError) as caught:
        read_sweep(read_yaml(sweep))
    assert [problem.path for problem in caught.value.problems] == ["plugins[0]"]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("class Mine:", "must be a frozen dataclass, but got <class"),
        ("@dataclass\nclass Mine:", "must be frozen; write @dataclass(frozen=True) above class Mine"),
        ("@dataclass(frozen=True)\nclass Mine:\n    x: float = 1.0", "field 'x' needs a range, as in temperature: Pos"),
        (
            "@dataclass(frozen=True)\nclass Mine:\n    x: list[int] = ()",
            "field 'x' must be a number with a range, bool",
        ),
        ("@dataclass(frozen=True)\nclass Mine:\n    low: Positive = 1.0", "field 'low' has a name that files use for"),
        ("@dataclass(frozen=True)\nclass Mine:\n    name: str = ''", "field 'name' has a name that files use for"),
        ("@dataclass(frozen=True)\nclass Mine:\n    x: BaseLoss = KD()", "field 'x' must be a number with a range"),
        ("@dataclass(frozen=True)\nclass Mine:\n    x: KD = KD()", "or a base loss called base_loss, but is <class"),
        ("@dataclass(frozen=True)\nclass Mine:\n    x: Any = 1.0", "field 'x' needs a type"),
        ("@dataclass(frozen=True)\nclass Mine:\n    x: Positive", "field 'x' needs a default"),
        ("@dataclass(frozen=True)\nclass Mine:\n    x: Positive = -1", "the default of x breaks its own range: x > 0"),
        ("@dataclass(frozen=True)\nclass Mine:\n    x: Nowhere = 1", "has a field whose type cannot be found"),
    ],
)
def test_fields_are_checked_when_a_class_is_registered(tmp_path: Path, body: str, said: str) -> None:
    head = "from __future__ import annotations\nfrom dataclasses import dataclass\nfrom typing import Any\nimport icd\n"
    call = "\n    def __call__(self, student_NK, teacher_NK, labels_N): ...\n"
    kinds = "from icd.fields import Positive\nfrom icd.losses import BaseLoss, KnowledgeDistillation as KD\n"
    text = f"{head}{kinds}{body}{call}icd.register_base_loss('mine', Mine)\n"
    (tmp_path / "my_loss.py").write_text(text)
    assert said in refused(write_trial(tmp_path, ["my_loss.py"], base_loss="kd"))


@pytest.mark.parametrize("option", ["high", *annotations(DataConfig)])
def test_an_option_of_data_that_files_use_already(tmp_path: Path, option: str) -> None:
    (tmp_path / "data.py").write_text(f"import icd\nicd.register_dataset('d', lambda request, {option}='': 3)")
    told = refused(write_trial(tmp_path, ["data.py"], base_loss="kd"))
    assert f"data set 'd' option '{option}' has a name that files use for something else; choose another" in told


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("kd", "base loss 'kd' is taken: icd has one of that name; choose another"),
        ("my loss", "base loss 'my loss' is no name"),
        ("choices", "base loss 'choices' is no name"),
    ],
)
def test_a_name_that_cannot_be_had(tmp_path: Path, name: str, said: str) -> None:
    write_plugin(tmp_path, name=name)
    assert said in refused(write_trial(tmp_path, ["my_loss.py"], base_loss="kd"))


def test_two_plugins_with_one_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_plugin(tmp_path)
    write_plugin(tmp_path, "again.py")
    told = refused(write_trial(tmp_path, ["my_loss.py", "again.py"]))
    assert "plugins[1]: base loss 'cosine' is registered by my_loss.py and by again.py; choose another name" in told
    (tmp_path / "below").mkdir()
    write_plugin(tmp_path / "below", name="other")
    told = refused(write_trial(tmp_path, ["my_loss.py", "below/my_loss.py"]))
    assert "another plugin is called my_loss.py; rename one of the files" in told
    monkeypatch.setenv("ICD_PLUGINS", str(tmp_path / "below" / "my_loss.py"))
    assert "plugins[1]: another plugin is called my_loss.py" in refused(write_trial(tmp_path, ["my_loss.py"]))


def test_a_class_of_another_name_and_a_package_without_an_init(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for cls, first in {"icd.losses.KnowledgeDistillation": "kd", "Cosine": "cosine"}.items():
        with write_plugin(tmp_path).open("a") as file:
            file.write(f"icd.register_base_loss('x', {cls})\n")
        assert f"base loss 'x' is a second name of '{first}'" in refused(write_trial(tmp_path, ["my_loss.py"]))
    (tmp_path / "bare_package").mkdir()
    write_plugin(tmp_path / "bare_package")
    monkeypatch.syspath_prepend(tmp_path)
    assert "without __init__.py; add one" in refused(write_trial(tmp_path, ["bare_package.my_loss"]))


def test_a_list_that_is_none_and_a_file_that_is_not_there(tmp_path: Path) -> None:
    assert "must be a list of files and modules" in refused(write_trial(tmp_path, {"a": 1}))  # type: ignore[arg-type]
    assert "cannot be read: no such file" in refused(write_trial(tmp_path, ["nowhere.py"]))
    assert "must be a path such as ./my_losses.py" in refused(write_trial(tmp_path, ["my loss"]))
    assert "plugin 'my_loss' is not installed on" in refused(write_trial(tmp_path, ["my_loss"]))


def test_whatever_the_text_of_a_plugin_says_what_a_trial_writes_can_be_read(tmp_path: Path) -> None:
    plugin = write_plugin(tmp_path)
    plugin.write_text(f"{plugin.read_text()}\nNEEDS = 'git+https://git@example.org/me/x'\n")
    trial = read_trial(read_yaml(write_trial(tmp_path, ["my_loss.py"])))
    assert read_trial(parse_yaml(yaml_text(trial.to_data()), "config.yaml")) == trial


def test_files_that_are_too_large_together(tmp_path: Path) -> None:
    for name in "abc":
        write_plugin(tmp_path, f"{name}.py", name=name, value="0" * 60_000)
    assert "plugins[2]: all files together must not be larger than 160 KiB; install some as a package" in refused(
        write_trial(tmp_path, ["a.py", "b.py", "c.py"], base_loss="a")
    )


def test_a_plugin_that_leaves_is_named(tmp_path: Path, command: Command) -> None:
    plugin = write_plugin(tmp_path)
    leave = "    def __post_init__(self):\n        raise SystemExit(3)\n\n    def __call__"
    plugin.write_text(plugin.read_text().replace("    def __call__", leave))
    said = command("validate", write_trial(tmp_path, ["my_loss.py"]))
    assert one_line(said, 2, "CONFIG").endswith("my_loss.py:15: SystemExit: 3")


def test_what_no_plugin_names_is_refused(tmp_path: Path) -> None:
    from dataclasses import dataclass

    @dataclass(frozen=True)
    class Here:
        def __call__(self, student_NK: object, teacher_NK: object, labels_N: object) -> None: ...

    icd.register_base_loss("only_here", Here)
    assert "only_here" in BASE_LOSSES
    told = refused(write_trial(tmp_path, None, base_loss="only_here"))
    assert f"base loss 'only_here' was registered by {__name__}, which no worker imports; list its file" in told


def test_a_sweep_keeps_the_plugins_that_some_trial_uses(tmp_path: Path) -> None:
    write_plugin(tmp_path)
    write_plugin(tmp_path, "other.py", name="other")
    path = write_trial(tmp_path, ["other.py", "my_loss.py"])
    document = yaml.safe_load(path.read_text())
    document["method"]["base_loss"] = {"choices": ["kd", "cosine"]}
    path.write_text(yaml.safe_dump({**document, "name": "mine", "search": {"budget": {"trials": 2}}}))
    sweep = read_sweep(read_yaml(path))
    assert [item["name"] for item in sweep.to_data()["plugins"]] == ["my_loss.py"]
    assert read_sweep(Document(sweep.to_data(), "again")) == sweep


@pytest.mark.parametrize("listed", [True, False])
def test_a_file_that_changed_since_is_found_by_its_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, listed: bool
) -> None:
    monkeypatch.setenv("ICD_PLUGINS", "" if listed else str(write_plugin(tmp_path)))
    write_plugin(tmp_path)
    document = read_yaml(write_trial(tmp_path, ["my_loss.py"] if listed else None))
    assert changed_files(document.data["plugins"]) == []
    write_plugin(tmp_path, value="labels_N * 0.5")
    (line,) = changed_files(document.data["plugins"])
    assert line.startswith("plugins.my_loss.py: digest ")


def test_what_a_plugin_prints_does_not_reach_stdout(tmp_path: Path) -> None:
    plugin = write_plugin(tmp_path)
    plugin.write_text('print("hello from the plugin")\n' + plugin.read_text())
    words = [sys.executable, "-m", "icd.cli.main", "methods", "--json", "--plugin", str(plugin)]
    done = subprocess.run(words, capture_output=True, text=True, check=True, env={**os.environ})
    assert json.loads(done.stdout)["base_loss"]["cosine"]["fields"] == {"weight": 1.0}
    assert "hello from the plugin" in done.stderr


def test_a_plugin_that_an_override_names_is_kept_by_its_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_plugin(tmp_path)
    file = tmp_path / "sweep.yaml"
    file.write_text(yaml.safe_dump(sweep_document(tmp_path / "images.npz", [])))
    monkeypatch.chdir(tmp_path)
    document = read_yaml(file, ["plugins=[./my_loss.py]"])
    assert [(item["name"], "source" in item) for item in document.data["plugins"]] == [("my_loss.py", True)]


def test_a_job_gets_the_text_of_plugins_with_its_file(tmp_path: Path) -> None:
    plugin = write_plugin(tmp_path)
    file = tmp_path / "sweep.yaml"
    file.write_text(yaml.safe_dump(sweep_document(tmp_path / "images.npz", ["my_loss.py"])))
    name, variables = read_file("sweep", file, {"overrides": ()})
    plugin.unlink()
    text = gzip.decompress(base64.b64decode(variables[FILE_VARIABLE])).decode()
    sweep = read_sweep(parse_yaml(text, "job"))
    assert (name, sweep.name) == ("mine", "mine")
    assert [item["name"] for item in sweep.to_data()["plugins"]] == ["my_loss.py"]
