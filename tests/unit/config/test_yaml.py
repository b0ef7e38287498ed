"""Strict YAML: what is read, what is refused, how fast, and that no secret is ever printed."""

import contextlib
import math
import os
import random
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from icd.config.yaml import Document, apply_overrides, dotted, parse_yaml, read_yaml
from icd.errors import ConfigError

CANARY = "hunter2canary"
LIMIT = 256 * 1024

SWEEP = """\
# a sweep
study: icd-cifar
teacher: resnet32x4
base_loss:
  kd:
    temperature: 4
  weight: 1e-1
scales:
  - 1
  - {size: 2, weight: 0.5}
  -
    size: 4
flags: [true, null]
"""


def problems_of(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse_yaml(text, "x.yaml")
    return [str(problem) for problem in caught.value.problems]


def read(text: str) -> Any:
    return parse_yaml(text, "x.yaml").data


def set_problems(document: Document, *assignments: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        apply_overrides(document, assignments)
    return [str(problem) for problem in caught.value.problems]


# Scalars


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *[(text, None) for text in ("null", "Null", "NULL", "~", "")],
        *[(text, True) for text in ("true", "True", "TRUE")],
        *[(text, False) for text in ("false", "False", "FALSE")],
        ("0", 0), ("-7", -7), ("+7", 7), ("012", 12), ("0o17", 15), ("0x1F", 31),
        ("1e-3", 1e-3), ("1E5", 1e5), (".5", 0.5), ("1.", 1.0), ("-1.5e+2", -150.0), ("1.0", 1.0),
        (".inf", math.inf), ("-.Inf", -math.inf), ("+.INF", math.inf),
        ("NO", "NO"), ("on", "on"), ("yes", "yes"), ("y", "y"), ("tRUE", "tRUE"),
        ("12:30", "12:30"), ("2024-01-01", "2024-01-01"), ("1_000", "1_000"), ("0b11", "0b11"),
        ("-0x1F", "-0x1F"), ("1e", "1e"), (".", "."), ("1.2.3", "1.2.3"), ("=", "="),
        ("inf", "inf"), ("nan", "nan"),
        ("'1'", "1"), ('"true"', "true"), ("''", ""), ("'~'", "~"), ("|\n  1", "1"),
        ("\u0661", "\u0661"),
    ],
)  # fmt: skip
def test_scalars_follow_the_core_schema(text: str, value: object) -> None:
    got = read(f"a: {text}")["a"]
    assert (type(got), got) == (type(value), value)


@pytest.mark.parametrize("text", [".nan", ".NaN", ".NAN"])
def test_nan_is_read_as_a_float(text: str) -> None:
    assert math.isnan(read(f"a: {text}")["a"])


@pytest.mark.parametrize("text", ["9" * 5000, "-" + "9" * 5000, "0x" + "F" * 100_000, "0o" + "7" * 100_000])
def test_an_integer_of_thousands_of_digits_is_refused(text: str) -> None:
    assert problems_of(f"b: 1\na: {text}") == ["x.yaml:2: a: an integer must not have more than 100 digits"]


def test_every_integer_fits_a_float() -> None:
    assert math.isfinite(float(read("a: " + "9" * 100)["a"]))


def test_only_plain_types_are_built() -> None:
    kinds = {type(value) for value in read("[a, 1, 1.5, true, null, [], {}, 2024-01-01]")}
    assert kinds == {str, int, float, bool, type(None), list, dict}


# Keys


@pytest.mark.parametrize("key", ["1", "true", "null", "~", "1.5", ".inf", "0x1F"])
def test_a_key_that_is_not_a_string_is_refused(key: str) -> None:
    (problem,) = problems_of(f"b: 1\na:\n  {key}: x")
    assert problem.startswith("x.yaml:3: a.")
    assert problem.endswith(f"a key must be a string; quote it: '{key}'")


@pytest.mark.parametrize("text", ["? [a]\n: 1", "? {a: 1}\n: 1", "{[a]: 1}", "?\n: 1"])
def test_a_key_that_is_a_collection_or_empty_is_refused(text: str) -> None:
    (problem,) = problems_of(text)
    assert "a key must be a string" in problem


def test_a_quoted_number_may_be_a_key() -> None:
    assert read("'1': a\nNO: b") == {"1": "a", "NO": "b"}


def test_a_duplicate_key_names_both_lines() -> None:
    assert problems_of("a: 1\nb: 2\n'a': 3") == ["x.yaml:3: a: duplicate key, first set on line 1"]


