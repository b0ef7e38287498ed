"""Tiers by folder, signals as a terminal leaves them, and fixtures that several folders use."""

import logging
import os
import shutil
import signal
import tempfile
from collections.abc import Generator, Iterator
from copy import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from icd.cli.main import main
from tests.command import Command, Said
from tests.support.needs import need, required
from tests.support.postgres import Postgres, binaries

if TYPE_CHECKING:
    from tests.crash.served import Harness

# A test belongs to the tier of its folder; what lies in none of these has no tier, and that is an error. Tests of a
# tier that waits long come first, or one worker of xdist ends alone.
TIERS = {
    "faults": "faults",
    "cluster": "cluster",
    "hosts": "hosts",
    "bench": "bench",
    "examples": "examples",
    "integration": "core",
    "e2e": "core",
    "unit": "unit",
    "golden": "unit",
}
LONGEST_S = {"unit": 5.0, "core": 30.0}

# Folders of tests lie in memory where it has so many bytes to give: databases commit without waiting for a disk. What
# only a disk can show is proved by tests that drop what was not synced (tests/crash).
ROOM_IN_MEMORY = 6 << 30


def pytest_configure(config: pytest.Config) -> None:
    """Take back the signals that nohup and '&' have ignored: children inherit that, and ``icd`` honours it.

    Say where tests have their folders.
    """
    for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)
    required()
    in_memory = Path("/dev/shm")
    if in_memory.is_dir() and shutil.disk_usage(in_memory).free > ROOM_IN_MEMORY:
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(in_memory))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    order = list(dict.fromkeys(TIERS.values()))
    tiers = {item: TIERS[item.path.relative_to(Path(__file__).parent).parts[0]] for item in items}
    for item, tier in tiers.items():
        item.add_marker(tier)
    items.sort(key=lambda item: order.index(tiers[item]))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: "pytest.CallInfo[None]") -> Generator[None, Any, Any]:
    """With ``ICD_DURATIONS=strict``, for a machine that does nothing else, a test too slow for its tier fails."""
    report = yield
    limit = next((seconds for tier, seconds in LONGEST_S.items() if item.get_closest_marker(tier)), None)
    strict = os.environ.get("ICD_DURATIONS") == "strict"
    if strict and limit and call.when == "call" and report.passed and call.duration > limit:
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} took {call.duration:.1f} s; a test of this tier takes {limit} s at most"
    return report


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """The command sets logging up for its own stderr, which is another test's a moment later."""
    root, ours = logging.getLogger(), logging.getLogger("icd")
    handlers, levels = root.handlers[:], (root.level, ours.level)
    yield
    root.handlers[:] = handlers
    root.setLevel(levels[0])
    ours.setLevel(levels[1])


@pytest.fixture(scope="module", autouse=True)
def registries_as_they_were() -> Iterator[None]:
    """What a module's plugins add is gone after it; reading them again adds it again."""
    from icd.data import DATASETS
    from icd.data.views import VIEW_FAMILIES
    from icd.losses import BASE_LOSSES
    from icd.methods import METHODS
    from icd.models import MODELS

    tables: list[Any] = [BASE_LOSSES, METHODS, MODELS, DATASETS, VIEW_FAMILIES]
    before = [(table, {name: copy(value) for name, value in vars(table).items()}) for table in tables]
    yield
    for table, attributes in before:
        vars(table).update(attributes)


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    """The command in this process; gives its exit code and what it wrote."""

    def call(*words: object) -> Said:
        capsys.readouterr()
        code = main([str(word) for word in words])
        return Said(code, *capsys.readouterr())

    return call


@pytest.fixture
def icd_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A root of this test's own, which the environment names; no other service is configured."""
    for name in ("ICD_STORAGE_URL", "MLFLOW_TRACKING_URI", "ICD_DATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ICD_ROOT", str(tmp_path / "root"))
    return tmp_path / "root"


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL of this module's own."""
    where = binaries()
    need("postgres", where is not None, "no initdb: apt-get install postgresql")
    assert where is not None
    with tempfile.TemporaryDirectory(prefix="icd-postgres-") as folder:  # pytest's own are closed to other users
        server = Postgres(Path(folder), where)
        yield server
        server.control("stop", "-m", "immediate")


@pytest.fixture(scope="module")
def token() -> Iterator[Path]:
    """The token of clusters that a module's tests start, which the environment names."""
    from tests.integration.ray_nodes import secret

    with secret() as path:
        yield path


@pytest.fixture(scope="module")
def harness(tmp_path_factory: pytest.TempPathFactory) -> "Harness":
    """What starts drivers."""
    from tests.crash.served import Harness

    # Apart from the roots: on a small disk a sweep would run its teacher live, which is another rounding.
    return Harness(ICD_TEACHER_CACHE=str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="module")
def undisturbed_pairs(harness: "Harness", tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root whose sweep over two pairs nobody disturbed."""
    from tests.support.two_pairs import BOTH

    root = harness.root(tmp_path_factory.mktemp("undisturbed") / "root")
    assert harness.drive(root, changes=BOTH).wait() == 0, harness.errors
    return root


@pytest.fixture(scope="module")
def confirmed_pairs(harness: "Harness", undisturbed_pairs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of that root, whose confirmation nobody disturbed either."""
    from tests.support.two_pairs import ASKED, BOTH

    root = Path(shutil.copytree(undisturbed_pairs, tmp_path_factory.mktemp("confirmed") / "root"))
    assert harness.drive(root, changes=BOTH, confirm=ASKED).wait() == 0, harness.errors
    return root


@pytest.fixture(scope="module")
def searched(harness: "Harness", tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with a sweep that is over."""
    from tests.support.confirmations import SEARCH

    root = harness.root(tmp_path_factory.mktemp("searched") / "root")
    assert harness.drive(root, changes=SEARCH).wait() == 0, harness.errors
    return root


@pytest.fixture(scope="module")
def confirmed(harness: "Harness", searched: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root whose confirmation nobody disturbed."""
    from tests.support.confirmations import confirm

    root = Path(shutil.copytree(searched, tmp_path_factory.mktemp("confirmed") / "root"))
    assert confirm(harness, root).wait() == 0, harness.errors
    return root
