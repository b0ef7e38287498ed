"""A sweep on several hosts: submitted by a client that leaves, with a host cut off, a host lost, PostgreSQL restarted.

Five hosts of our own on this machine (``network.py``), real training, the commands of
docs/administration/launcher.md: ``make hosts``.
"""

import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.documents import document_of
from tests.hosts import site
from tests.hosts.network import ROOT, Host, missing, network
from tests.hosts.site import RAY, Postgres, wait_for
from tests.hosts.watch import Watched, ledger, on_driver, tracking_faults
from tests.support.needs import need
from tests.support.postgres import binaries

pytestmark = [
    pytest.mark.hosts,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(not os.environ.get("ICD_HOSTS"), reason="ten minutes: make hosts"),
    pytest.mark.skipif(bool(missing()), reason=missing()),
]

NAMES = ("head", "worker-1", "worker-2", "services", "client")
NAME, TRIALS, EPOCHS = "several", 6, 160  # long enough that all that happens finds a trial in training
CUT_S, AWAY_S = 30.0, 5.0


def sweep() -> dict[str, Any]:
    """The quick start with fewer images and more epochs, and nothing in it that depends on time."""
    document: dict[str, Any] = yaml.safe_load((ROOT / "search_spaces" / "quickstart.yaml").read_text())
    document["teacher"]["training"] = {"epochs": 1}
    parts = {
        **document,
        "name": NAME,
        "data": {"name": "digits100", "train_per_class": 8, "val_fraction": 0.25},
        "training": {"epochs": EPOCHS},
        "enqueue": ["iCD-KD"],
        "sampler": {"name": "random"},
        "pruner": {"name": "none"},
        "budget": {"trials": TRIALS},
    }
    return document_of(parts)


@dataclass
class Cluster:
    """The hosts, what runs on them, and what happened when."""

    hosts: dict[str, Host]
    shared: Path
    secrets: dict[str, str]
    postgres: Postgres
    began: float = field(default_factory=time.monotonic)
    notes: list[str] = field(default_factory=list)

    def __getitem__(self, name: str) -> Host:
        return self.hosts[name]

    def note(self, text: str) -> None:
        """Keep it and show it: the whole takes minutes."""
        self.notes.append(f"{time.monotonic() - self.began:6.1f} s  {text}")
        print(self.notes[-1], flush=True)  # noqa: T201


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    where = binaries()
    there = where is not None and (where / "psql").exists()
    need("postgres", there, "no initdb and psql: apt-get install postgresql")
    assert where is not None
    for module, extra in (("psycopg2", "postgres"), ("aiohttp_cors", "cluster"), ("flask_wtf", "server")):
        pytest.importorskip(module, reason=f"pip install '.[{extra}]'")
    with network(NAMES, {"postgres": "services", "mlflow": "services"}) as hosts:
        base = hosts["head"].folder.parent
        secrets = site.make_secrets(base)
        cluster = Cluster(hosts, base / "shared", secrets, Postgres(hosts["services"], where, secrets))
        try:
            start(cluster)
            yield cluster
        finally:
            keep_logs(cluster)


def start(cluster: Cluster) -> None:
    """Start everything; only the head's user has what drivers need."""
    head, client = cluster["head"], cluster["client"]
    site.start_mlflow(cluster["services"], cluster.secrets)
    wait_for(lambda: site.answers(client, "http://mlflow:5000/health"), 240, "MLflow")
    for name in ("head", "worker-1", "worker-2", "client"):
        site.with_token(cluster[name], cluster.secrets)
    head.write(".icd/driver.env", site.driver_lines(cluster.shared, cluster.secrets))
    words = "--head --port=6379 --num-cpus=0 --num-gpus=0 --dashboard-host=0.0.0.0"
    site.start_node(head, *words.split(), driver=True)
    wait_for(lambda: site.answers(client, "http://head:8265/api/gcs_healthz"), 300, "the head")
    cluster.note("the head is there")
    workers = [cluster["worker-1"], cluster["worker-2"]]
    for host in workers:
        site.start_node(host, "--address=head:6379", "--num-cpus=1", "--num-gpus=0")
    healthy = "http://127.0.0.1:52365/api/local_raylet_healthz"
    wait_for(lambda: all(site.answers(host, healthy) for host in [head, *workers]), 300, "three nodes")
    cluster.note("PostgreSQL, MLflow and three Ray nodes are there")


