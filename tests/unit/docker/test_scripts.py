"""The scripts of docker/, run with stand-ins for the programs that they start."""

import http.server
import os
import re
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.unit.docker.files import COMPOSE, DOCKER, MANIFESTS, ROOT, SBATCH

SWEEP = "search_spaces/quickstart.yaml"


def run(*words: str | Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [str(word) for word in words],
        env={**os.environ, **environment},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )


def stand_in(folder: Path, name: str, script: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/usr/bin/env bash\n{script}\n")
    (folder / name).chmod(0o755)


def test_secrets_are_long_fresh_for_one_reader_and_never_made_twice(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for path in (first, second):
        done = run(DOCKER / "make-secrets.sh", path)
        assert done.returncode == 0, done.stderr
        assert done.stdout == ""
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    values = [dict(line.split("=") for line in path.read_text().splitlines()) for path in (first, second)]
    assert all(re.fullmatch(r"[0-9a-f]{64}", value) for value in (*values[0].values(), *values[1].values()))
    assert len({*values[0].values(), *values[1].values()}) == 14

    before = first.read_bytes()
    again = run(DOCKER / "make-secrets.sh", first)
    assert again.returncode == 5
    assert "exists" in again.stderr
    assert first.read_bytes() == before


def test_secrets_that_are_asked_for_are_those_that_are_made(tmp_path: Path) -> None:
    run(DOCKER / "make-secrets.sh", tmp_path / "env")
    made = {line.partition("=")[0] for line in (tmp_path / "env").read_text().splitlines()}
    assert set(re.findall(r"\$\{(\w+):\?", COMPOSE[0].read_text())) == made
    asked = {key for path in MANIFESTS for key in re.findall(r"name: icd, key: (\w+)", path.read_text())}
    assert asked <= made


def test_a_driver_becomes_a_node_first_and_a_reader_does_not(tmp_path: Path) -> None:
    stand_in(tmp_path / "bin", "ray", f'echo "$@" >> {tmp_path}/ray.txt')
    path = {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}
    read = run("bash", DOCKER / "drive.sh", "echo", "status", **path)
    assert (read.returncode, read.stdout) == (0, "status\n")
    assert not (tmp_path / "ray.txt").exists()

    drive = run("bash", DOCKER / "drive.sh", "echo", "sweep", "--address", "h:1", RAY_HEAD="h:1", **path)
    assert (drive.returncode, drive.stdout) == (0, "sweep --address h:1\n")
    assert "start --address=h:1 --num-cpus=0 --num-gpus=0" in (tmp_path / "ray.txt").read_text()


def test_a_driver_that_cannot_join_says_why(tmp_path: Path) -> None:
    stand_in(tmp_path / "bin", "ray", "echo 'no such cluster' >&2; exit 1")
    done = run(
        *("bash", DOCKER / "drive.sh", "echo", "sweep", "--address", "h:1"),
        PATH=f"{tmp_path / 'bin'}:{os.environ['PATH']}",
        RAY_HEAD="h:1",
    )
    assert (done.returncode, done.stdout) == (3, "")
    assert "no such cluster" in done.stderr


class Answer(http.server.BaseHTTPRequestHandler):
    """Answers /health with 200 and anything else with 503."""

    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/health" else 503)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def test_health_is_an_answer_that_is_no_error() -> None:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        base = f"http://127.0.0.1:{server.server_port}"
        codes = [run(sys.executable, DOCKER / "answers.py", base + path).returncode for path in ("/health", "/other")]
        server.shutdown()
        thread.join()
    gone = run(sys.executable, DOCKER / "answers.py", base + "/health")
    assert codes == [0, 1]
    assert gone.returncode == 1
    assert base in gone.stderr


class Slurm:
    """A batch script's surroundings: one node, with stand-ins for Slurm, Ray and icd that write down what they did."""

    def __init__(self, tmp_path: Path, sweep: str) -> None:
        self.home, self.bin, self.log = tmp_path / "home", tmp_path / "bin", tmp_path / "log"
        self.home.mkdir()
        self.log.touch()
        stand_in(
            self.bin, "scontrol", f'if [[ $1 == show ]]; then echo node1; else echo "scontrol $*" >> {self.log}; fi'
        )
        stand_in(self.bin, "hostname", "echo 10.0.0.7 fe80::1")
        # srun OPTIONS COMMAND, and 'ray symmetric-run OPTIONS -- COMMAND'
        stand_in(self.bin, "srun", 'while [[ $1 == -* ]]; do shift; done; exec "$@"')
        mode = f'stat -c "token %a" "$RAY_AUTH_TOKEN_PATH" >> {self.log}; wc -c < "$RAY_AUTH_TOKEN_PATH" >> {self.log}'
        stand_in(
            self.bin, "ray", f'echo "ray $*" >> {self.log}; {mode}; until [[ $1 == -- ]]; do shift; done; shift; "$@"'
        )
        stand_in(self.bin, "icd", f'echo "icd $* $RAY_AUTH_MODE" >> {self.log}; if [[ $1 == sweep ]]; then {sweep}; fi')
        stand_in(self.bin, "python", f'exec {sys.executable} "$@"')
        self.environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith(("RAY_", "ICD_", "SLURM_"))},
            "HOME": str(self.home),
            "ICD_BIN": str(self.bin),
            "SWEEP": SWEEP,
            "SLURM_JOB_ID": "12345",
            "SLURM_JOB_NODELIST": "node1",
            "SLURM_JOB_NUM_NODES": "1",
            "SLURM_CPUS_PER_TASK": "8",
            "TMPDIR": str(tmp_path),
        }
        self.cache = tmp_path / f"icd-{os.getuid()}"

    def start(self) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(["bash", SBATCH], cwd=ROOT, env=self.environment, stderr=subprocess.DEVNULL)

    def lines(self) -> list[str]:
        return self.log.read_text().splitlines()

    def tokens(self) -> list[Path]:
        return list(self.home.rglob("*.token"))