def test_all_key_problems_are_reported_together() -> None:
    text = "a:\n  b:\n    - c: 1\n      c: 2\n    - 7: x\nd: 1\nd: {e: 1, e: 2, e: 3}\n<<: {f: 1}\n"
    assert problems_of(text) == [
        "x.yaml:4: a.b[0].c: duplicate key, first set on line 3",
        "x.yaml:5: a.b[1].7: a key must be a string; quote it: '7'",
        "x.yaml:7: d: duplicate key, first set on line 6",
        "x.yaml:7: d.e: duplicate key, first set on line 7",
        "x.yaml:7: d.e: duplicate key, first set on line 7",
        "x.yaml:8: '<<': merge keys ('<<') are not allowed; write the values out",
    ]


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ((), ""),
        (("base_loss", "kd", "temperature"), "base_loss.kd.temperature"),
        (("scales", 1), "scales[1]"),
        (("a", 0, 1, "b"), "a[0][1].b"),
        ((0, "a"), "[0].a"),
        (("a.b", "c d"), "'a.b'.'c d'"),
        (("\x1b[2J\n",), r"'\x1b[2J\n'"),
        ((f"https://me:{CANARY}@host",), "'***'"),
    ],
)
def test_dotted_paths(path: tuple[str | int, ...], text: str) -> None:
    assert dotted(path) == text


# Lines


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ((), 2),
        (("study",), 2),
        (("base_loss", "kd", "temperature"), 6),
        (("base_loss", "kd", "missing", "deeper", 3), 5),
        (("missing",), 2),
        (("scales",), 8),
        (("scales", 0), 9),
        (("scales", 1, "weight"), 10),
        (("scales", 2, "size"), 12),
        (("scales", 9), 8),
        (("flags", 1), 13),
    ],
)
def test_a_path_leads_to_its_line_or_its_nearest_ancestor(path: tuple[str | int, ...], line: int) -> None:
    document = parse_yaml(SWEEP, "sweep.yaml")
    assert document.line(path) == line
    assert document.origin(path) == ("sweep.yaml", line)


def test_windows_line_ends_and_a_byte_order_mark_are_tolerated(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + SWEEP.replace("\n", "\r\n").encode())
    document = read_yaml(path)
    assert document == Document(read(SWEEP), str(path))
    assert document.line(("scales", 2, "size")) == 12


# Refusals


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("a: &x 1", 1, "anchors"),
        ("b: 1\na: *x", 2, "aliases"),
        ("a: !!python/object:os.system x", 1, "tags"),
        ("a: !!str 1", 1, "tags"),
        ("b: 1\na: ! 1", 2, "tags"),
        ("a: !x!y 1", 1, "tags"),
        ("a: !x [1]", 1, "tags"),
        ("a: 1\n---\nb: 1", 2, "only one document"),
        ("a: 1\n...\n---\nb: 1", 3, "only one document"),
        ("a: 1\nb: \0", 2, "U+0000"),
        ("a: 1\nb: \x1b[2J", 2, "U+001B"),
        ("a: 1\u2028b: 2", 1, "U+2028"),
        ("a: \ud800", 1, "U+D800"),
        ('a: "\\0"', 1, "NUL"),
        ('a: "\\ud800"', 1, "surrogate"),
        ('a: "\\UFFFFFFFF"', 1, "out of range"),
        ('a: "\\U00110000"', 1, "out of range"),
        ("%YAML 1." + "9" * 5000 + "\n--- a", 1, "out of range"),
        ("[" * 33 + "]" * 33, 1, "deeper than 32"),
        ("- " * 33 + "a", 1, "deeper than 32"),
        ("- " * 16 + "[" * 17 + "]" * 17, 1, "deeper than 32"),
        ("- a\n" * 20_000, 20_000, "more than 20000"),
    ],
)
def test_what_is_not_plain_small_data_is_refused_with_its_line(text: str, line: int, words: str) -> None:
    (problem,) = problems_of(text)
    assert problem.startswith(f"x.yaml:{line}: ")
    assert words in problem
    assert "\n" not in problem


@pytest.mark.parametrize(
    "text", ["[" * 32 + "]" * 32, "- " * 32 + "a", "- a\n" * 19_999, "a: '" + "x" * (LIMIT - 5) + "'"]
)
def test_the_limits_themselves_are_allowed(text: str) -> None:
    read(text)


