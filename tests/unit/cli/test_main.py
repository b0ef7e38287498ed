"""The entry of the command: help without a verb, help that is named, listings that can be pasted."""

import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from icd.cli.main import main
from icd.config.read_trial import read_trial
from icd.config.trial import TrialConfig
from icd.config.yaml import Document

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    level = logging.getLogger("icd").level  # which -q and --debug change

    def call(*words: str) -> tuple[int, str, str]:
        code = main(words)
        said = capsys.readouterr()
        return code, said.out, said.err

    yield call
    logging.getLogger("icd").setLevel(level)


@pytest.mark.parametrize("words", [(), ("teacher",)], ids=["icd", "teacher"])
def test_without_a_verb_the_help_is_shown(run: Run, words: tuple[str, ...]) -> None:
    code, out, err = run(*words)
    assert (code, out) == (2, "")
    assert err.startswith(f"Usage: {' '.join(['icd', *words])} [OPTIONS] COMMAND")
    assert len(err.splitlines()) > 10
    assert "error[" not in err


@pytest.mark.parametrize(
    ("words", "help_of"),
    [(("validate",), "icd validate"), (("teacher", "train", "--foo"), "icd teacher train"), (("trian",), "icd")],
)
def test_a_wrong_call_names_the_help_of_its_verb(run: Run, words: tuple[str, ...], help_of: str) -> None:
    code, _, err = run(*words)
    assert code == 2
    assert err.endswith(f"; see '{help_of} --help'\n")
    assert ".;" not in err


@pytest.mark.parametrize("chosen", [None, "ACTIVE"])
def test_threads_of_torch_wait_asleep_unless_the_user_says_otherwise(
    run: Run, monkeypatch: pytest.MonkeyPatch, chosen: str | None
) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", chosen or "")
    if chosen is None:
        monkeypatch.delenv("OMP_WAIT_POLICY")
    assert run("--version")[0] == 0
    assert os.environ["OMP_WAIT_POLICY"] == (chosen or "PASSIVE")


def test_what_methods_prints_can_be_pasted(run: Run) -> None:
    """Every default, and every row, is YAML that a trial's file may hold."""
    listed = yaml.safe_load(run("methods")[1])

    def read(method: object) -> TrialConfig:
        return read_trial(Document({"student": "resnet8", "teacher": "resnet20", "method": method}, "pasted"))

    methods = {name.removeprefix("method "): value for name, value in listed.items() if name.startswith("method ")}
    losses = {name.split()[1]: value for name, value in listed.items() if name.startswith("base_loss ")}
    rows = listed["rows of the paper's table"]
    assert (len(methods), len(losses), len(rows)) == (4, 9, 30)
    for name, fields in methods.items():
        assert read({"name": name, **(fields or {})}) == read(name)
    for name, fields in losses.items():
        assert read({"base_loss": {name: fields}}) == read({"base_loss": name})
    for name, fields in rows.items():
        assert read(fields) == read(name)


def test_no_help_and_no_completion_waits_for_a_framework() -> None:
    """One process asks for all of them; what each costs is measured by ``bench/cli.py``."""
    code = (
        "import sys, bench.cli as bench, click.shell_completion as completion\n"
        "from icd.cli.main import icd\n"
        "for words in bench.command_lines():\n"
        "    try: icd.main(words, prog_name='icd', standalone_mode=False)\n"
        "    except SystemExit: pass\n"
        "found = completion.BashComplete(icd, {}, 'icd', '_ICD_COMPLETE').get_completions([], '')\n"
        "assert 'benchmark' in [item.value for item in found]\n"
        "sys.exit(' '.join(name for name in bench.HEAVY if name in sys.modules))"
    )
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False)
    assert done.stderr.strip() == "", done.stderr
    assert done.stdout.count("Usage: icd") > 30


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["stauts"], "no verb 'stauts'; did you mean 'status'?"),
        (["--json", "stop", "x"], "'icd stop' has no --json"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_word_that_is_none_is_named(run: Run, words: list[str], said: str) -> None:
    code, out, err = run(*words)
    assert (code, out) == (2, "")
    assert err.startswith(f"icd: error[USAGE] {said}; see 'icd")


def test_options_of_icd_stand_before_or_after_the_verb(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    before = run("--root", str(tmp_path / "a"), "--json", "teacher", "list")
    after = run("teacher", "list", "--root", str(tmp_path / "a"), "--json")
    assert before == after == (0, "[]\n", "")
    _, _, quiet = run("-q", "teacher", "list", "--debug", "--root", str(tmp_path / "a"))
    assert logging.getLogger("icd").level == logging.DEBUG, "what stands last counts"
    assert "no teachers yet" in quiet
    nearer = run("--root", str(tmp_path / "a"), "status", "--root", str(tmp_path / "b"))
    assert nearer[1] == f"no sweeps in {tmp_path / 'b'}\n"


BAD_FILES: dict[str, tuple[bytes | None, str]] = {
    "missing": (None, ": no such file"),
    "folder": (b"", ": cannot be read: is a directory"),
    "10 MB": (b"a" * 10_000_000, ": must not be larger than 256 KiB"),
    "binary": (b"\x00\x01\xff\xfe", ":1: must be UTF-8 text"),
    "empty": (b"", ": must not be empty"),
    "comments": (b"# nothing\r\n", ": must not be empty"),
    "mark alone": (b"\xef\xbb\xbf", ": must not be empty"),
    "line ends": (b"student: resnet8\r\nmethod: [\r\n", ":3: not valid YAML at column 1: while parsing a flow"),
    "quote": (b"a: 'x\n", ":1: not valid YAML at column 4: while scanning a quoted scalar"),
    "tabs": (b"student:\n\tarch: resnet8\n", "indent with spaces, not tabs"),
    "twice": (b"student: resnet8\nmethod: cross_entropy\nstudent: resnet8\n", ""),  # no sweep, which is said first
    "two": (b"a: 1\n---\nb: 2\n", ":2: only one document is allowed"),
    "anchor": (b"student: &x resnet8\n", ":1: anchors ('&') and aliases ('*') are not allowed"),
    "tag": (b"student: !!python/name:os.system resnet8\n", ":1: tags ('!') are not allowed"),
    "deep": (b"student: " + b"[" * 10_000, ":1: must not be nested deeper than 32"),
    "deep blocks": (b"".join(b" " * i + b"a:\n" for i in range(40)), "must not be nested deeper than 32"),
}


@pytest.mark.parametrize("name", BAD_FILES)
@pytest.mark.parametrize("verb", ["validate", "train", "sweep", "plan"])
def test_a_bad_file_is_one_message_and_nothing_is_created(run: Run, tmp_path: Path, verb: str, name: str) -> None:
    file, (raw, said) = tmp_path / "x.yaml", BAD_FILES[name]
    if name == "folder":
        file.mkdir()
    elif raw is not None:
        file.write_bytes(raw)
    before = sorted(tmp_path.rglob("*"))
    root = [] if verb == "validate" else ["--root", str(tmp_path / "runs")]
    code, out, err = run(verb, str(file), *root)
    assert (code, out) == (2, ""), err
    assert err.startswith(f"icd: error[CONFIG] {file}:")
    assert said in err
    assert "Traceback" not in err
    assert sum(line.startswith("icd: error[") for line in err.splitlines()) == 1
    assert sorted(tmp_path.rglob("*")) == before
