"""A plugin that changed, in whole commands."""

from pathlib import Path

import yaml

from tests.command import Command, one_line
from tests.support.plugins import VALUE, sweep_document, write_plugin
from tests.tiny import write_images


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
