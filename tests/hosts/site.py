"""PostgreSQL, MLflow, Ray and secrets on hosts of our own, started as docs/administration/launcher.md says."""

import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.hosts.network import PREFIX, ROOT, Host

DOCKER = ROOT / "docker"
RAY = "python -m ray.scripts.scripts"
# Docker (restart: unless-stopped), Kubernetes and systemd do the same: a raylet that was cut off ends once it is back.
# Whatever else the machine does, Ray gives its agents 15 s to start and itself 30: for a while its session goes first.
_AGAIN = """
turn() { echo "$1" > /proc/self/autogroup; } 2>/dev/null
while :; do
  turn -12
  (sleep 40; turn -3) &
  "$@"
  echo "ended with $?, started again"
  sleep 2
done
"""


def wait_for(condition: Callable[[], Any], seconds: float, what: str) -> float:
    """Wait until something is so; gives how long that took."""
    started = time.monotonic()
    while not condition():
        if time.monotonic() - started > seconds:
            raise TimeoutError(f"{what}: not within {seconds:.0f} s")
        time.sleep(0.1)
    return time.monotonic() - started


def make_secrets(folder: Path) -> dict[str, str]:
    """Let docker/make-secrets.sh write its file, and read it."""
    path = folder / "secrets.env"
    subprocess.run([str(DOCKER / "make-secrets.sh"), str(path)], check=True, capture_output=True)
    return dict(line.split("=", 1) for line in path.read_text().splitlines())


class Postgres:
    """A server with the owners and databases of docker/postgres/init.sh, for a host's whole network."""

    def __init__(self, host: Host, binaries: Path, secrets: dict[str, str]) -> None:
        self.host, self.binaries, self.secrets = host, binaries, secrets
        data = host.disk / "postgres"
        data.mkdir()
        shutil.chown(data, "postgres", "postgres")
        self.data = host.folder / "postgres" / "data"
        password = host.folder / "home" / "password"
        host.write("password", secrets["POSTGRES_PASSWORD"], mode=0o644)
        words = ("-U", "postgres", "-A", "scram-sha-256", "--pwfile", str(password), "--no-sync")
        self._do("initdb", "-D", str(self.data), *words)
        with (data / "data" / "pg_hba.conf").open("a") as file:
            file.write(f"host all all {PREFIX}0/24 scram-sha-256\n")
        self.start()
        host.run("bash", str(DOCKER / "postgres" / "init.sh"), variables=self._administrator)

    @property
    def _administrator(self) -> dict[str, str]:
        path = f"{self.binaries}:/usr/bin:/bin"
        own = {"PATH": path, "PGHOST": "127.0.0.1", "PGPASSWORD": self.secrets["POSTGRES_PASSWORD"]}
        return {**self.secrets, **own}

    def _do(self, program: str, *words: str) -> None:
        self.host.run(str(self.binaries / program), *words, user="postgres")

    def start(self) -> None:
        options = "-c listen_addresses=* -c unix_socket_directories="
        log = str(self.data.parent / "server.log")
        # In the background, or whoever reads what pg_ctl says would wait for the server too.
        words = f"{self.binaries}/pg_ctl start -D {self.data} -w -l {log} -o '{options}' >/dev/null 2>&1"
        self.host.run("sh", "-c", words, user="postgres")

    def stop(self) -> None:
        """Without mercy: no connection is told."""
        self._do("pg_ctl", "stop", "-D", str(self.data), "-w", "-m", "immediate")

    def rows(self, database: str, query: str) -> list[list[str]]:
        words = ("-At", "-F", "\t", "-U", "postgres", "-d", database, "-c", query)
        said = self.host.run(str(self.binaries / "psql"), "-X", *words, variables=self._administrator)
        return [line.split("\t") for line in said.splitlines()]


def start_mlflow(host: Host, secrets: dict[str, str]) -> None:
    """Start the server as docker/compose.yaml does, with artifacts on the host's disk in place of S3."""
    variables = {
        "MLFLOW_BACKEND_STORE_URI": "postgresql+psycopg2://mlflow@postgres:5432/mlflow",
        "PGPASSWORD": secrets["MLFLOW_DB_PASSWORD"],
        "MLFLOW_AUTH_CONFIG_PATH": str(DOCKER / "mlflow" / "basic_auth.ini"),
        "MLFLOW_AUTH_ADMIN_PASSWORD": secrets["MLFLOW_ADMIN_PASSWORD"],
        "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets["MLFLOW_SECRET_KEY"],
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    words = "--host=0.0.0.0 --port=5000 --workers=1 --app-name=basic-auth --serve-artifacts"
    places = f"--artifacts-destination={host.folder}/artifacts"
    allowed = "--allowed-hosts=mlflow:*,localhost:*,127.0.0.1:*"
    host.start(
        "python", "-m", "mlflow", "server", *words.split(), places, allowed, log="mlflow.log", variables=variables
    )


def driver_lines(shared: Path, secrets: dict[str, str]) -> str:
    """What drivers need, as in the file ``~/.icd/driver.env`` of docs/administration/launcher.md."""
    return f"""\
ICD_ROOT={shared}/runs
ICD_STORAGE_URL=postgresql+psycopg2://icd@postgres:5432/icd
PGPASSWORD='{secrets["ICD_DB_PASSWORD"]}'
MLFLOW_TRACKING_URI=http://mlflow:5000
MLFLOW_TRACKING_USERNAME=admin
MLFLOW_TRACKING_PASSWORD='{secrets["MLFLOW_ADMIN_PASSWORD"]}'
"""


def with_token(host: Host, secrets: dict[str, str]) -> None:
    """Put the cluster's token on a host, and let every command there use it."""
    host.write(".icd/ray.token", secrets["RAY_AUTH_TOKEN"])
    token = str(host.home / ".icd" / "ray.token")
    host.environment.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN_PATH=token, RAY_USAGE_STATS_ENABLED="0")


def start_node(host: Host, *words: str, driver: bool = False) -> None:
    """Start Ray on a host, again and again whenever it ends."""
    start = f"{RAY} start --block --temp-dir {host.folder}/ray --object-store-memory=100000000".split()
    before = "set -a; . ~/.icd/driver.env; set +a; " if driver else ""
    host.start("bash", "-c", before + _AGAIN, "bash", *start, *words, log="ray.log")


def restarts(host: Host) -> int:
    """How often Ray had to be started again on a host."""
    return (host.disk / "ray.log").read_text().count("started again")


def answers(host: Host, url: str) -> bool:
    """Whether a server answers, asked from a host."""
    return not host.run("python", str(DOCKER / "answers.py"), url, check=False)
