"""``icd check-plugin``: what passes, and what fails in plain words."""

import json
from pathlib import Path

import pytest

from tests.command import Command
from tests.support.plugins import VALUE, write_plugin

EXAMPLES = Path(__file__).parents[2] / "examples" / "plugins"


@pytest.mark.parametrize("file", sorted(EXAMPLES.glob("*.py")), ids=lambda file: file.stem)
def test_the_examples_pass(file: Path, command: Command) -> None:
    said = command("check-plugin", file)
    assert said.code == 0, said.err
    assert "passes" in said.out


@pytest.mark.parametrize(
    ("value", "line"),
    [
        (
            f"({VALUE}).mean()",
            "one value for each row: base loss Cosine: must give one value for each row, shape [6], but got []",
        ),
        (f"{VALUE}.detach()", "values must depend on the student's logits; a detach() or item() may cut them off"),
        (f"{VALUE} + student_NK.mean()", "rows are independent: the value of a row must not depend on the other rows"),
        (f"{VALUE} * 0 + torch.rand(len(labels_N))", "two calls on the same logits must give the same; nothing may be"),
        (f"{VALUE} * (SEEN.append(0) or len(SEEN))", "same: must keep no state between batches, which a resumed trial"),
        (f"(print('hello'), {VALUE})[1]", "prints 'hello', though a program may read stdout; use logging"),
        ("student_NK.mul_(2).sum(1)", "the student's logits must not be changed in place"),
        ("student_NK.exp().sum(1) * self.weight", "the value must be finite with logits of +-10000 in float32"),
        ("student_NK.nothing", "AttributeError: 'Tensor' object has no attribute 'nothing' (my_loss.py:17)"),
    ],
    ids=["scalar", "detached", "mixed", "random", "keeps", "prints", "in place", "overflows", "raises"],
)
def test_what_fails_is_told_in_plain_words(tmp_path: Path, command: Command, value: str, line: str) -> None:
    plugin = write_plugin(tmp_path, value=value)
    plugin.write_text(plugin.read_text().replace("import icd\n", "import icd\nimport torch\nSEEN = []\n"))
    said = command("check-plugin", plugin)
    assert said.code == 2
    assert "my_loss.py:11: base loss cosine: " in said.err
    assert line in said.err
    assert "Traceback" not in said.err


def test_a_fault_is_told_once_with_the_line_of_the_class(tmp_path: Path, command: Command) -> None:
    said = command("check-plugin", write_plugin(tmp_path, "bad.py", value="student_NK * self.weight"))
    (line,) = said.err.splitlines()
    assert line.startswith("icd: error[CONFIG] bad.py:9: base loss cosine: one value for each row: base loss")


def test_a_file_with_a_byte_order_mark_is_read_without_it(tmp_path: Path, command: Command) -> None:
    plugin = write_plugin(tmp_path)
    plugin.write_text(plugin.read_text(), encoding="utf-8-sig")
    said = command("check-plugin", plugin)
    assert (said.code, said.err) == (0, "")


def test_networks_and_data_fail_in_plain_words(tmp_path: Path, command: Command) -> None:
    text = (EXAMPLES / "two_layers.py").read_text()
    (tmp_path / "net.py").write_text(text.replace("nn.Linear(32, num_classes)", "nn.Linear(32, 9)"))
    said = command("check-plugin", tmp_path / "net.py")
    assert said.code == 2
    assert "the head must give as many logits as there are classes, 7, but gives 9" in said.err
    noisy = "images_BCHW = images_BCHW + __import__('random').random()\n        return classify("
    (tmp_path / "net.py").write_text(text.replace("return classify(", noisy))
    said = command("check-plugin", tmp_path / "net.py")
    assert "what a pass in training mode draws must come from torch's own generator" in said.err
    text = (EXAMPLES / "stripes.py").read_text()
    (tmp_path / "data.py").write_text(text.replace("_images(1, per_class)", "_images(0, per_class)"))
    said = command("check-plugin", tmp_path / "data.py", "--json")
    assert said.code == 2
    assert "train and test must share no image, but share" in said.err
    assert json.loads(said.out)[0]["name"] == "stripes"
