"""``icd benchmark`` and ``icd ablate`` as commands: texts, JSON, files, exit codes; nothing is trained here."""

import csv
import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from icd.results.benchmark import entries
from tests.ablating import ablated, study_at
from tests.command import Command, one_line
from tests.documents import document_of
from tests.reports import rich
from tests.tables import DOCUMENT, confirmed, document, searched


def file(folder: Path, **parts: Any) -> Path:
    path = folder / "table.yaml"
    path.write_text(json.dumps(document_of({**DOCUMENT, **parts})))
    return path


def test_a_table_is_shown_and_written(command: Command, root: Path, tmp_path: Path) -> None:
    kd, sd_kd, _ = entries(document())
    confirmed(searched(root, kd), {101: 60.0, 102: 61.0, 103: 62.0})
    confirmed(searched(root, sd_kd), {101: 64.0, 102: 65.1, 103: 65.9})
    path = file(tmp_path)
    said = command("benchmark", path, "--dry-run", "-o", tmp_path / "out" / "v1.0")
    assert said.code == 0, said.err
    assert "| SD-KD | 65.00 ± 0.95 (3) | +4.00 |" in said.out
    assert "The table is not finished." in said.out
    assert "icd.trial of its MLflow runs by seed: 101 " in said.out
    written = {item.name: item.read_text() for item in (tmp_path / "out").iterdir()}
    assert sorted(written) == ["v1.0.csv", "v1.0.md", "v1.0.tex"]
    assert written["v1.0.md"].rstrip() == said.out.rstrip()
    assert len(list(csv.reader(io.StringIO(written["v1.0.csv"])))) == 4
    told = json.loads(command("benchmark", path, "--dry-run", "--against", "SD-KD", "--json").out)
    compared = [(item["arm"], item["against"], item["verdict"]) for item in told["comparisons"]]
    assert compared == [("KD", "SD-KD", "open"), ("sp", "SD-KD", "open")]
    assert (told["seeds"], told["finished"]) == (3, False)


def test_a_table_that_cannot_be(command: Command, root: Path, tmp_path: Path) -> None:
    path = file(tmp_path)
    assert "nothing was tuned of" in one_line(command("benchmark", path, "--dry-run"), 5, "STATE")
    confirmed(searched(root, entries(document())[0]), {101: 60.0, 102: 61.0})
    assert "begun with 2 seeds" in one_line(command("benchmark", path, "--dry-run", "--seeds", "5"), 5, "STATE")
    assert "--against must name rows" in one_line(command("benchmark", path, "--dry-run", "--against", "x"), 2, "USAGE")
    other = file(tmp_path, training={"epochs": 3, "batch_size": 50})
    assert "epochs: 1 -> 3" in one_line(command("benchmark", other), 5, "STATE")
    sampled = file(tmp_path, ranges={"method": ["KD"], "seed": [1, 2]})
    assert "give one seed" in one_line(command("benchmark", sampled), 2, "CONFIG")


