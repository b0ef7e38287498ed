"""A worker that was taken for dead: what it still sends replaces nothing, in a folder and in a bucket."""

import json
from pathlib import Path

import pytest

from icd.errors import CheckpointError, StateError
from icd.search.core.attempts import Attempt, RunContext, newest_attempt
from icd.search.study.sweep_files import SweepFiles
from icd.storage.bucket import Bucket, bucket_of, local_root
from icd.teacher.store import TeacherStore
from icd.training import checkpoints
from icd.worker.attempt_storage import working_copy
from icd.worker.trial_folder import take_up
from icd.worker.trial_metrics import stored_rows

RUN = "sweeps/x/trials/0003"


class Machine:
    """A node with a disk of its own."""

    def __init__(self, folder: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self._folder, self._url, self._monkeypatch = folder, url, monkeypatch

    def use(self) -> None:
        self._monkeypatch.setenv("ICD_CACHE", str(self._folder))

    def attempt(self, count: int) -> Attempt:
        self.use()
        elsewhere = Path("/nowhere")
        context = RunContext(folder=elsewhere / "sweeps" / "x", root=elsewhere, bucket=self._url)
        given = Attempt(number=3, attempt=count, runs={"": {}}, context=context).here()
        assert given.context.root == local_root(self._url)
        return given

    def shelf(self) -> SweepFiles:
        self.use()
        root = local_root(self._url)
        return SweepFiles(root / "sweeps" / "x", bucket_of(root))


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"file://{tmp_path}/store"


@pytest.fixture
def first(tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path / "first", url, monkeypatch)


@pytest.fixture
def second(tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path / "second", url, monkeypatch)


def train(folder: Path, epoch: int) -> None:
    """Leave what an epoch leaves."""
    metrics = {"val/top1": float(epoch)}
    payload = {"epoch": epoch, "reported": True, "metrics": metrics}
    checkpoints.save_epoch(folder / "checkpoints", epoch, payload)
    with (folder / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"epoch": epoch, **metrics}) + "\n")


def epochs(folder: Path) -> list[int]:
    return [row["epoch"] for row in stored_rows(folder)]


def test_another_machine_continues_and_the_late_worker_is_refused(first: Machine, second: Machine, url: str) -> None:
    driver = first.shelf()
    driver.issue(3, 1)
    attempt = first.attempt(1)
    with working_copy(attempt) as publish:
        for epoch in (1, 2, 3):
            train(attempt.folder, epoch)
            publish()
        driver.issue(3, 2)
        newer = second.attempt(2)
        with working_copy(newer) as publish_newer:
            assert [row["epoch"] for row in take_up(newer.folder).rows] == [1, 2, 3]
            found = checkpoints.newest(newer.folder / "checkpoints")
            assert found is not None
            assert found.epoch == 3
            train(attempt.folder, 4)
            with pytest.raises(CheckpointError, match="attempt 2 has taken over from attempt 1"):
                publish()
            train(newer.folder, 4)
            publish_newer()
        assert not newer.folder.exists()
    bucket = Bucket(url)
    bucket.write(f"{RUN}/a1/metrics.jsonl", b'{"epoch": 99}\n')  # under way when the newer attempt began
    bucket.write(f"{RUN}/a1/result.json", b"{}")
    driver.fetch({3: 2})
    folder = driver.folder / "trials" / "0003"
    assert epochs(folder) == [1, 2, 3, 4]
    assert not (folder / "result.json").exists()
    third = first.attempt(3)
    driver.issue(3, 3)
    with working_copy(third):
        assert epochs(third.folder) == [1, 2, 3, 4]
        assert not (third.folder / "result.json").exists()


def test_an_attempt_that_took_nothing_over_is_passed_by(first: Machine, second: Machine, url: str) -> None:
    driver, attempt = first.shelf(), first.attempt(1)
    driver.issue(3, 1)
    with working_copy(attempt) as publish:
        train(attempt.folder, 1)
        publish()
    Bucket(url).write(f"{RUN}/a2/metrics.jsonl", b'{"epoch": 7}\n')  # it died before it had begun
    driver.issue(3, 3)
    with working_copy(second.attempt(3)):
        assert epochs(second.attempt(3).folder) == [1]
    driver.fetch({3: 2})
    assert epochs(driver.folder / "trials" / "0003") == [1]


def test_an_attempt_the_ledger_does_not_know_is_not_read(first: Machine, url: str) -> None:
    driver = first.shelf()
    for count in (1, 2):
        driver.issue(3, count)
        attempt = first.attempt(count)
        with working_copy(attempt) as publish:
            train(attempt.folder, count)
            publish()
    driver.fetch({3: 1})
    assert epochs(driver.folder / "trials" / "0003") == [1]
    driver.fetch({3: 2})
    assert epochs(driver.folder / "trials" / "0003") == [1, 2]


def test_what_is_fetched_follows_the_attempt(first: Machine, second: Machine) -> None:
    """A result that came too late is not left lying beside the newer attempt's files."""
    driver = first.shelf()
    driver.issue(3, 1)
    attempt = first.attempt(1)
    with working_copy(attempt) as publish:
        train(attempt.folder, 1)
        publish()
        driver.issue(3, 2)
        with working_copy(second.attempt(2)):
            pass
        bucket = Bucket(attempt.context.bucket)
        bucket.write(f"{RUN}/a1/result.json", b"{}")
        bucket.write(f"{RUN}/a1/student.safetensors", b"weights")
        driver.fetch({3: 1}, weights=True)
        folder = driver.folder / "trials" / "0003"
        assert (folder / "result.json").exists()
        assert (folder / "student.safetensors").read_bytes() == b"weights"
        driver.fetch({3: 2})
        assert not (folder / "result.json").exists()
        assert not (folder / "student.safetensors").exists()
        assert epochs(folder) == [1]


