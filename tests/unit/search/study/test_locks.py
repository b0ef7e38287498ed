"""The lock of a sweep: one driver, named to the second, gone with its holder."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from icd.errors import SetupError, StateError
from icd.search.study.locks import driver_lock, holder, is_driven, lock_folders, sweep_lock
from icd.search.sweep_status import request_stop

HOLD = """
import sys, time
from pathlib import Path
from icd.search.study.locks import driver_lock
with driver_lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_the_second_is_refused_and_told_who_drives(tmp_path: Path) -> None:
    with driver_lock(tmp_path), pytest.raises(StateError) as caught:
        driver_lock(tmp_path).__enter__()
    assert f"is driven by pid {os.getpid()} on " in str(caught.value)
    assert "end it with 'icd stop'" in str(caught.value)


def test_after_release_it_is_free(tmp_path: Path) -> None:
    with driver_lock(tmp_path):
        assert is_driven(tmp_path)
        assert json.loads((tmp_path / "driver.lock").read_text())["pid"] == os.getpid()
    assert not is_driven(tmp_path)
    assert holder(tmp_path) == "another driver"
    with driver_lock(tmp_path):
        assert is_driven(tmp_path)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_it_dies_with_its_holder(tmp_path: Path, number: int) -> None:
    held = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert held.stdout is not None
    assert held.stdout.readline() == "held\n"
    with pytest.raises(StateError, match=f"pid {held.pid} on"):
        driver_lock(tmp_path).__enter__()
    held.send_signal(number)
    held.wait()
    held.stdout.close()
    with driver_lock(tmp_path):
        assert str(os.getpid()) in holder(tmp_path)


def test_a_stopped_holder_keeps_it(tmp_path: Path) -> None:
    held = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert held.stdout is not None
    held.stdout.readline()
    held.send_signal(signal.SIGSTOP)
    with pytest.raises(StateError):
        driver_lock(tmp_path).__enter__()
    held.kill()
    held.wait()
    held.stdout.close()


def test_a_reader_that_looks_does_not_refuse_a_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("icd.search.study.locks._TRIES", 600)
    with driver_lock(tmp_path):
        pass
    reader = (tmp_path / "driver.lock").open("r+")
    fcntl.flock(reader, fcntl.LOCK_SH)
    threading.Timer(0.05, reader.close).start()
    with driver_lock(tmp_path):
        assert is_driven(tmp_path)


def test_readers_do_not_refuse_each_other(tmp_path: Path) -> None:
    with driver_lock(tmp_path):
        pass
    with (tmp_path / "driver.lock").open("r+") as reader:
        fcntl.flock(reader, fcntl.LOCK_SH)
        assert not is_driven(tmp_path)


def test_looking_leaves_nothing_behind(tmp_path: Path) -> None:
    assert not is_driven(tmp_path)
    assert not is_driven(tmp_path / "none")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_none_is_said(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"driver\.lock cannot be written: No such file or directory; choose --root"):
        driver_lock(tmp_path / "none").__enter__()


def test_two_roots_that_share_a_database_in_a_file_share_the_lock(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    urls = [f"sqlite:///{tmp_path}/study.db", f"sqlite:///{tmp_path}/link/study.db"]
    one, other = (tmp_path / name / "sweeps" / "x" for name in ("one", "other"))
    with sweep_lock(one, urls[0], print):
        with pytest.raises(StateError, match=f"sweep 'x' is driven by pid {os.getpid()} on "):
            sweep_lock(other, urls[1], print).__enter__()
        assert not is_driven(other)
        assert any(map(is_driven, lock_folders(other, urls[1])))
        with sweep_lock(other.with_name("y"), urls[1], print):
            pass
    with sweep_lock(other, urls[1], print):
        pass


def test_a_driver_of_another_root_is_not_asked_where_it_does_not_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ICD_STORAGE_URL", url := f"sqlite:///{tmp_path}/study.db")
    one, other = tmp_path / "one", tmp_path / "other"
    with sweep_lock(other / "sweeps" / "x", url, print):
        pass  # a driver was here before
    with sweep_lock(one / "sweeps" / "x", url, print):
        with pytest.raises(StateError, match=r"with another root than .*other; ask for it there"):
            request_stop(other, "x", "now")
        assert not (other / "sweeps" / "x" / "stop").exists()
        assert request_stop(one, "x", "now").startswith(f"pid {os.getpid()} ")