def test_what_could_not_be_shown_or_written_is_refused_before_anything_is_run(
    command: Command, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("icd.results.benchmark.run_benchmark", lambda *more, **options: 1 / 0)
    path = file(tmp_path)
    said = command("benchmark", path, "-o", ".")
    assert (said.code, "is a directory" in said.err) == (2, True)
    (tmp_path / "taken").write_text("")
    told = one_line(command("benchmark", path, "-o", tmp_path / "taken" / "table"), 3, "SETUP")
    assert "cannot be written: File exists; choose another --output" in told
    assert "--against must name rows" in one_line(command("benchmark", path, "--against", "x"), 2, "USAGE")
    assert not root.exists()


def test_a_table_of_which_too_many_runs_failed_is_shown_and_exits_with_4(
    command: Command, root: Path, tmp_path: Path
) -> None:
    for entry in entries(document()):
        confirmed(searched(root, entry), {101: 60.0, 102: 61.0}, failed=[101] if entry.row == "KD" else [])
    said = command("benchmark", file(tmp_path))
    assert said.code == 4
    assert "| SD-KD | " in said.out
    assert "error[FAILED] too many trials or runs failed of my_table.KD; " in said.err


def test_an_ablation_of_which_too_many_runs_failed_is_shown_and_exits_with_4(
    command: Command, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = ablated(study_at(root))  # five arms on three seeds
    broken = [replace(arm, failures=dict.fromkeys(range(4), "OSError"), runs=arm.runs[:1]) for arm in found.arms]
    for faults, code in ((6, 0), (7, 4)):  # a quarter of 25 that ended, most of which diverged
        told = replace(found, faults=faults, arms=tuple(broken))
        monkeypatch.setattr("icd.results.ablate_sweep", lambda name, told=told, **options: told)
        said = command("ablate", "by-hand")
        assert said.code == code
        assert found.statement in said.out
    assert "7 of 25 runs of the ablation of 'by-hand' failed; see the table and 'icd trials by-hand" in said.err
    monkeypatch.setattr("icd.results.ablate_sweep", lambda name, **options: replace(found, finished=False))
    said = command("ablate", "by-hand")
    assert (said.code, found.statement in said.out) == (5, True)
    assert (
        "the ablation of 'by-hand' was stopped; the same command, without --anew and --keep-seeds, goes on" in said.err
    )


@pytest.mark.parametrize(
    ("words", "again"),
    [
        ([], "the same command"),
        (["--anew"], "the same command without --anew"),
        (["--keep-seeds"], "the same command without --keep-seeds"),
    ],
)
def test_what_goes_on_with_another_round_is_the_command_without_its_option(
    command: Command, root: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], again: str
) -> None:
    found, told = ablated(study_at(root)), list[str]()

    @contextmanager
    def stopping_politely(again: str) -> Iterator[None]:
        told.append(again)
        yield

    monkeypatch.setattr("icd.cli.signals.stopping_politely", stopping_politely)
    monkeypatch.setattr("icd.results.ablate_sweep", lambda name, **options: found)
    assert command("ablate", "by-hand", *words).code == 0
    assert told == [again]


def test_both_kinds_of_another_round_are_refused(command: Command, root: Path) -> None:
    ablated(study_at(root))
    told = one_line(command("ablate", "by-hand", "--anew", "--keep-seeds"), 2, "USAGE")
    assert "take --anew or --keep-seeds" in told


def test_all_rows_keep_one_budget(command: Command, root: Path, tmp_path: Path) -> None:
    searched(root, entries(document())[0])
    said = command("benchmark", file(tmp_path, budget={"trials": 5}), "--executor", "process")
    told = one_line(said, 5, "STATE")
    assert "'my_table.KD' was begun otherwise; undo, or choose another name: search.budget.trials: 2 -> 5" in told


def test_an_ablation_is_shown_with_the_importance_of_parameters(command: Command, root: Path) -> None:
    study = study_at(root)
    foreseen = command("ablate", "by-hand", "--dry-run")
    assert foreseen.code == 0
    assert " configurations on 5 seeds: " in foreseen.out
    assert foreseen.out.splitlines()[0].endswith(", on train")
    ablated(study, {"cluster weight 0": (64.0, 65.1, 65.9)})
    said = command("ablate", "by-hand", "--dry-run")
    assert said.code == 0, said.err
    lines = said.out.splitlines()
    assert lines[0] == "trial 1 of by-hand, val/top1, 3 parts"
    compared = lines[lines.index("") + 2 :]
    assert all(line.startswith("without scale ") for line in compared[:3])
    assert compared[3].startswith("cluster weight 0 against whole ")
    assert compared[3].split()[-2:] == ["better", "3"]
    assert lines[-1].startswith("importance of parameters: not judged, only 1 complete trials have parameters")
    told = json.loads(command("ablate", "by-hand", "--dry-run", "--json").out)
    assert told["simplest"] == "cluster weight 0"
    assert told["importance"]["parameters"] == []


def test_importance_of_a_sweep_with_branches(root: Path) -> None:
    from icd.results.importance import importance_of
    from icd.results.tables import importance_lines

    study = rich(root, 50)
    found = importance_of(study.ledger, study.ledger.records())
    first, heads, *rows = importance_lines(found)
    assert first.endswith(f"(share of the ranks of {found.trials} complete trials)")
    assert heads.split() == ["parameter", "share", "p", "clear", "trials"]
    assert len(rows) == len(found.parameters)
    assert any("dkd.beta " in row for row in rows)