def test_two_checkpoints_are_kept_and_dropped_at_the_end(first: Machine, url: str) -> None:
    driver, attempt, bucket = first.shelf(), first.attempt(1), Bucket(url)
    driver.issue(3, 1)
    with working_copy(attempt) as publish:
        for epoch in range(1, 6):
            train(attempt.folder, epoch)
            publish()
    kept = [name for name in bucket.list(RUN) if "/checkpoints/" in name]
    assert len(kept) == 2
    driver.issue(3, 2)
    with working_copy(first.attempt(2)) as publish:
        assert {path.name for path in first.attempt(2).folder.glob("checkpoints/*")} == {
            "epoch-000004.ckpt",
            "epoch-000005.ckpt",
        }
    driver.drop_checkpoints([3])
    assert not [name for name in bucket.list(RUN) if "/checkpoints/" in name]


def test_a_late_worker_is_refused_in_a_folder_too(tmp_path: Path) -> None:
    driver = SweepFiles(tmp_path / "sweeps" / "x", None)
    driver.issue(3, 1)
    attempt = Attempt(number=3, attempt=1, runs={"": {}}, context=RunContext(folder=driver.folder, root=tmp_path))
    with working_copy(attempt) as publish:
        publish()
        driver.issue(3, 2)
        assert newest_attempt(attempt) == 2
        with pytest.raises(CheckpointError, match="attempt 2 has taken over from attempt 1"):
            publish()


def test_files_that_the_study_does_not_know_are_out_of_the_way(tmp_path: Path, first: Machine, url: str) -> None:
    files = SweepFiles(tmp_path / "sweeps" / "x", None)
    result = files.folder / "trials" / "0003" / "result.json"
    result.parent.mkdir(parents=True)
    result.write_text("{}")
    aside = files.issue(3, 1)
    assert aside is not None
    assert ((aside / "result.json").exists(), result.exists()) == (True, False)
    result.touch()
    assert files.issue(3, 2) is None
    assert result.exists(), "what an attempt has left is the trial's"
    Bucket(url).write(f"{RUN}/a1/result.json", b"{}")
    first.shelf().issue(3, 1)
    assert [*Bucket(url).list(RUN)] == [f"{RUN}/attempt"]


def test_a_sweep_does_not_begin_on_another_ones_trials(first: Machine, second: Machine) -> None:
    second.shelf().refuse_old_trials()
    first.shelf().issue(3, 1)
    with pytest.raises(StateError, match="trials of a sweep 'x' that the study database does not know"):
        second.shelf().refuse_old_trials()


def test_a_stop_reaches_a_driver_elsewhere(first: Machine, second: Machine) -> None:
    driver = first.shelf()
    driver.folder.mkdir(parents=True)
    driver.forget_stop()
    second.shelf().ask_to_stop("drain")
    first.use()
    assert driver.stop_asked() == "drain"
    driver.forget_stop()
    assert first.shelf().stop_asked() == ""


def test_an_old_report_does_not_replace_a_newer_one(first: Machine, second: Machine) -> None:
    for machine, word in ((first, "old"), (second, "new of f00d")):
        files = machine.shelf()
        files.fetch_made("f00d")
        files.folder.mkdir(parents=True, exist_ok=True)
        (files.folder / "confirmation.json").write_text(word)
        files.publish()
    files = first.shelf()  # goes on where the other one ended
    files.fetch_made("f00d")
    files.publish()
    assert (files.folder / "confirmation.json").read_text() == "new of f00d"
    bucket = Bucket(files.bucket.url if files.bucket else "")
    assert bucket.read("sweeps/x/confirmation.json") == b"new of f00d"
    bucket.forget("sweeps/x/confirmation.json")  # the sweep is removed elsewhere, and a new one has its name
    files.fetch_made("beef")
    files.publish()
    assert bucket.read("sweeps/x/confirmation.json") is None


@pytest.mark.parametrize(("uid", "kept"), [("f00d", True), ("beef", False), ("", False)])
def test_what_could_not_be_published_stays_for_the_study_that_made_it(first: Machine, uid: str, kept: bool) -> None:
    files = first.shelf()
    files.folder.mkdir(parents=True)
    (files.folder / "confirmation.json").write_text('{"uid": "f00d"}')
    files.fetch_made(uid)
    files.publish()
    assert (Bucket(files.bucket.url if files.bucket else "").read("sweeps/x/confirmation.json") is not None) == kept


def test_teachers_are_everywhere(tmp_path: Path, url: str, first: Machine, second: Machine) -> None:
    import torch

    from icd.models import build_model
    from icd.teacher.store import Teacher
    from icd.training.checkpoints import weights_digest

    network = build_model("resnet8", num_classes=2, stem="conv7x7_s2")
    state = network.state_dict()
    card = Teacher(
        digest=weights_digest(state),
        name="one",
        arch="resnet8",
        stem="conv7x7_s2",
        num_classes=2,
        data="npz",
        data_digest="0:0",
        val_top1=50.0,
        val_unseen=True,
        origin="trained",
        recipe="recipe",
        created="2026-01-01T00:00:00Z",
    )
    here, there = (TeacherStore(tmp_path / name / "teachers", Bucket(url)) for name in ("here", "there"))
    here.add(card, state)
    found = there.known("recipe", "recipe")
    assert found == card
    loaded = there.load(card).state_dict()
    assert all(torch.equal(loaded[name], state[name]) for name in state)
