"""Every link, path, command, option, error and target of make that the documents name exists."""

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import click
import pytest

from icd import errors
from icd.cli.main import icd

ROOT = Path(__file__).parents[2]
RESULTS = sorted(ROOT.glob("docs/results/*.md"))  # each is of its day: names in it may have changed since
PAGES = sorted({*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), ROOT / "bench" / "README.md"} - {*RESULTS})
FILES = [
    *PAGES,
    *(path for part in ("search_spaces", "bench", "docker") for path in sorted(ROOT.glob(f"{part}/**/*.yaml"))),
    *sorted(ROOT.glob("examples/*.yaml")),
]
PARTS = ("docs", "tests", "icd", "bench", "jobs", "docker", "search_spaces", "examples")
EXIT_CODES = {
    name: kind.exit_code
    for name, kind in vars(errors).items()
    if isinstance(kind, type) and issubclass(kind, errors.IcdError)
}
MADE_UP = {"search_spaces/x.yaml", "jobs/X.py", "docker/.env"}  # they stand for any file, or the reader makes them


class Call(NamedTuple):
    """A command line that a file shows."""

    where: str
    words: list[str]


def _anchor(heading: str) -> str:
    kept = re.sub(r"[^\w\- ]", "", heading.lstrip("#").replace("`", "").strip().lower())
    return kept.replace(" ", "-")


def _anchors(page: Path) -> set[str]:
    return {_anchor(line) for line in page.read_text().splitlines() if line.startswith("#")}


def _code(file: Path) -> Iterator[tuple[int, str]]:
    """Lines of code of a file with their numbers: fenced blocks and inline code of a page, comments of a YAML file."""
    fenced = False
    for number, line in enumerate(file.read_text().splitlines(), 1):
        if file.suffix == ".yaml":
            yield number, line.lstrip("# ")
        elif line.lstrip().startswith("```"):
            fenced = not fenced
        elif fenced:
            yield number, line
        else:
            for span in re.findall("`([^`]+)`", line):
                yield number, span


def _calls() -> Iterator[Call]:
    for file in FILES:
        for number, code in _code(file):
            for match in re.finditer(r"(?:^|[;&|/] *|-- )icd ([a-z]+(?:-[a-z]+)*(?: [^`;#|)]*)?)", code):
                where = f"{file.relative_to(ROOT)}:{number}"
                try:
                    yield Call(where, shlex.split(match[1]))
                except ValueError:  # a quotation mark that closes later
                    yield Call(where, match[1].split())


def _command(words: list[str]) -> tuple[click.Command | None, int]:
    """Follow the words through the groups; gives the command they end at, and how many of them name it."""
    command: click.Command | None = icd
    used = 0
    while isinstance(command, click.Group) and used < len(words) and re.fullmatch("[a-z][a-z-]*", words[used]):
        command = command.get_command(click.Context(command), words[used])
        used += 1
    return command, used


def _options(command: click.Command) -> set[str]:
    return {name for each in (icd, command) for part in each.params for name in (*part.opts, *part.secondary_opts)}