@pytest.mark.parametrize("text", ["", "\n\n", "# only a comment\n", "---\n", "---\n...\n", "\ufeff"])
def test_an_empty_document_is_refused(text: str) -> None:
    assert problems_of(text) == ["x.yaml: must not be empty"]


@pytest.mark.parametrize(
    ("text", "where", "words"),
    [
        ("a: 1\nb: c: 2", "2: not valid YAML at column 5:", "':' is not expected"),
        ("a: 1\n\tb: 2", "2: not valid YAML at column 1:", "indent with spaces, not tabs"),
        ("a:\n\tb: 2", "2: not valid YAML at column 1:", "indent with spaces, not tabs"),
        ("a: 1\nb\nc: 2", "2: not valid YAML at column 1:", "'key: value'"),
        ("a: [1, 2\nb: 3", "2: not valid YAML at column 2:", "']'"),
        ("a: {b: 1\nc: 3", "2: not valid YAML", "'}'"),
        ("a: [1,", "1: not valid YAML", "bracket is not closed"),
        ("a: 1\nb: 'x\nc: 2\n", "2: not valid YAML at column 4:", "every quote must be closed"),
        ("a: @x", "1: not valid YAML at column 4:", "quote it"),
        ("a: *.png", "1: not valid YAML", "quote it"),
        ('a: "C:\\path"', "1: not valid YAML", "single quotes"),
        ('a: "\\x4"', "1: not valid YAML", "hexadecimal"),
        ("a:\n    b: 1\n  c: 2", "3: not valid YAML at column 3:", "indentation"),
        ("a: 1\n]", "2: not valid YAML", "x.yaml"),
        ("a: |9x\n", "1: not valid YAML", "x.yaml"),
        ("'a' b", "1: not valid YAML at column 5:", "nothing may follow"),
    ],
)
def test_a_syntax_error_is_one_sentence_with_line_and_column(text: str, where: str, words: str) -> None:
    (problem,) = problems_of(text)
    assert problem.startswith(f"x.yaml:{where}")
    assert words in problem
    assert "\n" not in problem


# Files