@pytest.mark.parametrize("code", [0, 4])
def test_a_slurm_job_ends_with_the_code_of_its_sweep(tmp_path: Path, code: int) -> None:
    slurm = Slurm(tmp_path, sweep=f"exit {code}")
    assert slurm.start().wait(120) == code
    ray, mode, size, sweep = slurm.lines()
    assert ray.startswith("ray symmetric-run --address 10.0.0.7:22345 --min-nodes 1 --num-cpus=8")
    assert (mode, size) == ("token 600", "64")
    assert sweep == f"icd sweep {SWEEP} --address 10.0.0.7:22345 token"
    assert slurm.tokens() == []


def test_a_slurm_job_that_lost_a_node_on_the_way_has_the_code_of_its_sweep(tmp_path: Path) -> None:
    slurm = Slurm(tmp_path, sweep="exit 0")
    stand_in(slurm.bin, "srun", 'while [[ $1 == -* ]]; do shift; done; "$@"; [[ $1 == ray ]] && exit 137; exit 0')
    assert slurm.start().wait(120) == 0
    assert list((slurm.home / ".icd").iterdir()) == []


def test_a_slurm_job_without_a_ray_is_no_success(tmp_path: Path) -> None:
    slurm = Slurm(tmp_path, sweep="exit 0")
    stand_in(slurm.bin, "ray", "echo 'Failed to start Ray' >&2; exit 0")  # as 'ray symmetric-run' ends
    done = subprocess.run(
        ["bash", SBATCH], cwd=ROOT, env=slurm.environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 3
    assert "Ray could not start on node1" in done.stderr
    assert list((slurm.home / ".icd").iterdir()) == []


def test_a_slurm_job_whose_time_is_up_stops_the_sweep_and_queues_again(tmp_path: Path) -> None:
    slurm = Slurm(tmp_path, sweep=f"touch {tmp_path}/runs; while [[ ! -e {tmp_path}/told ]]; do sleep 0.05; done")
    extended = tmp_path / "longer.yaml"  # without a name of its own
    extended.write_text(f"extends: {ROOT / SWEEP}\ntraining: {{epochs: 9}}\n")
    slurm.environment["SWEEP"] = str(extended)
    stopping = slurm.bin / "icd"
    stopping.write_text(stopping.read_text() + f"if [[ $1 == stop ]]; then touch {tmp_path}/told; fi\n")
    job = slurm.start()
    deadline = time.monotonic() + 30
    while not (tmp_path / "runs").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    job.send_signal(signal.SIGUSR1)
    assert job.wait(120) == 0
    assert slurm.lines()[-2:] == ["icd stop quickstart --now token", "scontrol requeue 12345"]
    assert slurm.tokens() == []


def test_a_slurm_job_keeps_teacher_caches_where_nobody_else_writes(tmp_path: Path) -> None:
    slurm = Slurm(tmp_path, sweep=f'echo "$ICD_TEACHER_CACHE" >> {tmp_path}/caches')
    assert slurm.start().wait(120) == 0
    assert stat.S_IMODE(slurm.cache.stat().st_mode) == 0o700
    (slurm.cache / "answers").touch()
    slurm.cache.chmod(0o777)
    assert slurm.start().wait(120) == 0
    assert stat.S_IMODE(slurm.cache.stat().st_mode) == 0o700
    assert (slurm.cache / "answers").exists(), "the next job has them too"
    slurm.environment["ICD_TEACHER_CACHE"] = str(tmp_path / "named")
    assert slurm.start().wait(120) == 0
    assert (tmp_path / "caches").read_text().splitlines() == [str(slurm.cache)] * 2 + [str(tmp_path / "named")]


@pytest.mark.parametrize("kind", ["a link", "another user's"])
def test_a_slurm_job_uses_no_cache_that_somebody_else_has_laid_there(tmp_path: Path, kind: str) -> None:
    slurm = Slurm(tmp_path, sweep="exit 0")
    if kind == "a link":
        (tmp_path / "theirs").mkdir()
        slurm.cache.symlink_to(tmp_path / "theirs")
    else:
        slurm.cache.mkdir(mode=0o777)
        stand_in(slurm.bin, "srun", 'while [[ $1 == -* ]]; do shift; done; exec "${@//-O/! -O}"')  # as if it were
    done = subprocess.run(
        ["bash", SBATCH], cwd=ROOT, env=slurm.environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 3
    assert f"{slurm.cache} on 10.0.0.7 fe80::1 is not your own folder; let ICD_TEACHER_CACHE name one" in done.stderr
    assert slurm.lines() == [], "no Ray was started"
    assert slurm.tokens() == []


def test_a_slurm_job_without_a_file_says_how_to_name_one(tmp_path: Path) -> None:
    slurm = Slurm(tmp_path, sweep="exit 0")
    slurm.environment.pop("SWEEP")
    done = subprocess.run(
        ["bash", SBATCH], cwd=ROOT, env=slurm.environment, capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "sbatch --export=ALL,SWEEP=FILE" in done.stderr
    assert slurm.lines() == []
