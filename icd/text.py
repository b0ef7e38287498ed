"""Numbers and tables as text for people."""

import difflib
from collections.abc import Sequence
from typing import Any


def columns(headers: Sequence[str], rows: Sequence[Sequence[object]], *, left: Sequence[str] = ()) -> list[str]:
    """Lay out rows under headers; numbers to the right, the columns named in ``left`` to the left."""
    cells = [[cell_text(cell) for cell in row] for row in rows]
    widths = [max(len(line[place]) for line in [list(headers), *cells]) for place in range(len(headers))]

    def line(words: Sequence[str]) -> str:
        padded = [
            word.ljust(width) if header in left else word.rjust(width)
            for header, word, width in zip(headers, words, widths, strict=True)
        ]
        return "  ".join(padded).rstrip()

    return [line(list(headers)), *(line(row) for row in cells)]


def cell_text(value: Any) -> str:
    """Write one value: nothing as a dash, a number with four digits, or all before its point, a list by commas."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return ", ".join(map(cell_text, value))
    if isinstance(value, float):
        return f"{value:.0f}" if 1000 <= abs(value) < 1e15 else f"{value:.4g}"
    return str(value)


def runs_wait(count: int) -> str:
    """Say how many runs wait: ``1 run waits``, ``2 runs wait``."""
    return "1 run waits" if count == 1 else f"{count} runs wait"


def shown(value: object) -> str:
    """Write a value as in a table, an empty text as a dash too."""
    return cell_text(None if value == "" else value)


def plural(count: int, word: str) -> str:
    """Count things in words: ``1 trial``, ``2 trials``."""
    return f"{count} {word}{'' if count == 1 else 's'}"


def size_text(num_bytes: float) -> str:
    """Write a number of bytes with three digits in the unit that suits it: ``817 kB``, ``0 bytes``."""
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if num_bytes >= 0.9995 * size:  # else three digits would be 1e+03 of the unit below
            return f"{num_bytes / size:.3g} {unit}"
    return f"{num_bytes:.0f} bytes"


def first_change(before: str, now: str) -> str:
    """Say where two texts differ first, as ``, from line 7: 'a' -> 'b'``; empty where they are not known."""
    if not before or not now:
        return ""
    old, new = before.splitlines(), now.splitlines()
    for tag, i, j, k, m in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if tag != "equal":
            was, became = (" ".join(" ".join(part).split())[:80] for part in (old[i:j], new[k:m]))
            return f", from line {i + 1}: {was!r} -> {became!r}"
    return ""