def keep_logs(cluster: Cluster) -> None:
    """Put what the hosts said where it can be read after a failure."""
    folder = ROOT / "build" / "hosts"
    folder.mkdir(parents=True, exist_ok=True)
    for host in cluster.hosts.values():
        for path in [*host.disk.glob("*.log"), *host.disk.glob("ray/session_2*/logs/job-driver-*.log")]:
            (folder / f"{host.name}-{path.name}").write_bytes(path.read_bytes())
    (folder / "notes.txt").write_text("\n".join(cluster.notes) + "\n")


def job(cluster: Cluster) -> str:
    """What the job wrote so far."""
    found = (cluster["head"].disk / "ray").glob("session_2*/logs/job-driver-several.log")
    return "".join(path.read_text() for path in found)


def losses(cluster: Cluster, host: Host) -> int:
    """How often the driver lost a trial with a host."""
    return job(cluster).count(f": node {host.name} (")


def submit_and_leave(cluster: Cluster, watched: Watched) -> None:
    """Submit from the client's host, and lose that host at once."""
    path = cluster.shared / f"{NAME}.yaml"
    path.write_text(json.dumps(sweep()))
    words = f"{RAY} job submit --no-wait --submission-id {NAME} -- python jobs/sweep.py {path}"
    said = cluster["client"].run(*words.split(), variables={"RAY_API_SERVER_ADDRESS": "http://head:8265"})
    assert "submitted successfully" in said
    cluster["client"].kill()
    assert not watched.finished()
    cluster.note("the job is submitted, and the client's host is gone")


def wait_busy(watched: Watched, host: Host) -> int:
    """Wait until a host runs a trial that has had some epochs and has some before it; gives the trial."""
    found: list[int] = []

    def look() -> bool:
        found[:] = [number for number in watched.on(host) if 2 <= watched.epoch(number) <= EPOCHS - 6]
        return bool(found)

    wait_for(look, 600, f"a trial on {host.name}")
    return found[0]


def cut_off(cluster: Cluster, watched: Watched, host: Host) -> None:
    """Pull a host's cable for half a minute: a trial there goes on, in one attempt or in the next."""
    number = wait_busy(watched, host)
    attempt, kept = watched.attempt(number), watched.checkpoint(number)
    host.cable("down")
    cut = time.monotonic()
    cluster.note(f"{host.name} is cut off: trial {number}, attempt {attempt}, newest checkpoint {kept}")
    time.sleep(CUT_S)
    host.cable("up")
    cluster.note(f"its cable is back after {time.monotonic() - cut:.1f} s")
    wait_for(lambda: watched.epoch(number) > kept + 1, 300, "its next epoch")
    gone = time.monotonic() - cut
    cluster.note(f"trial {number} has a new epoch {gone:.1f} s after the cut, in attempt {watched.attempt(number)}")


def cut_off_for_long(cluster: Cluster, watched: Watched, host: Host) -> int:
    """Cut a host off, asleep, until others have its trial; what it does then is late. Gives the trial.

    Awake its workers would find the next attempt on the shared disk and end before the cable is back.
    """
    number = wait_busy(watched, host)
    attempt, kept = watched.attempt(number), watched.checkpoint(number)
    before, restarts = losses(cluster, host), site.restarts(host)
    host.cable("down")
    host.sleep()
    cut = time.monotonic()
    cluster.note(f"{host.name} is cut off again, asleep: trial {number}, attempt {attempt}, newest checkpoint {kept}")
    wait_for_loss(cluster, host, before, cut, "the cut")
    wait_for(lambda: watched.attempt(number) > attempt, 300, "another attempt")
    wait_for(lambda: watched.epoch(number) > kept + 1, 300, "its next epoch")
    cluster.note(f"trial {number} has a new epoch {time.monotonic() - cut:.1f} s after the cut, elsewhere")
    assert watched.on(host) == {number: attempt}, "the late worker is still there"
    host.cable("up")
    host.wake()
    back = time.monotonic()
    wait_for(lambda: watched.on(host).get(number) != attempt, 60, "the late worker ends")
    cluster.note(f"its late worker ends {time.monotonic() - back:.1f} s after the cable is back")
    wait_for(lambda: site.restarts(host) > restarts, 120, "its Ray ends")
    cluster.note(f"its Ray ends, to be started again, {time.monotonic() - back:.1f} s after the cable is back")
    return number


