"""The losses against stored numbers, the authors' and ours, and ``check.py`` against numbers that are wrong."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.golden import check, make_own

AUTHORS = Path(__file__).parent / "authors"
RIVALS = Path(__file__).parent / "rivals"
OWN = make_own.FOLDER


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(OWN, tmp_path / "own"))


def alter(folder: Path, case: str, key: str, change: Callable[[np.ndarray], np.ndarray]) -> None:
    with np.load(folder / f"{case}.npz") as stored:
        arrays = dict(stored)
    arrays[key] = change(arrays[key])
    np.savez(folder / f"{case}.npz", **arrays)


def off_by_a_little(values: np.ndarray) -> np.ndarray:
    changed = values.copy()
    changed.flat[0] += 1e-4 * np.abs(values).max()
    return changed


def test_numbers_of_the_authors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # test_networks.py computes the networks, and `make golden` runs check.py on all cases.
    folder = Path(shutil.copytree(AUTHORS, tmp_path / "authors"))
    index = json.loads((folder / "index.json").read_text())
    assert len(index["cases"]) == 52
    losses = [case for case in index["cases"] if case["method"] != "arch"]
    (folder / "index.json").write_text(json.dumps({**index, "cases": losses}))
    code = check.main([str(folder)])
    assert code == 0, capsys.readouterr().out


def test_numbers_of_rivals(capsys: pytest.CaptureFixture[str]) -> None:
    code = check.main([str(RIVALS)])
    assert code == 0, capsys.readouterr().out
    assert len(json.loads((RIVALS / "index.json").read_text())["cases"]) == 31


@pytest.mark.parametrize("options", [[], ["--dtype", "float64"], ["--dtype", "float32"]], ids=str)
def test_our_own_numbers(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    code = check.main([str(OWN), *options])
    assert code == 0, capsys.readouterr().out


def test_our_own_set_is_small_and_complete() -> None:
    methods = {case["method"] for case in json.loads((OWN / "index.json").read_text())["cases"]}
    assert methods == {"kd", "dkd", "nkd", "nkd_upstream", "sdd_kd", "icd", "icd_kd", "ldrld", "sp", "arch"}
    assert sum(file.stat().st_size for file in OWN.iterdir()) < 60_000


@pytest.fixture(scope="module")
def cases() -> list[make_own.Case]:
    return make_own.make_cases(every=11)


def test_our_own_set_is_what_make_own_computes(cases: list[make_own.Case]) -> None:
    for case in cases:
        with np.load(OWN / f"{case.name}.npz") as stored:
            for prefix, arrays in (("in", case.inputs), ("out", case.outputs)):
                for name, value in arrays.items():
                    computed = ~np.isnan(value)
                    assert computed.mean() > 0.05, (case.name, name)
                    right = stored[f"{prefix}_{name}"][computed]
                    np.testing.assert_allclose(
                        value[computed], right, rtol=1e-9, atol=1e-10, err_msg=f"{case.name} {name}"
                    )


def test_data_of_our_own_set_can_tell_verdicts_apart() -> None:
    with np.load(OWN / "own_sdd_kd.npz") as stored:
        right = stored["in_p_t"].argmax(axis=1) == stored["in_target"][:, None]
    assert (right[:, :1] & ~right).any()
    assert (~right[:, :1] & right).any()


@pytest.mark.parametrize(
    ("case", "key"),
    [
        ("own_kd", "out_loss"),
        ("own_kd", "in_z_s"),
        ("own_dkd", "out_nckd"),
        ("own_icd", "out_grad_p_s"),
        ("own_icd_kd", "out_loss_cluster"),
        ("own_resnet8", "out_p"),
    ],
)
def test_one_altered_number_is_found(copy: Path, case: str, key: str, capsys: pytest.CaptureFixture[str]) -> None:
    alter(copy, case, key, off_by_a_little)
    assert check.main([str(copy)]) == 1
    assert f"FAIL {case}: " in capsys.readouterr().out


def test_another_shape_is_found(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    alter(copy, "own_kd", "out_grad_z_s", lambda values: values[:-1])
    assert check.main([str(copy)]) == 1
    assert "FAIL own_kd: grad_z_s" in capsys.readouterr().out


def test_a_missing_file_or_key_is_found(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (copy / "own_sp.npz").unlink()
    assert check.main([str(copy)]) == 1
    assert "FAIL own_sp: FileNotFoundError" in capsys.readouterr().out


def test_another_parameter_count_is_found(copy: Path, cases: list[make_own.Case]) -> None:
    index = (copy / "index.json").read_text()
    count = next(case.params["param_count"] for case in cases if case.method == "arch")
    (copy / "index.json").write_text(index.replace(str(count), str(count + 1)))
    assert check.main([str(copy)]) == 1


def test_no_case_at_all_is_no_success(tmp_path: Path) -> None:
    (tmp_path / "index.json").write_text('{"cases": []}')
    assert check.main([str(tmp_path)]) == 1


@pytest.mark.parametrize("text", [None, "", "{}", "{"])
def test_a_folder_that_cannot_be_read(tmp_path: Path, text: str | None, capsys: pytest.CaptureFixture[str]) -> None:
    if text is not None:
        (tmp_path / "index.json").write_text(text)
    assert check.main([str(tmp_path)]) == 2
    assert "index.json with 'cases' must be readable" in capsys.readouterr().err


def test_a_stored_nan_is_found(copy: Path) -> None:
    alter(copy, "own_kd", "out_grad_z_s", lambda values: values * np.nan)
    assert check.main([str(copy)]) == 1
