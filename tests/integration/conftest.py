"""Fixtures of whole commands, and of clusters."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from icd.cli.main import main
from tests.command import Command, Said
from tests.integration.ray_nodes import secret


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    def call(*words: object) -> Said:
        capsys.readouterr()
        code = main([str(word) for word in words])
        return Said(code, *capsys.readouterr())

    return call


@pytest.fixture(scope="module")
def token() -> Iterator[Path]:
    """The token of clusters that a module's tests start, which the environment names."""
    with secret() as path:
        yield path
