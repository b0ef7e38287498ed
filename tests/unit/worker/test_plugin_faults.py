"""What a plugin's loss does wrong is told before a sweep's first trial, with the plugin's own line."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from icd.config.read_sweep import read_sweep
from icd.config.yaml import Document
from icd.search.settings import Settings, preparation
from icd.search.suggest.search_space import SearchSpace
from icd.worker.main import serve_preparation
from tests.support.plugins import VALUE, sweep_document, write_plugin
from tests.tiny import write_images


class Told:
    """Keeps what a worker says."""

    stop = False

    def __init__(self) -> None:
        self.said: dict[str, Any] = {}

    def say(self, said: str, **more: Any) -> None:
        self.said[said] = more

    def alive(self, epoch: int, step: int, steps: int) -> None:
        pass


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], dict[str, Any]]:
    folder = tmp_path_factory.mktemp("root")
    images = write_images(folder / "images.npz")

    def prepare(plugin: Path) -> dict[str, Any]:
        sweep = read_sweep(Document(sweep_document(images, [str(plugin)]), "sweep"))
        settings = Settings(root=folder)
        request = preparation(SearchSpace(sweep, ()).extremes(), sweep, settings, probe=True)
        told = Told()
        serve_preparation(asdict(request), told)
        return told.said

    return prepare


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (f"({VALUE}).mean()", "must give one value for each row, shape [12], but got []"),
        ("3.0", "must give one value for each row, shape [12], but got 'float'"),
        (
            f"float('nan') * {VALUE}",
            "loss term 'base' must be finite for every configuration of the space, but got nan",
        ),
        ("student_NK.nothing", "my_loss.py:15: AttributeError: 'Tensor' object has no attribute 'nothing'"),
    ],
    ids=["scalar", "number", "nan", "raises"],
)
def test_a_loss_that_is_wrong_is_refused(
    prepared: Callable[[Path], dict[str, Any]], tmp_path: Path, value: str, said: str
) -> None:
    told = prepared(write_plugin(tmp_path, value=value))["refused"]
    assert told["exit_code"] == 2
    assert said in "\n".join(told["problems"])


def test_a_loss_that_prints_is_no_fault(prepared: Callable[[Path], dict[str, Any]], tmp_path: Path) -> None:
    assert "prepared" in prepared(write_plugin(tmp_path, value=f"(print('hello'), {VALUE})[1]"))
