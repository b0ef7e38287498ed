"""Can the tests fail? Breaks one documented rule at a time and runs the tests that should notice.

    python bench/mutants.py > table.md              # all of mutants.toml: 10 to 20 minutes
    python bench/mutants.py --only 3,17             # some of them, counted from 1

A copy of the working tree is changed, never the tree itself. Before anything is broken there, all tests that are to be
used must pass once.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
_LONGEST_S = 600  # of the tests of one mutant; a mutant that hangs them is killed
_PYTEST = ["-m", "pytest", "-x", "-q", "-rfE", "-p", "no:cacheprovider"]


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
    if " ".join(words.split()) not in " ".join((ROOT / page).read_text().split()):
        return f"{page} does not say {words!r}"
    count = (ROOT / mutant.file).read_text().count(mutant.old)
    return "" if count == 1 else f"{mutant.file} has {mutant.old!r} {count} times"


def copied(folder: Path) -> None:
    """Copy what git knows or would add, as it stands in the working tree."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.check_output(listed, cwd=ROOT, text=True).split("\0"):
        if name and (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)


def run(folder: Path, words: Sequence[str]) -> tuple[int, str]:
    """Run Python on the copy; gives exit code and output."""
    environment = {**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
    try:
        done = subprocess.run(
            [sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True, timeout=_LONGEST_S
        )
    except subprocess.TimeoutExpired:
        return 1, f"FAILED (longer than {_LONGEST_S} s)"
    return done.returncode, done.stdout + done.stderr


def tried(folder: Path, mutant: Mutant, stamp: int) -> Found:
    """Run a mutant's tests on it, and put the file back."""
    path, began = folder / mutant.file, time.monotonic()
    text = path.read_text()
    path.write_text(text.replace(mutant.old, mutant.new))
    os.utime(path, (stamp, stamp))  # Python compiles a file anew where its time, in whole seconds, is another one
    try:
        code, said = run(folder, [*_PYTEST, *mutant.tests])
    finally:
        path.write_text(text)
        os.utime(path, (stamp + 1, stamp + 1))
    if code not in (0, 1, 2):
        raise SystemExit(f"pytest ended with {code}:\n{said[-2000:]}")
    failed = re.search(r"^(?:FAILED|ERROR) (.+?)(?: - .*)?$", said, re.MULTILINE)
    return Found("" if code == 0 else failed[1] if failed else "the tests could not begin", time.monotonic() - began)


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
    parser.add_argument("--only", default="", metavar="N,M", help="numbers, counted from 1")
    parser.add_argument("--list", action="store_true", help="check the table and run nothing")
    asked = parser.parse_args()
    known = dict(enumerate(mutants(), 1))
    chosen = {int(number): known[int(number)] for number in asked.only.split(",")} if asked.only else known
    wrong = [f"{number}: {why}" for number, mutant in chosen.items() if (why := problem(mutant))]
    if wrong or asked.list:
        raise SystemExit("\n".join(wrong) or f"{len(chosen)} mutants of rules that are stated")
    with tempfile.TemporaryDirectory(prefix="icd-mutants-") as name:
        folder = Path(name).resolve()
        copied(folder)
        code, said = run(folder, ["-c", "import icd; print(icd.__file__)"])
        if code or not Path(said.strip()).is_relative_to(folder):
            raise SystemExit(f"the copy is not what Python imports: {said}")
        tests = dict.fromkeys(test for mutant in chosen.values() for test in mutant.tests)
        code, said = run(folder, [*_PYTEST, *tests])
        print(f"nothing broken: {said.strip().splitlines()[-1]}", file=sys.stderr, flush=True)
        if code:
            raise SystemExit(said[-4000:])
        print("| | rule | mutant | killed by |\n|---|---|---|---|", flush=True)
        killed, stamp = 0, int(time.time()) + 10
        for place, (number, mutant) in enumerate(chosen.items()):
            found = tried(folder, mutant, stamp + 2 * place)
            killed += bool(found.killer)
            print(row(number, mutant, found), flush=True)
            print(f"{number}: {found.killer or 'SURVIVED'}, {found.seconds:.0f} s", file=sys.stderr, flush=True)
    print(f"\n{killed} of {len(chosen)} killed ({100 * killed / len(chosen):.0f} %).")


if __name__ == "__main__":
    main()
