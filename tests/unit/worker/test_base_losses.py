"""A wrong loss is told before the teacher is trained, with the line of its class."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from icd.config.read_sweep import read_sweep
from icd.config.read_trial import read_trial
from icd.config.yaml import Document
from icd.errors import ConfigError
from icd.methods import PAPER_ROWS
from icd.search.settings import Settings, preparation
from icd.search.suggest.search_space import SearchSpace
from icd.worker import preflight
from icd.worker.base_losses import try_base_losses
from tests.support.plugins import VALUE, sweep_document, write_plugin
from tests.tiny import training, write_images

CPU = torch.device("cpu")
PLUGIN_METHOD = '''\
import torch
from dataclasses import dataclass
import icd

class Module(torch.nn.Module):
    def forward(self, student, teacher, step):
        return {"hint": student.logits_BK}

@icd.register_method("mine")
@dataclass(frozen=True)
class Mine:
    """A method."""

    def build(self, setup):
        return Module()
'''


def sweep_of(folder: Path, plugin: Path, **changes: Any) -> Any:
    return read_sweep(Document({**sweep_document(folder / "images.npz", [str(plugin)]), **changes}, "sweep"))


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("(student_NK - teacher_NK) ** 2", "must give one value for each row, shape [20], but got [20, 10]"),
        ("3.0", "must give one value for each row, shape [20], but got 'float'"),
        (f"float('nan') * {VALUE}", "must be finite, but got nan with weight=0.5"),
        (f"{VALUE} if self.weight < 1 else {VALUE} / 0", "must be finite, but got inf with weight=2.0"),
        (
            "(student_NK - student_NK).norm(dim=1) ** 0.5",
            "the gradient by the student's logits must be finite, but got nan with weight=0.5",
        ),
    ],
    ids=["shape", "number", "nan", "one end", "gradient"],
)
def test_a_wrong_loss_is_told_once_with_the_line_of_its_class(tmp_path: Path, value: str, said: str) -> None:
    plugin = write_plugin(tmp_path, "bad.py", value=value)
    with pytest.raises(ConfigError) as caught:
        try_base_losses(SearchSpace(sweep_of(tmp_path, plugin), ()).extremes(), 10, CPU)
    assert str(caught.value) == f"bad.py:9: base loss cosine: {said}"


@pytest.mark.parametrize("num_classes", [2, 10, 100])
def test_the_losses_of_the_papers_pass(num_classes: int) -> None:
    config = read_trial(Document({"student": "resnet8", "teacher": "resnet14", "method": "KD"}, "trial"))
    rows = [row for row in PAPER_ROWS.values() if getattr(getattr(row, "base_loss", None), "k", 0) <= num_classes]
    state = torch.random.get_rng_state()
    try_base_losses([replace(config, method=row) for row in rows], num_classes, CPU)
    assert torch.equal(state, torch.random.get_rng_state())


@pytest.mark.parametrize("what", ["loss", "method", "shape"])
def test_no_teacher_is_trained_for_what_is_wrong(tmp_path: Path, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def train(*_: Any) -> None:
        raise AssertionError("a teacher is trained")

    monkeypatch.setattr(preflight, "prepare", train)
    write_images(tmp_path / "images.npz")
    plugin, more, said = write_plugin(tmp_path, value="student_NK"), dict[str, Any](), "my_loss.py:9: base loss cosine:"
    if what != "loss":
        plugin.write_text(PLUGIN_METHOD if what == "method" else PLUGIN_METHOD.replace("_BK}", "_BK.mean()[None]}"))
        more = {"method": "mine", "training": {**training(1), "lr": {"low": 0.1, "high": 0.2}}}
        said = "my_loss.py:11: method: the module of Mine must give a dictionary of scalar terms"
    sweep = sweep_of(tmp_path, plugin, **more)
    request = preparation(SearchSpace(sweep, ()).extremes(), sweep, Settings(root=tmp_path), probe=True)
    with pytest.raises(ConfigError) as caught:
        preflight.run_preflight(request, print, lambda: False)
    assert str(caught.value).startswith(said)
