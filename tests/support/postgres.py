"""A PostgreSQL of a test's own."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import sqlalchemy

from tests.tracking import free_port


def binaries() -> Path | None:
    """Where initdb and pg_ctl are: Debian keeps them off the path."""
    found = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    on_path = shutil.which("initdb")
    return max(found, default=Path(on_path).resolve().parent if on_path else None)


class Postgres:
    """A server of our own, as the user postgres where we are root, which it refuses to be."""

    def __init__(self, folder: Path, where: Path) -> None:
        self.folder, self.where = folder, where
        self.user = "postgres" if os.getuid() == 0 else None
        if self.user:
            shutil.chown(folder, self.user, self.user)
        self.command("initdb", "-D", "data", "-U", "icd", "-A", "trust", "--no-sync")
        self.port = free_port()  # as late as can be: others look for one too
        self.control("start")
        for name in ("study", "tracking"):
            self.command("createdb", "-h", "127.0.0.1", "-p", str(self.port), "-U", "icd", name)

    def command(self, name: str, *words: str) -> None:
        done = subprocess.run(
            [str(self.where / name), *words],
            cwd=self.folder,
            user=self.user,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def control(self, what: str, *words: str) -> None:
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories="
        log = ("-l", "server.log", "-o", options) if what != "stop" else ()
        with (self.folder / "control.log").open("ab") as out:
            subprocess.run(
                [str(self.where / "pg_ctl"), what, "-D", "data", "-w", *log, *words],
                cwd=self.folder,
                user=self.user,
                stdout=out,
                stderr=out,
                check=True,
            )

    def restart(self) -> None:
        self.control("restart", "-m", "immediate")

    def url(self, name: str) -> str:
        return f"postgresql+psycopg2://icd:verysecret@127.0.0.1:{self.port}/{name}"

    def select(self, name: str, query: str) -> list[tuple[Any, ...]]:
        engine = sqlalchemy.create_engine(self.url(name), poolclass=sqlalchemy.NullPool)
        with engine.connect() as connection:
            return [tuple(row) for row in connection.execute(sqlalchemy.text(query))]
