"""A sweep as a person sees it: MLflow's pages in a headless Chromium."""

import html
import json
import re
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import pytest

from icd.search.tracking.mlflow_pages import leaderboard_url
from tests.e2e.devtools import Browser
from tests.support.needs import need
from tests.tracking import Held, Server, demo_sweep, send

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Shown(NamedTuple):
    server: Server
    experiment: str
    holds: Held


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shown]:
    need("chromium", CHROMIUM is not None, "no chromium: apt-get install chromium")
    server = Server(tmp_path_factory.mktemp("browser"))
    sweep = server.folder / "sweep"
    sweep.mkdir()
    views = demo_sweep()
    assert send(sweep, f"sqlite:///{server.database}", views, experiment="cifar100-demo", deadline_s=120) == 0
    with sqlite3.connect(server.database) as connection:
        ((experiment,),) = connection.execute("select experiment_id from experiments where name = 'cifar100-demo'")
    connection.close()
    server.start()
    yield Shown(server, str(experiment), Held(server.database))
    server.kill()


def page(folder: Path, address: str, ready: Callable[[list[str]], bool]) -> list[str]:
    """Give the lines of a page as soon as its scripts have made it ready; each text between tags is one."""
    deadline = time.monotonic() + 240
    with Browser(str(CHROMIUM), folder / "profile") as browser:
        browser.open(address, width=3600, height=1400)
        while True:
            dumped = browser.value("document.documentElement.outerHTML")
            body = re.sub(r"<(script|style)\b.*?</\1>", "", dumped, flags=re.DOTALL)
            lines = html.unescape(re.sub(r"(<[^>]*>\s*)+", "\n", body)).splitlines()
            if ready(lines) or time.monotonic() > deadline:
                return lines
            time.sleep(0.5)


def trials(lines: list[str]) -> list[str]:
    return [line for line in lines if re.fullmatch(r"00\d\d \w+ [s124+]+", line)]


def test_the_leaderboard_shows_complete_trials_best_first(shown: Shown, tmp_path: Path) -> None:
    address = leaderboard_url(shown.server.uri, shown.experiment)
    lines = page(tmp_path, address, lambda lines: len(trials(lines)) == 15 and "73.59" in lines)
    assert "Which scale weights distil resnet32x4 into resnet8x4 best on CIFAR-100?" in "\n".join(lines)
    assert "Model registry" in lines  # the menu of training, not of chat models
    assert {"final/val/top1", "base_loss", "scales", "w_1", "w_2", "w_4", "dkd.beta", "nkd.gamma"} <= set(lines)
    assert {"73.59", "s1+s2+s4", "dkd", "ldrld"} <= set(lines)
    # The best of the complete trials; 0005 was pruned, 0013 failed, 0012 is of an ablation.
    names = trials(lines)
    assert names[:3] == ["0007 ldrld s1+s4", "0014 nkd s1", "0001 dkd s1+s2"]
    assert len(names) == 15
    assert not {"0005", "0012", "0013"} & {name[:4] for name in names}


def test_runs_can_be_compared(shown: Shown, tmp_path: Path) -> None:
    names = {name: run for run, name in shown.holds.runs.items()}
    runs = [names[name] for name in ("0000", "0001", "0002", "0003")]
    words = f"runs={quote(json.dumps(runs))}&experiments={quote(json.dumps([shown.experiment]))}"
    address = f"{shown.server.uri}/#/compare-runs?{words}"
    lines = page(tmp_path, address, lambda lines: {"0002 nkd s1+s4", "val/top1"} <= set(lines))
    assert "Comparing 4 Runs from 1 Experiment" in "\n".join(lines)
    assert {"0001 dkd s1+s2", "0002 nkd s1+s4", "base_loss", "w_1", "val/top1"} <= set(lines)
    assert "73.39" in "\n".join(lines)