def file_problem(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        read_yaml(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_file_is_read_with_its_name_as_source(tmp_path: Path) -> None:
    path = tmp_path / "sweep.yaml"
    path.write_text(SWEEP)
    assert read_yaml(path) == Document(read(SWEEP), str(path))


def test_a_missing_file_suggests_its_neighbour(tmp_path: Path) -> None:
    (tmp_path / "sweep.yaml").touch()
    (tmp_path / "other").touch()
    path = tmp_path / "sweeep.yml"
    assert file_problem(path) == f"{path}: no such file; did you mean 'sweep.yaml'?"


def test_a_missing_file_without_neighbour_suggests_nothing(tmp_path: Path) -> None:
    (tmp_path / "sweep.yaml").mkdir()
    (tmp_path / "unrelated.txt").touch()
    for path in (tmp_path / "sweep.yml", tmp_path / "no_folder" / "sweep.yml"):
        assert file_problem(path) == f"{path}: no such file"


def test_a_folder_is_refused(tmp_path: Path) -> None:
    assert file_problem(tmp_path) == f"{tmp_path}: must be a file, but is a directory"


def test_a_path_through_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x").touch()
    assert "cannot be read: not a directory" in file_problem(tmp_path / "x" / "y.yaml")


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_an_unreadable_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("a: 1")
    path.chmod(0)
    assert file_problem(path) == f"{path}: cannot be read: permission denied"


@pytest.mark.parametrize("name", ["a\0b", "a\nb", "x" * 300, "\udcff"])
def test_an_odd_path_gives_one_printable_line(tmp_path: Path, name: str) -> None:
    assert file_problem(tmp_path / name).isprintable()


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").touch()
    assert file_problem(tmp_path / "x.yaml").endswith("x.yaml: must not be empty")


@pytest.mark.parametrize("raw", [b"a: 1\nb: \xff", b"a: 1\nb: \xc3", b"a: 1\nb: \xed\xa0\x80"])
def test_a_file_that_is_not_utf8_is_refused_with_its_line(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(raw)
    assert file_problem(path) == f"{path}:2: must be UTF-8 text; save the file as UTF-8"


def test_utf16_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("a: 1", encoding="utf-16")
    assert "must be UTF-8" in file_problem(tmp_path / "x.yaml")


def test_size_is_counted_in_bytes() -> None:
    assert problems_of("a: " + "\u00e9" * (LIMIT // 2)) == ["x.yaml: must not be larger than 256 KiB"]


# Bombs: bounded time and memory


def alias_bomb() -> str:
    rows = ["a0: &a0 [lol, lol, lol]"]
    rows += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 10)]
    return "\n".join(rows)


def merge_bomb(levels: int) -> str:
    rows = ["m0: &m0 {k: 1}"]
    rows += [f"m{i}: &m{i} {{<<: [*m{i - 1}, *m{i - 1}]}}" for i in range(1, levels + 1)]
    return "\n".join(rows)


BOMBS = {
    "alias bomb": alias_bomb(),
    "merge bomb": merge_bomb(24),
    "open lists": "[" * 100_000,
    "closed lists": "[" * 100_000 + "]" * 100_000,
    "flow maps": "{a: " * 60_000,
    "open flow maps": "{" * 100_000,
    "100k flow maps": "{a: " * 100_000 + "}" * 100_000,
    "block lists": "- " * 100_000,
    "explicit keys": "? " * 100_000,
    "indented lists": "".join(" " * i + "-\n" for i in range(700)),
    "11 MB": "a: 1\n" * 2_300_000,
    "100k keys": "".join(f"key_{i}: 1\n" for i in range(100_000)),
    "28k keys in 256 KiB": "".join(f"k{i}:\n" for i in range(28_000)),
    "80k lists in 256 KiB": "[" + "[]," * 80_000,
    "10k duplicate keys": "a: 1\n" * 9_900,
    "documents": "---\n" * 60_000,
    "directives": "%FOO\n" * 50_000,
    "newlines": "\n" * LIMIT,
    "open quote": '"' + "a" * (LIMIT - 3),
    "huge integer": "9" * (LIMIT - 1),
}


# Of the processor, not of a clock: each takes under 1 s, most under 10 ms, and one that is not bounded takes minutes.
BOUND_CPU_S = 20


@pytest.mark.parametrize("text", BOMBS.values(), ids=BOMBS.keys())
def test_a_bomb_is_refused_in_bounded_time(text: str) -> None:
    start = time.process_time()
    assert problems_of(text)
    assert time.process_time() - start < BOUND_CPU_S


@pytest.mark.parametrize("name", ["alias bomb", "merge bomb", "closed lists", "100k flow maps", "11 MB", "100k keys"])
def test_a_bomb_is_refused_in_bounded_memory(name: str) -> None:
    tracemalloc.start()
    try:
        assert problems_of(BOMBS[name])
        assert tracemalloc.get_traced_memory()[1] < 16e6
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("shape", ["a: '{}'", "a: '://{}'", "? '{}'", "a: 'x{}@'"])
@pytest.mark.parametrize("unit", ["://", ":", "http", "http://a", "aA", "A", "1", "a_", "//"])
def test_the_secret_check_is_linear_in_the_text(shape: str, unit: str) -> None:
    text = shape.format(unit * (250_000 // len(unit)))
    start = time.process_time()
    with contextlib.suppress(ConfigError):
        read(text)
    assert time.process_time() - start < BOUND_CPU_S


def test_a_large_file_is_refused_without_reading_it(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    with path.open("wb") as file:
        file.truncate(10**12)
    assert file_problem(path) == f"{path}: must not be larger than 256 KiB"


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="no /dev/zero")
def test_an_endless_device_is_refused() -> None:
    assert file_problem(Path("/dev/zero")) == "/dev/zero: must not be larger than 256 KiB"


# Secrets


SECRETS = [
    f"password: {CANARY}",
    f"a:\n  - db_password: {CANARY}",
    f"API_KEY: {CANARY}",
    f"apiKey: {CANARY}",
    f"accessToken: {CANARY}",
    f"'hf-token': {CANARY}",
    f"Client Secret: {CANARY}",
    f"password:\n  {CANARY}: 1\n  {CANARY}: 2",
    f"token: [https://me:{CANARY}@host, {CANARY}]",
    f"a: https://me:{CANARY}@host/path",
    f"a: https://{CANARY}@host/path",
    f"a: 'see postgresql://me:{CANARY}@host'",
    f"https://me:{CANARY}@host: 1",
    f"a: |\n  mysql://me:{CANARY}@host",
    f"? [password, {CANARY}]\n: 1",
]


@pytest.mark.parametrize("text", SECRETS)
def test_a_secret_is_refused_and_not_printed(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_yaml(text, "x.yaml")
    assert CANARY not in str(caught.value)
    assert CANARY not in repr(caught.value.problems)
    assert "put it in the environment, not in YAML" in str(caught.value) or text.startswith("?")


@pytest.mark.parametrize(
    "text",
    [
        "&{}",
        "*{}",
        "!{} x",
        "!{}!x y",
        "!<{}",
        "'{}",
        "[{}",
        "{}: {}: {}",
        '"{}\\q"',
        "@{}",
        "%{}",
        "|{}",
        "\t{}",
        "- {}",
    ],
)
def test_a_syntax_error_does_not_print_the_value(text: str) -> None:
    for document in ("password: " + text, "a: 1\n" + text + "\n b: 1\n- x: 1"):
        with pytest.raises(ConfigError) as caught:
            parse_yaml(document.replace("{}", CANARY), "x.yaml")
        assert CANARY not in str(caught.value)


@pytest.mark.parametrize("key", ["max_tokens", "tokenizer", "secretary", "keys", "api", "monkey"])
def test_ordinary_names_are_no_secrets(key: str) -> None:
    assert read(f"{key}: 3") == {key: 3}


@pytest.mark.parametrize(
    "url", ["http://host:5000/a@b", "sqlite:///x.db", "wasbs://box@account/x", "me@host", "s3://b/k"]
)
def test_ordinary_urls_are_no_secrets(url: str) -> None:
    assert read(f"a: {url}") == {"a": url}


# Overrides


@pytest.mark.parametrize(
    ("assignment", "path", "value"),
    [
        ("study=x", ("study",), "x"),
        ("base_loss.kd.temperature=2.5", ("base_loss", "kd", "temperature"), 2.5),
        ("base_loss.weight=1e-3", ("base_loss", "weight"), 1e-3),
        ("study='1'", ("study",), "1"),
        ("study=NO", ("study",), "NO"),
        ("study=a=b", ("study",), "a=b"),
        ("study=", ("study",), None),
        ("study=''", ("study",), ""),
        (" study = 3 ", ("study",), 3),
        ("scales=[1,2]", ("scales",), [1, 2]),
        ("base_loss={nkd: {gamma: 1}}", ("base_loss",), {"nkd": {"gamma": 1}}),
        ("scales[0]=7", ("scales", 0), 7),
        ("scales.0=7", ("scales", 0), 7),
        ("scales[1].size=7", ("scales", 1, "size"), 7),
        ("scales.1.size=7", ("scales", 1, "size"), 7),
        ("new.deep.er=7", ("new", "deep", "er"), 7),
        ("new.0=7", ("new", "0"), 7),
    ],
)
def test_an_override_sets_one_value(assignment: str, path: tuple[str | int, ...], value: object) -> None:
    document = parse_yaml(SWEEP, "sweep.yaml")
    changed = apply_overrides(document, [assignment])
    got = changed.data
    for key in path:
        got = got[key]
    assert (type(got), got) == (type(value), value)
    assert changed.line(path) is None
    assert changed.origin((*path, "below")) == (f"--set {assignment}", None)
    assert changed.origin(("teacher",)) == ("sweep.yaml", 3)
    assert document.data == read(SWEEP)


def test_root_lists_take_an_index() -> None:
    assert apply_overrides(parse_yaml("[1, [2, 3]]", "x"), ["[1][0]=5", "0=4"]).data == [4, [5, 3]]


def test_overrides_apply_in_order_and_the_last_origin_counts() -> None:
    document = parse_yaml(SWEEP, "sweep.yaml")
    changed = apply_overrides(document, ["new.a=1", "new.b=2", "base_loss.kd=3", "base_loss={x: 1}"])
    changed = apply_overrides(changed, ["new.b=4"])
    assert changed.data["new"] == {"a": 1, "b": 4}
    assert changed.data["base_loss"] == {"x": 1}
    assert changed.origin(("new",))[0] == "--set new.a=1"
    assert changed.origin(("new", "b"))[0] == "--set new.b=4"
    assert changed.origin(("base_loss", "kd"))[0] == "--set base_loss={x: 1}"
    assert changed.origin(("base_loss",))[1] is None


def test_no_overrides_change_nothing() -> None:
    document = parse_yaml(SWEEP, "sweep.yaml")
    assert apply_overrides(document, []) == document


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        ("study", "must look like key=value"),
        ("", "must look like key=value"),
        ("=3", "must look like key=value"),
        ("a..b=3", "must look like key=value"),
        (".a=3", "must look like key=value"),
        ("a.=3", "must look like key=value"),
        ("a[=3", "must look like key=value"),
        ("a[-1]=3", "must look like key=value"),
        ("a[x]=3", "must look like key=value"),
        ("a.[0]=3", "must look like key=value"),
        ("a[0]b=3", "must look like key=value"),
        ("study.x=3", "study: must be a mapping or a list to set 'x' in it, but got 'icd-cifar'"),
        ("study.x.y=3", "study: must be a mapping"),
        ("study[0]=3", "study: must be a mapping or a list"),
        ("base_loss[0]=3", "base_loss: must be a list"),
        ("new[0]=3", "to take the index [0]"),
        ("scales.x=3", "scales: must be a mapping"),
        ("scales[3]=3", "scales: the list has 3 items, counted from 0, so it has no [3]"),
        ("study=[1", "study: not valid YAML at column 3"),
        ("study=#fff", "study: must not be empty"),
        ("study=&x 1", "anchors"),
        ("study=!!str 1", "tags"),
        ("study={b: 1, b: 2}", "study.b: duplicate key"),
        ("study=[{b: 1, b: 2}]", "study[0].b: duplicate key"),
        ("study=" + "9" * 5000, "100 digits"),
        ("study=" + "[" * 32 + "]" * 32, "deeper than 32"),
        (".".join("a" * 33) + "=1", "deeper than 32"),
        ("a." * 100_000 + "b=1", "deeper than 32"),
        ("study=" + "x" * LIMIT * 2, "larger than 256 KiB"),
        ("study=\udcff", "U+DCFF"),
    ],
)
def test_a_wrong_override_names_itself(assignment: str, words: str) -> None:
    (problem,) = set_problems(parse_yaml(SWEEP, "sweep.yaml"), assignment)
    assert problem.startswith(
        f"--set {assignment}: " if len(assignment) < 80 and assignment.isprintable() else "--set "
    )
    assert words in problem
    assert len(problem) < 300
    assert problem.isprintable()


def test_all_wrong_overrides_are_reported_together() -> None:
    assert len(set_problems(parse_yaml(SWEEP, "sweep.yaml"), "study", "teacher.x=1", "x=1", "scales[9]=1")) == 3


def test_overrides_together_keep_the_node_limit() -> None:
    half = f"[{','.join('1' * 11_000)}]"
    (problem,) = set_problems(parse_yaml(SWEEP, "sweep.yaml"), f"a={half}", f"b={half}")
    assert problem == "--set: must not hold more than 20000 keys and values"


@pytest.mark.parametrize(
    "assignment",
    [
        f"password={CANARY}",
        f"a.apiKey.b={CANARY}",
        f"a.token[0]=[{CANARY}",
        f"a={{password: {CANARY}}}",
        f"a={{password: {CANARY}",
        f'a={{"pass\\x77ord": {CANARY}}}',
        f"a=https://me:{CANARY}@host",
        f"a=[https://me:{CANARY}@host",
        f"https://me:{CANARY}@host=1",
        f"password {CANARY}",
        f"study.token={CANARY}",
    ],
)
def test_a_secret_override_is_refused_and_not_printed(assignment: str) -> None:
    with pytest.raises(ConfigError) as caught:
        apply_overrides(parse_yaml(SWEEP, "sweep.yaml"), [assignment])
    assert CANARY not in str(caught.value)
    assert CANARY not in repr(caught.value.problems)


# Anything at all


def check_text(text: str) -> None:
    """Reading gives plain data or a ConfigError of printable lines, and nothing else."""
    messages: list[str] = []
    try:
        apply_overrides(parse_yaml(text, "x.yaml"), ["a.b=1"])
    except ConfigError as error:
        messages = [str(problem) for problem in error.problems]
    assert all(message.isprintable() for message in messages)


PIECES = [
    *"\n\t :-?[]{},#&*!|>'\"%@`~\\.=<0aA\0\x1b\u2028\ud800\ufeff\u00e9",
    "  ",
    "---",
    "...",
    "\\x",
    "\\U",
    "%YAML ",
    "<<: ",
]


def test_mutated_documents_raise_nothing_but_config_errors() -> None:
    random_ = random.Random(0)
    for _ in range(1500):
        text = SWEEP
        for _ in range(random_.randint(1, 6)):
            start = random_.randrange(len(text) + 1)
            end = min(len(text), start + random_.choice([0, 0, 1, 5, 30]))
            text = text[:start] + random_.choice(PIECES) * random_.choice([1, 1, 1, 3]) + text[end:]
        check_text(text)


def test_reading_yaml_imports_no_framework() -> None:
    code = "import icd.config.yaml, sys; sys.exit('torch' in sys.modules or 'pydantic' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=240).returncode == 0
