"""What a sweep on hosts of our own does, read from outside: its files, its ledger, what MLflow was told."""

import contextlib
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

from tests.hosts.network import Host
from tests.hosts.site import Postgres

# A worker has it open as long as it runs the attempt; a later attempt removes its name.
_STACK = re.compile(r"/trials/(\d+)/stack-(\d+)\.txt( \(deleted\))?$")


class Watched:
    """A sweep's folder, on the disk that all hosts share."""

    def __init__(self, root: Path, name: str) -> None:
        self.root, self.name = root, name
        self.folder = root / "sweeps" / name

    def trial(self, number: int) -> Path:
        return self.folder / "trials" / f"{number:04d}"

    def rows(self, number: int) -> list[dict[str, Any]]:
        """What a trial's workers wrote, an epoch a row."""
        with contextlib.suppress(OSError):
            lines = (self.trial(number) / "metrics.jsonl").read_text().split("\n")
            return [json.loads(line) for line in lines[:-1]]
        return []

    def epoch(self, number: int) -> int:
        return max((int(row["epoch"]) for row in self.rows(number)), default=0)

    def checkpoint(self, number: int) -> int:
        found = (self.trial(number) / "checkpoints").glob("epoch-*.ckpt")
        return max((int(path.stem.rpartition("-")[2]) for path in found), default=0)

    def attempt(self, number: int) -> int:
        return int((self.trial(number) / "attempt").read_text().split()[0])

    def finished(self) -> int:
        return len(list(self.folder.glob("trials/*/result.json")))

    def on(self, host: Host) -> dict[int, int]:
        """The trials that a host runs, and the attempt of each."""
        found = {}
        for pid in host.pids():
            with contextlib.suppress(OSError):
                for descriptor in Path(f"/proc/{pid}/fd").iterdir():
                    if match := _STACK.search(str(descriptor.readlink())):
                        found[int(match[1])] = int(match[2])
        return found


def ledger(host: Host, name: str) -> list[dict[str, Any]]:
    """The trials as the ledger has them, asked on a host that drivers run on."""
    rows: list[dict[str, Any]] = json.loads(on_driver(host, f"python -m icd.cli.main trials {name} --json"))
    return sorted(rows, key=lambda row: int(row["number"]))


def on_driver(host: Host, command: str, *, check: bool = True) -> str:
    """Run a command with what drivers have."""
    return host.run("bash", "-c", f"set -a; . ~/.icd/driver.env; set +a; {command}", check=check, seconds=600)


def tracking_faults(postgres: Postgres, trials: int, epochs: int) -> list[str]:
    """Say where MLflow does not hold one finished run for each trial and each metric of each epoch once."""
    named = (
        "select t.value, r.status from runs r join tags t on t.run_uuid = r.run_uuid "
        "where t.key = 'icd.trial' and r.lifecycle_stage = 'active'"
    )
    runs = Counter((value.rpartition("/")[2], status) for value, status in postgres.rows("mlflow", named))
    expected = Counter((name, "FINISHED") for name in [*(f"{number:04d}" for number in range(trials)), "summary"])
    faults = [f"runs {runs}"] if runs != expected else []
    twice = "select run_uuid, key, step from metrics group by 1, 2, 3 having count(*) > 1"
    faults += [f"twice: {row}" for row in postgres.rows("mlflow", twice)]
    told = "select run_uuid, count(*), min(step), max(step) from metrics where key = 'val/top1' group by 1"
    counts = sorted(row[1:] for row in postgres.rows("mlflow", told))
    if counts != [[str(epochs), "1", str(epochs)]] * trials:
        faults.append(f"epochs told: {counts}")
    return faults
