"""A tutorial's commands and code do what the tutorial says."""

import re
import shlex
import shutil
from pathlib import Path

import pytest
import yaml

from tests.command import Command

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