@pytest.mark.parametrize("page", [*PAGES, *RESULTS], ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if re.match("[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        found = (page.parent / file).resolve() if file else page
        if not found.exists() or (anchor and found.suffix == ".md" and anchor not in _anchors(found)):
            broken.append(target)
    assert broken == []


def test_paths_exist() -> None:
    pattern = re.compile(rf"(?<![\w/.:~-])((?:{'|'.join(PARTS)})/[\w./-]*\w)")
    named = {(str(page.relative_to(ROOT)), path) for page in FILES for path in pattern.findall(page.read_text())}
    assert len(named) > 50
    assert [(page, path) for page, path in sorted(named) if path not in MADE_UP and not (ROOT / path).exists()] == []


def test_pages_that_the_code_names_exist() -> None:
    sources = [path for part in ("icd", "bench", "jobs") for path in ROOT.glob(f"{part}/**/*.py")]
    named = {(path.name, page) for path in sources for page in re.findall(r"docs/[\w./-]+\.md", path.read_text())}
    assert len(named) > 3
    assert [(name, page) for name, page in sorted(named) if not (ROOT / page).exists()] == []


def test_verbs_and_options_exist() -> None:
    calls = list(_calls())
    assert len(calls) > 100
    wrong = []
    for where, words in calls:
        command, used = _command(words)
        if command is None or (isinstance(command, click.Group) and used < len(words)):
            wrong.append(f"{where}: no verb {' '.join(words[: used + 1])!r}")
            continue
        for word in words[used:]:
            option = word.split("=")[0].rstrip(".,:)")
            if re.match(r"--?[a-z]", option) and option not in {*_options(command), "--help"}:
                wrong.append(f"{where}: icd {' '.join(words[:used])} has no {option}")
    assert wrong == []


def test_every_verb_is_documented() -> None:
    shown = {call.words[0] for call in _calls() if call.words}
    assert set(icd.list_commands(click.Context(icd))) - shown == set()


def test_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {
        word for page in PAGES for _, code in _code(page) for word in re.findall(r"(?:^|&& )make ([a-z-]+)\b", code)
    }
    assert len(named) > 10
    assert named - targets == set()


def test_variables_of_the_environment_exist() -> None:
    used = "\n".join(
        path.read_text(errors="ignore")
        for folder in ("icd", "docker", "tests", "bench")
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    )
    named = {(page.name, name) for page in PAGES for name in re.findall(r"\bICD_[A-Z_]+\b", page.read_text())}
    assert len(named) > 20
    assert [(page, name) for page, name in sorted(named) if not re.search(rf"\b{name}\b", used)] == []


def _texts(tree: ast.AST) -> Iterator[str]:
    """Strings of a module; what an f-string puts in is three dots."""
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(part.value if isinstance(part, ast.Constant) else "..." for part in node.values)  # type: ignore[misc]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def _raised(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Exit codes and texts of the errors that a module makes."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in EXIT_CODES:
            yield from ((EXIT_CODES[node.func.id], text) for text in _texts(node))


def test_errors_that_the_documents_explain_are_those_of_the_code() -> None:
    """Each text stands in the code; where it is that of an error, the section names the error's exit code."""
    trees = [ast.parse(path.read_text()) for path in (ROOT / "icd").rglob("*.py")]
    texts, raised = (
        [text for tree in trees for text in _texts(tree)],
        [pair for tree in trees for pair in _raised(tree)],
    )
    sections = re.split(r"^## .*\(exit (\d)\)$", (ROOT / "docs" / "troubleshooting.md").read_text(), flags=re.MULTILINE)
    wrong, count = [], 0
    for code, section in zip(sections[1::2], sections[2::2], strict=True):
        for explained in re.findall(r"^\| `([^`]+)` \|", section, re.MULTILINE):
            count += 1
            pattern = re.compile(".*".join(map(re.escape, explained.split("..."))), re.DOTALL)
            codes = {number for number, text in raised if pattern.search(text)}
            if not any(map(pattern.search, texts)) or (codes and int(code) not in codes):
                wrong.append((explained, codes))
    assert count >= 30
    assert wrong == []


def test_figures_of_the_readme_point_to_results() -> None:
    """A paragraph, an item of a list, a row of a table or a line of code with a measured figure names its page."""
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 130
    text = re.sub(r"\n\n(?=```)", "\n", re.sub(r"```yaml.*?```", "", text, flags=re.DOTALL))
    parts = re.split(r"\n\n|\n(?=- |\||[a-z]+ .* # )", text)
    figure = re.compile(
        r"\d\.\d(?!1\b)|\d ?(?:%|GB|s|min|times|points)\b|\de-\d|\bp \d|^- .*\b\d{2,} kills", re.MULTILINE
    )
    measured = [part for part in parts if figure.search(re.sub(r"Python \d\.\d+|arXiv \S+|Apache-\S+", "", part))]
    assert len(measured) >= 6
    assert [part for part in measured if not re.search(r"docs/results/\d", part)] == []
