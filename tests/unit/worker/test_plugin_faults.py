"""What a plugin's loss does wrong is told before a sweep's first trial, with the plugin's own line."""

import errno
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from icd.config.read_sweep import read_sweep
from icd.config.yaml import Document
from icd.errors import SetupError
from icd.search.core.attempts import Location
from icd.search.core.messages import EpochDone, Prepare, Prepared, Refused, Up
from icd.search.core.preparation import PreflightRequest
from icd.search.settings import Settings, preparation
from icd.search.suggest.search_space import SearchSpace
from icd.worker.main import prepare
from tests.support.plugins import VALUE, sweep_document, write_plugin
from tests.tiny import write_images


class Quiet:
    """A way to a driver who asks for nothing."""

    location = Location(host="here")

    def send(self, message: Up) -> None:
        pass

    def report(self, epoch: EpochDone) -> bool:
        return True

    def stop_asked(self) -> bool:
        return False


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], Prepared | Refused]:
    folder = tmp_path_factory.mktemp("root")
    images = write_images(folder / "images.npz")

    def prepare_with(plugin: Path) -> Prepared | Refused:
        sweep = read_sweep(Document(sweep_document(images, [str(plugin)]), "sweep"))
        settings = Settings(root=folder)
        request = preparation(SearchSpace(sweep, ()).extremes(), sweep, settings, probe=True)
        return prepare(Prepare(request), Quiet())

    return prepare_with


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (
            f"({VALUE}).mean()",
            "my_loss.py:9: base loss cosine: must give one value for each row, shape [20], but got []",
        ),
        ("3.0", "my_loss.py:9: base loss cosine: must give one value for each row, shape [20], but got 'float'"),
        (
            f"float('nan') * {VALUE}",
            "my_loss.py:9: base loss cosine: must be finite, but got nan with weight=0.5",
        ),
        ("student_NK.nothing", "my_loss.py:15: AttributeError: 'Tensor' object has no attribute 'nothing'"),
    ],
    ids=["scalar", "number", "nan", "raises"],
)
def test_a_loss_that_is_wrong_is_refused(
    prepared: Callable[[Path], Prepared | Refused], tmp_path: Path, value: str, said: str
) -> None:
    told = prepared(write_plugin(tmp_path, value=value))
    assert isinstance(told, Refused)
    assert told.error.exit_code == 2
    assert said in str(told.error)


def test_a_loss_that_prints_is_no_fault(prepared: Callable[[Path], Prepared | Refused], tmp_path: Path) -> None:
    told = prepared(write_plugin(tmp_path, value=f"(print('hello'), {VALUE})[1]"))
    assert isinstance(told, Prepared), told.error


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MemoryError(), "while preparing: out of memory on .*: MemoryError; its process had at most"),
        (
            torch.OutOfMemoryError("CUDA out of memory.\nMore"),
            "while preparing: out of memory on .*: CUDA out of memory.;",
        ),
        (RuntimeError("CUDA error: device-side assert"), "while preparing: .*: CUDA error: device-side assert"),
        (OSError(errno.ENOSPC, "No space left"), "while preparing: /root cannot be written: No space left"),
    ],
)
def test_what_the_machine_lacks_is_no_bug(monkeypatch: pytest.MonkeyPatch, error: Exception, said: str) -> None:
    def lacking(*_: object) -> None:
        raise error

    monkeypatch.setattr("icd.worker.preflight.run_preflight", lacking)
    answer = prepare(Prepare(PreflightRequest(configs=[], root="/root")), Quiet())
    assert isinstance(answer, Refused)
    assert isinstance(answer.error, SetupError)
    assert re.match(said, str(answer.error)), answer.error
