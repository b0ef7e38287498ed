"""Plugins in whole commands: the tutorial as it is written, and a plugin that changed."""

import re
import shlex
import shutil
from pathlib import Path

import pytest
import yaml

from tests.command import Command, one_line
from tests.support.plugins import VALUE, sweep_document, write_plugin
from tests.tiny import write_images

ROOT = Path(__file__).parents[2]
TUTORIAL = ROOT / "docs" / "tutorials" / "plugins.md"


def test_the_tutorial_does_what_it_says(tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(ROOT / "examples" / "plugins", tmp_path / "plugins")
    text = TUTORIAL.read_text()
    shown = re.search(r"```python\n(from dataclasses .*?)```", text, re.DOTALL)
    assert shown is not None
    assert shown[1] == (tmp_path / "plugins" / "my_loss.py").read_text()
    assert len(shown[1].splitlines()) <= 10
    monkeypatch.chdir(tmp_path / "plugins")
    monkeypatch.setenv("ICD_ROOT", str(tmp_path / "root"))
    lines = [line for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL) for line in block.splitlines()]
    commands = [shlex.split(line.partition("#")[0])[1:] for line in lines if line.startswith("icd ")]
    assert [words[0] for words in commands] == ["check-plugin", "validate", "sweep", "export", "train"]
    for words in commands:
        more = ["--executor", "process"] if words[0] == "sweep" else []
        said = command(*words, *more)
        assert said.code == 0, (words, said.err)
    (tmp_path / "plugins" / "my_loss.py").unlink()
    exported = yaml.safe_load(Path("best.yaml").read_text())
    assert {"stripes.py", "two_layers.py"} <= {item["name"] for item in exported["plugins"]}
    assert command("validate", "best.yaml").code == 0  # it has all that it needs


def test_a_sweep_does_not_go_on_with_a_plugin_that_changed(tmp_path: Path, command: Command) -> None:
    write_plugin(tmp_path)
    file, where = tmp_path / "sweep.yaml", ["--root", tmp_path / "root"]
    file.write_text(yaml.safe_dump(sweep_document(write_images(tmp_path / "images.npz"), ["my_loss.py"], trials=2)))
    drive = [*where, "--executor", "process"]
    said = command("sweep", file, *drive)
    assert said.code == 0, said.err
    write_plugin(tmp_path, value=f"2 * {VALUE}")
    line = one_line(command("sweep", file, *drive), 5, "STATE")
    assert "plugins.my_loss.py: digest" in line
    assert "from line 15: 'return self.weight * (1" in line
    extended = ["mine", "--extend", "--set", "search.budget.trials=3", *drive]
    assert "from line 15: 'return self.weight * (1" in one_line(command("resume", *extended), 5, "STATE")
    (tmp_path / "my_loss.py").unlink()  # the sweep has its text
    said = command("resume", *extended)
    assert said.code == 0, said.err
    assert "3 complete" in said.out
    assert command("trials", "mine", *where).code == 0
