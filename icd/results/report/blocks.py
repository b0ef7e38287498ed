"""What a page is made of: plain values that ``page.html.j2`` writes out, one after another."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from markupsafe import Markup

_LONG = 40  # letters in a cell that may be broken into lines
_NARROW = 5  # columns of a table that fits into half a page
Tone = Literal["plain", "finding", "warning", "note"]
Shape = Literal["two", "three", "four", "half"]


@dataclass(frozen=True, slots=True)
class Text:
    """A paragraph."""

    text: str
    tone: Tone = "plain"
    kind: str = "text"


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows under headers; it scrolls inside its own box. ``folded`` hides it behind its caption."""

    caption: str
    headers: Sequence[str]
    rows: Sequence[Sequence[object]]
    folded: bool = False
    kind: str = "table"

    @property
    def cells(self) -> list[list[tuple[str, str]]]:
        """Text of every cell, and its class: ``number``, ``long`` or none."""
        return [[(shown(cell), _class(cell)) for cell in row] for row in self.rows]

    @property
    def is_narrow(self) -> bool:
        """Whether it takes one of two columns of a wide page."""
        return len(self.headers) <= _NARROW and not any(class_ == "long" for row in self.cells for _, class_ in row)

    @property
    def stacks(self) -> bool:
        """Whether a phone shows each row as a small list, since it holds several cells and long text."""
        return len(self.headers) > 2 and any(class_ == "long" for row in self.cells for _, class_ in row)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """A drawing with what it says in words, and its numbers as a table, unless that stands beside it."""

    title: str
    svg: Markup
    text: str
    table: Table | None = None
    kind: str = "chart"


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A small picture as a data URI."""

    caption: str
    source: str
    alt: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Pictures:
    """Pictures beside each other, to be compared."""

    title: str
    text: str
    pictures: Sequence[Picture]
    kind: str = "pictures"


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """Text to copy."""

    caption: str
    text: str
    folded: bool = False
    kind: str = "code"


Block = Text | Table | Chart | Pictures | Code


@dataclass(frozen=True, slots=True)
class Section:
    """A heading and what stands below it; ``shape`` is where: in so many columns, or half a wide page."""

    heading: str
    blocks: Sequence[Block]
    shape: Shape = "two"

    @property
    def anchor(self) -> str:
        """Where links point to."""
        return "".join(letter if letter.isalnum() else "-" for letter in self.heading.lower())


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A page: its title, a line below it, a link, and its sections in reading order."""

    title: str
    subtitle: str
    link: str = ""
    sections: Sequence[Section]


def _class(cell: object) -> str:
    return "number" if isinstance(cell, int | float | None) else "long" if len(str(cell)) > _LONG else ""


def shown(value: object) -> str:
    """Write a value for people: four digits of a number, a dash for nothing."""
    if value is None or value == "":
        return "-"
    if isinstance(value, float):
        return f"{value:.0f}" if 1000 <= abs(value) < 1e15 else f"{value:.4g}"
    return str(value)
