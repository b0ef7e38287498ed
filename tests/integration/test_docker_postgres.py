"""What docker/postgres/init.sh makes of a real PostgreSQL: two owners who do not see each other."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy

from icd.errors import SetupError
from icd.search.study.database import open_storage
from tests.support.needs import need
from tests.support.postgres import binaries
from tests.tracking import free_port

INIT = Path(__file__).parents[2] / "docker" / "postgres" / "init.sh"
# Whatever somebody chooses: the URLs in docker/ hold no password, so no character can break one.
PASSWORDS = {
    "POSTGRES_PASSWORD": "it's/@:#?%41 $HOME",
    "ICD_DB_PASSWORD": "a'b\"c\\d@e/:%$f;",
    "MLFLOW_DB_PASSWORD": "-- ü",
}


@pytest.fixture(scope="module")
def server() -> Iterator[dict[str, str]]:
    """A server that wants passwords, and the environment of its administrator."""
    where = binaries()
    there = where is not None and (where / "psql").exists()
    need("postgres", there, "no initdb and psql: apt-get install postgresql")
    assert where is not None
    user = "postgres" if os.getuid() == 0 else None
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="icd-postgres-") as name:
        folder = Path(name)
        (folder / "password").write_text(PASSWORDS["POSTGRES_PASSWORD"])
        for path in (folder, folder / "password"):
            if user:
                shutil.chown(path, user, user)

        def command(program: str, *words: str) -> None:
            subprocess.run(
                [str(where / program), *words],
                cwd=folder,
                user=user,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                check=True,
            )

        command("initdb", "-D", "data", "-U", "postgres", "-A", "scram-sha-256", "--pwfile", "password", "--no-sync")
        options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories="
        command("pg_ctl", "start", "-D", "data", "-w", "-l", "server.log", "-o", options)
        try:
            yield {
                "PATH": f"{where}:{os.environ['PATH']}",
                "PGHOST": "127.0.0.1",
                "PGPORT": str(port),
                "PGPASSWORD": PASSWORDS["POSTGRES_PASSWORD"],
                **PASSWORDS,
            }
        finally:
            command("pg_ctl", "stop", "-D", "data", "-w", "-m", "immediate")


def run_init(environment: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(["bash", str(INIT)], env=environment, capture_output=True, text=True, check=False)


def test_each_owner_enters_its_own_databases_alone(server: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    done = run_init(server)
    assert done.returncode == 0, done.stderr
    assert not any(password in done.stdout + done.stderr for password in PASSWORDS.values())

    base = f"127.0.0.1:{server['PGPORT']}"
    monkeypatch.setenv("PGPASSWORD", PASSWORDS["ICD_DB_PASSWORD"])
    assert open_storage(f"postgresql+psycopg2://icd@{base}/icd").get_all_studies() == []
    for role, names, password in (
        ("icd", ("mlflow", "mlflow_users"), "ICD_DB_PASSWORD"),
        ("mlflow", ("icd",), "MLFLOW_DB_PASSWORD"),
    ):
        monkeypatch.setenv("PGPASSWORD", PASSWORDS[password])
        for name in names:
            with pytest.raises(SetupError, match="permission denied"):
                open_storage(f"postgresql+psycopg2://{role}@{base}/{name}")
    for name in ("mlflow", "mlflow_users"):
        engine = sqlalchemy.create_engine(f"postgresql+psycopg2://mlflow@{base}/{name}", poolclass=sqlalchemy.NullPool)
        with engine.begin() as connection:
            connection.execute(sqlalchemy.text("CREATE TABLE t (x int)"))


def test_a_password_that_is_missing_is_named_and_nothing_is_made(server: dict[str, str]) -> None:
    done = run_init({**server, "MLFLOW_DB_PASSWORD": ""})
    assert done.returncode != 0
    assert "MLFLOW_DB_PASSWORD: is not set; docker/make-secrets.sh makes it" in done.stderr
