"""Can the tests fail? Breaks one documented rule at a time and runs the tests that should notice.

    python bench/mutants.py > table.md              # all of mutants.toml: 10 to 20 minutes
    python bench/mutants.py --only 3,17-20          # some of them, counted from 1
    python bench/mutants.py --list                  # whether rules, lines and tests are those of this tree

A copy of the working tree is changed, never the tree itself. In the end the tests that killed a mutant are run where
nothing is broken: they must pass there.
"""

import argparse
import importlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
_LONGEST_S = 600  # of the tests of one mutant; a mutant that hangs them is killed
# Imported once for all children.
_LARGE = ("alembic.command", "optuna.storages._rdb.storage", "PIL.Image", "scipy.stats", "sqlalchemy.orm", "torch")
_HUNG = "they did not end"
_OPTIONS = ["-q", "-rfE", "-p", "no:cacheprovider"]


class Mutant(NamedTuple):
    """One line that breaks a rule.

    Attributes:
        rule: File that states it, and words there.
        file: What is changed.
        old: Found there once.
        new: Stands in its place.
        tests: Files or single tests that should fail.
    """

    rule: tuple[str, str]
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


class Found(NamedTuple):
    """What came of one mutant; ``killer`` is the test that failed, empty where none did."""

    killer: str
    seconds: float


def mutants() -> list[Mutant]:
    """Read all of them."""
    read = tomllib.loads(Path(__file__).with_suffix(".toml").read_text())["mutant"]
    return [Mutant(tuple(row["rule"]), row["file"], row["old"], row["new"], tuple(row["tests"])) for row in read]


def problem(mutant: Mutant) -> str:
    """Say why a mutant is none of this tree; empty where it is one."""
    page, words = mutant.rule
    if words not in " ".join((ROOT / page).read_text().split()):
        return f"{page} does not say {words!r}"
    path = ROOT / mutant.file
    text = path.read_text() if path.exists() else ""
    if (count := text.count(mutant.old)) != 1:
        return f"{mutant.file} has {mutant.old!r} {count} times"
    try:
        compile(text.replace(mutant.old, mutant.new), mutant.file, "exec")
    except SyntaxError as error:
        return f"{mutant.file} with {mutant.new!r} is no Python: {error}"
    return next((f"there is no test {test}" for test in mutant.tests if not _exists(test)), "")


def _exists(test: str) -> bool:
    file, *names = test.split("::")
    path = ROOT / file
    return path.exists() and all(re.search(rf"\b(def|class) {name}\b", path.read_text()) for name in names)


def asked_for(numbers: str, most: int) -> list[int]:
    """Read numbers such as ``3,17-20``; empty stands for all."""
    ranges = [part.partition("-") for part in numbers.split(",")] if numbers else [("1", "-", str(most))]
    return [number for first, _, last in ranges for number in range(int(first), int(last or first) + 1)]


def copied(folder: Path) -> None:
    """Copy what git knows or would add, as it stands in the working tree."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.check_output(listed, cwd=ROOT, text=True).split("\0"):
        if name and (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)


def run(folder: Path, tests: Sequence[str]) -> tuple[int, str]:
    """Run tests on the copy, in a child of this process that has the large libraries already; exit code and output."""
    said = folder.with_suffix(".txt")
    child = os.fork()
    if not child:
        os.setsid()
        with said.open("wb") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        os.chdir(folder)
        os.environ["PYTHONPATH"] = sys.path[0] = str(folder)
        import icd

        inside = Path(str(icd.__file__)).is_relative_to(folder)
        os._exit(pytest.main([*_OPTIONS, *tests]) if inside else 70)
    deadline = time.monotonic() + _LONGEST_S
    while (ended := os.waitpid(child, os.WNOHANG)) == (0, 0):
        time.sleep(0.1)
        if time.monotonic() > deadline:
            os.killpg(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(ended[1]), said.read_text()


def tried(folder: Path, mutant: Mutant, stamp: int) -> Found:
    """Run a mutant's tests on it, and put the file back."""
    path, began = folder / mutant.file, time.monotonic()
    text = path.read_text()
    path.write_text(text.replace(mutant.old, mutant.new))
    os.utime(path, (stamp, stamp))  # Python compiles a file anew where its time, in whole seconds, is another one
    try:
        code, said = run(folder, ["-x", *mutant.tests])
    finally:
        path.write_text(text)
        os.utime(path, (stamp + 1, stamp + 1))
    if code not in (0, 1, 2, -signal.SIGKILL):
        raise SystemExit(f"pytest ended with {code}:\n{said[-2000:]}")
    failed = re.search(r"^(?:FAILED|ERROR) (.+?)(?: - .*)?$", said, re.MULTILINE)
    return Found("" if code == 0 else failed[1] if failed else _HUNG, time.monotonic() - began)


def row(number: int, mutant: Mutant, found: Found) -> str:
    """Write a line of the table."""
    page, words = mutant.rule
    old, new = (" ".join(text.split()).replace("|", "\\|") for text in (mutant.old, mutant.new))
    killer = f"`{found.killer.removeprefix('tests/')}`" if found.killer else "**SURVIVED**"
    rule = " ".join(words.split()).replace("|", "\\|")
    return f"| {number} | {page}: {rule} | {mutant.file}: `{old}` -> `{new}` | {killer.replace('|', chr(92) + '|')} |"


def main() -> None:
    """Print the table on stdout and progress on stderr."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", default="", metavar="N,M-O", help="numbers, counted from 1")
    parser.add_argument("--list", action="store_true", help="check the table and run nothing")
    asked = parser.parse_args()
    known = dict(enumerate(mutants(), 1))
    chosen = {number: known[number] for number in asked_for(asked.only, len(known))}
    wrong = [f"{number}: {why}" for number, mutant in chosen.items() if (why := problem(mutant))]
    if wrong or asked.list:
        raise SystemExit("\n".join(wrong) or f"{len(chosen)} mutants of rules that are stated")
    for module in _LARGE:
        importlib.import_module(module)
    sys.dont_write_bytecode = False  # else each child compiles everything anew
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    with tempfile.TemporaryDirectory(prefix="icd-mutants-") as name:
        folder = Path(name).resolve() / "tree"
        copied(folder)
        print("| | rule | mutant | killed by |\n|---|---|---|---|", flush=True)
        killers, stamp = list[str](), int(time.time()) + 10
        for place, (number, mutant) in enumerate(chosen.items()):
            found = tried(folder, mutant, stamp + 2 * place)
            killers += [found.killer] if found.killer else []
            print(row(number, mutant, found), flush=True)
            print(f"{number}: {found.killer or 'SURVIVED'}, {found.seconds:.0f} s", file=sys.stderr, flush=True)
        print(f"\n{len(killers)} of {len(chosen)} killed ({100 * len(killers) / len(chosen):.0f} %).", flush=True)
        tests = [killer for killer in dict.fromkeys(killers) if killer != _HUNG]
        code, said = run(folder, tests) if tests else (0, "")
        if code:
            raise SystemExit(f"a test that killed a mutant does not pass where nothing is broken:\n{said[-4000:]}")
        print("The tests that killed pass where nothing is broken.")


if __name__ == "__main__":
    main()
