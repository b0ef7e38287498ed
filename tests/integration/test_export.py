"""``icd export`` into a folder and into MLflow's registry, on a study built by hand; nothing is trained here."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import mlflow
import numpy as np
import onnxruntime
import pytest
import torch
from mlflow import MlflowClient
from PIL import Image
from safetensors.torch import load_file

import icd
from icd import results
from icd.config.read_trial import read_trial
from icd.config.yaml import parse_yaml, read_yaml
from icd.models import build_model
from icd.results.exports.programs import sample_of
from icd.results.exports.winner import NOT_CONFIRMED, SIMPLEST
from tests.ablating import planned, study_at, told, write_student
from tests.command import Command, one_line
from tests.confirmed import arm, confirmation, run
from tests.studies import Study

EVERYTHING = ["README.md", "best.yaml", "student.onnx", "student.pt2", "student.safetensors"]
# Nothing of icd may be imported, wherever it is installed.
WITHOUT_ICD = "import sys\nsys.modules['icd'] = None\nimport numpy, torch\n"


def in_another_process(code: str, folder: Path) -> None:
    words = [sys.executable, "-I", "-W", "error", "-c", code]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr


def check_snippets(folder: Path, images_BCHW: torch.Tensor) -> None:
    """Run what the card says, the first two ways of loading while icd cannot be imported."""
    weights = load_file(folder / "student.safetensors")
    network = build_model("resnet8", num_classes=100, stem="conv3x3").eval()
    network.load_state_dict(weights)
    with torch.no_grad():
        expected_BK = network(images_BCHW).logits_BK.numpy()
    Image.new("RGB", (32, 32)).save(folder.parent / "image.png")
    np.savez(folder.parent / "images.npz", images=images_BCHW.numpy(), expected=expected_BK)
    blocks = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    from_image, with_torch, with_onnx, with_icd = blocks
    compare = "assert abs(numpy.asarray(logits) - held['expected']).max() <= 1e-4, 'logits differ'\n"
    load = "held = numpy.load('../images.npz')\n"
    code = f"{WITHOUT_ICD}{load}{from_image.replace('image.png', '../image.png')}"
    code += "assert (images.shape[1:], images.dtype) == (held['images'].shape[1:], held['images'].dtype)\n"
    code += f"images = held['images']\n{with_torch}{compare}{with_onnx}{compare}"
    code += f"del sys.modules['icd']\nsys.path.insert(0, {str(Path(icd.__file__).parents[1])!r})\n"
    code += (
        f"images = torch.from_numpy(held['images'])\n{with_icd}logits = network(images).logits_BK.detach()\n{compare}"
    )
    in_another_process(code, folder)


def test_everything_and_the_registry(command: Command, study: Study, tmp_path: Path) -> None:
    assert command("sync", "by-hand").code == 0

    out = tmp_path / "out"
    words = ["export", "by-hand", "-o", out, "--unconfirmed", "--register", "--json"]
    said = command(*words)
    assert said.code == 0, said.err
    told = json.loads(said.out)
    assert (told["trial"], told["confirmed"], told["provenance"]["status"]) == (1, False, NOT_CONFIRMED)
    assert sorted(path.name for path in out.iterdir()) == EVERYTHING
    assert sorted(Path(name).name for name in told["files"]) == EVERYTHING
    assert told["compared_on"] == "64 validation images of digits100"
    assert max(told["differences"].values()) <= 1e-4
    config = read_trial(read_yaml(out / "best.yaml"))
    assert config.key() == told["provenance"]["key"]
    check_snippets(out, sample_of(config, study.root, None).images_BCHW)

    uri = f"sqlite:///{study.root / 'mlflow.db'}"
    client = MlflowClient(tracking_uri=uri)
    version = client.get_model_version_by_alias("by-hand", "best")
    assert version.run_id is not None
    trial_run = client.get_run(version.run_id)
    assert trial_run.data.tags["icd.trial"] == "f00d/0001"
    assert (int(version.version), version.description) == (1, NOT_CONFIRMED)
    assert version.tags["val/top1"] == "50"
    registered = {"uri": "models:/by-hand@best", "version": 1, "run_id": version.run_id, "loadable": True}
    assert told["registered"] == registered
    with pytest.MonkeyPatch.context() as patch:  # mlflow.set_tracking_uri would stay in the environment
        patch.setenv("MLFLOW_TRACKING_URI", uri)
        kept = Path(mlflow.artifacts.download_artifacts("models:/by-hand@best", dst_path=str(tmp_path / "kept")))
        program = mlflow.pyfunc.load_model("models:/by-hand@best")
    assert all((kept / path.name).read_bytes() == path.read_bytes() for path in out.iterdir())
    images_BCHW = sample_of(config, study.root, None).images_BCHW[:3].numpy()
    (inputs,) = program.metadata.signature.inputs.inputs
    assert (inputs.name, inputs.type, inputs.shape[2:]) == ("images", np.dtype("float32"), images_BCHW.shape[2:])
    session = onnxruntime.InferenceSession(str(out / "student.onnx"))
    expected_BK = session.run(["logits"], {"images": images_BCHW})[0]
    assert np.array_equal(program.predict({"images": images_BCHW})["logits"], expected_BK)


@pytest.mark.usefixtures("study")
def test_registered_where_the_trial_has_no_run(command: Command, root: Path, tmp_path: Path) -> None:
    words = ["export", "by-hand", "--unconfirmed", "--format", "pt2", "--register", "my-model"]
    assert command(*words, "-o", tmp_path / "a").code == 0
    one_line(command(*words, "-o", tmp_path / "a"), 5, "STATE")  # the folder is there
    same = command(*words, "-o", tmp_path / "a", "--force", "--alias", "latest-try")
    assert "registered: models:/my-model@latest-try, version 1\n" in same.out, same.err
    other = command(*words, "-o", tmp_path / "c", "--trial", 0, "--alias", "champion")
    assert "registered: models:/my-model@champion, version 2\n" in other.out, other.err
    client = MlflowClient(tracking_uri=f"sqlite:///{root / 'mlflow.db'}")
    assert len(client.search_model_versions("name = 'my-model'")) == 2
    assert int(client.get_model_version_by_alias("my-model", "best").version) == 1
    version = client.get_model_version_by_alias("my-model", "champion")
    assert version.run_id is not None
    own = client.get_run(version.run_id)
    assert (own.data.tags["icd.trial"], own.data.tags["icd.stage"]) == ("f00d/export-0000", "export")
    assert own.info.status == "FINISHED"
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == [
        name for name in EVERYTHING if name != "student.onnx"
    ]


@pytest.mark.usefixtures("study")
@pytest.mark.parametrize(
    ("words", "code", "kind", "rule"),
    [
        ([], 5, "STATE", "run 'icd confirm by-hand', or add --unconfirmed"),
        (["--unconfirmed", "--alias", "v1", "--register"], 2, "USAGE", "neither 'latest' nor like 'v1'"),
        (["--unconfirmed", "--register", "a/b"], 2, "USAGE", "but got 'a/b'"),
        (["--unconfirmed", "--alias", "champion"], 2, "USAGE", "needs --register, but got --alias champion alone"),
    ],
    ids=["unconfirmed", "alias", "model", "alias-alone"],
)
def test_refused(command: Command, tmp_path: Path, words: list[str], code: int, kind: str, rule: str) -> None:
    assert rule in one_line(command("export", "by-hand", "-o", tmp_path / "out", *words), code, kind)
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("study")
def test_programs_need_a_folder(command: Command, tmp_path: Path) -> None:
    for words in (["--format", "onnx"], ["--register"]):
        said = command("export", "by-hand", "--unconfirmed", "-o", tmp_path / "best.yaml", *words)
        assert "need a folder as output" in one_line(said, 2, "USAGE")


@pytest.mark.usefixtures("study")
def test_a_registry_that_is_away(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://user:secret@127.0.0.1:9")
    said = command("export", "by-hand", "--unconfirmed", "--register", "-o", tmp_path / "out")
    assert "MLflow at http://127.0.0.1:9 does not answer" in one_line(said, 3, "SETUP")
    assert "secret" not in said.err
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("study")
def test_a_confirmed_winner(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arms = (arm("trial 1", 1, [run(0, 7, 44.0), run(1, 8, 46.0)]), arm("KD", None, [run(3, 7, 43.0)]))
    comparisons = tuple(replace(item, arm="trial 1") for item in confirmation().comparisons[:1])
    found = confirmation(arms=arms, comparisons=comparisons, winner="trial 1")
    monkeypatch.setattr("icd.results.exports.winner.outcome_of", lambda ledger, stage: found)
    made = results.export("by-hand", tmp_path / "best.yaml")
    assert (made.trial, made.confirmed) == (0, True)
    text = made.config.read_text()
    assert "# status: trial 12 is better than KD by 0.75 points.\n" in text
    assert read_trial(read_yaml(made.config)).key() == made.provenance["key"]
    refused = command("export", "by-hand", "-o", tmp_path / "x.yaml", "--trial", 0)
    assert "finalists are 1, or add --unconfirmed" in one_line(refused, 5, "STATE")


def test_noise_where_the_data_set_is_away(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = read_trial(parse_yaml("data: cifar10\nstudent: resnet8\nmethod: cross_entropy\n", "x.yaml"))
    sample = sample_of(config, tmp_path, tmp_path / "nothing")
    assert sample.images_BCHW.shape == (64, 3, 32, 32)
    assert (sample.mean, sample.class_names) == (None, None)
    assert "seeded noise" in sample.source
    assert "compared on noise" in caplog.text
    assert torch.equal(sample.images_BCHW, sample_of(config, tmp_path, tmp_path / "nothing").images_BCHW)
    monkeypatch.setattr("icd.results.exports.programs.read_data", lambda *given: (tmp_path / "no.npy").read_bytes())
    assert "seeded noise" in sample_of(config, tmp_path, None).source, "a plugin's loader raises what Python raises"


def test_the_simplest_configuration(command: Command, root: Path, tmp_path: Path) -> None:
    study = study_at(root)
    refused = command("export", "by-hand", "--simplest", "-o", tmp_path / "none")
    assert "run 'icd ablate by-hand'" in one_line(refused, 5, "STATE")
    for more in (["--unconfirmed"], ["--trial", "1"]):
        one_line(command("export", "by-hand", "--simplest", "-o", tmp_path / "none", *more), 2, "USAGE")

    plan = planned(study)
    values = {arm.label: (40.0, 40.5, 41.0) for arm in plan.arms}
    numbers = told(study.ledger, plan, {**values, "whole": (60.0, 61.0, 62.0), "cluster weight 0": (60.1, 60.9, 62.0)})
    first = numbers["cluster weight 0", plan.seeds[0]]
    config = next(run.configs[""] for run in plan.runs([]) if run.arm == "cluster weight 0")
    write_student(study, first, config)
    said = command("export", "by-hand", "--simplest", "-o", tmp_path / "out", "--format", "pt2")
    assert said.code == 0, said.err
    assert f"trial {first} of by-hand" in said.out
    assert SIMPLEST in said.out
    assert said.out.endswith(f"train it again: icd train {tmp_path / 'out' / 'best.yaml'}\n")
    card, header = (tmp_path / "out" / "README.md").read_text(), (tmp_path / "out" / "best.yaml").read_text()
    assert f"**{SIMPLEST}.**" in card
    assert "# resnet8 on digits100: sweep by-hand, trial 1, cluster weight 0\n" in card
    assert "| trial 1, cluster weight 0 | 2 | 61.000 | +0.00 (3) |\n| trial 1, whole | 3 | 61.000 | - |\n" in card
    assert f"# status: {SIMPLEST}\n" in header
    assert read_trial(read_yaml(tmp_path / "out" / "best.yaml")) == config
    assert config.seed == plan.seeds[0]