def wait_for_loss(cluster: Cluster, host: Host, before: int, since: float, what: str) -> None:
    """Wait until the driver has noticed once more that a host is gone."""
    wait_for(lambda: losses(cluster, host) > before, 180, "its loss is noticed")
    cluster.note(f"its loss is noticed {time.monotonic() - since:.1f} s after {what}")


def restart_postgres(cluster: Cluster, watched: Watched) -> None:
    before = sum(watched.epoch(number) for number in range(TRIALS))
    cluster.postgres.stop()
    stopped = time.monotonic()
    time.sleep(AWAY_S)
    cluster.postgres.start()
    cluster.note(f"PostgreSQL was away for {time.monotonic() - stopped:.1f} s")
    wait_for(lambda: sum(watched.epoch(number) for number in range(TRIALS)) > before + 2, 120, "epochs after that")
    cluster.note(f"epochs go on {time.monotonic() - stopped:.1f} s after it stopped")


def lose(cluster: Cluster, watched: Watched, host: Host) -> int:
    """Lose a host for good; gives its trial."""
    number = wait_busy(watched, host)
    attempt, before = watched.attempt(number), losses(cluster, host)
    host.kill()
    lost = time.monotonic()
    cluster.note(f"{host.name} is lost: trial {number}, attempt {attempt}, epoch {watched.epoch(number)}")
    wait_for_loss(cluster, host, before, lost, "that")
    wait_for(lambda: watched.attempt(number) > attempt, 600, "another attempt")
    cluster.note(f"trial {number} is given out again {time.monotonic() - lost:.1f} s after the loss")
    return number


def test_nothing_is_lost_or_doubled(cluster: Cluster) -> None:
    head, watched = cluster["head"], Watched(cluster.shared / "runs", NAME)
    submit_and_leave(cluster, watched)
    cut_off(cluster, watched, cluster["worker-1"])
    restart_postgres(cluster, watched)
    moved = [cut_off_for_long(cluster, watched, cluster["worker-1"]), lose(cluster, watched, cluster["worker-2"])]
    wait_for(lambda: watched.finished() == TRIALS, 900, f"the end of the sweep: {job(cluster)}")
    status = f"{RAY} job status {NAME}".split()
    there = {"RAY_API_SERVER_ADDRESS": "http://127.0.0.1:8265"}
    wait_for(lambda: "succeeded" in head.run(*status, variables=there, check=False), 180, "the job's end")
    cluster.note("the job has succeeded")

    said = job(cluster)
    rows = ledger(head, NAME)
    assert [row["state"] for row in rows] == ["complete"] * TRIALS, said
    for number, row in enumerate(rows):
        assert row["attempts"] >= 1 + moved.count(number)
        assert [each["epoch"] for each in watched.rows(number)] == list(range(1, EPOCHS + 1))
    assert tracking_faults(cluster.postgres, TRIALS, EPOCHS) == []
    cluster.note(f"attempts {[row['attempts'] for row in rows]}; ledger, files and MLflow agree")
    for secret in cluster.secrets.values():
        assert secret not in said
    assert "Traceback" not in said


def test_disturbed_trials_are_what_they_would_have_been(cluster: Cluster) -> None:
    watched = Watched(cluster.shared / "runs", NAME)
    moved = [row for row in ledger(cluster["head"], NAME) if row["attempts"] > 1]
    assert moved
    for row in moved:
        number = int(row["number"])
        config = watched.trial(number) / "config.yaml"
        said = on_driver(cluster["head"], f"python -m icd.cli.main train {config} --name again-{number} --json")
        again, before = json.loads(said), json.loads((watched.trial(number) / "result.json").read_text())
        assert again["student_sha256"] == before["student_sha256"]
        cluster.note(f"trial {number}, undisturbed, has the same weights")
