"""Tables of what a file may name: the package's own rows, and those that plugins add."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Generic, NamedTuple, TypeVar

Row = TypeVar("Row")


class Source(NamedTuple, Generic[Row]):
    """Makes rows of names that nobody has written down."""

    make: Callable[[str], Row]  # raises KeyError for a name that it does not know
    names: Callable[[], Sequence[str]]  # lists those that it knows, with what stands before the colon


class Registry(Mapping[str, Row], Generic[Row]):
    """Rows by name.

    Rows that were added stay until another row of that name is added, so that a name which was read can be built.

    Args:
        what: What a row is, for messages.
        rows: The package's own; nothing replaces them.
        sources: Of rows with names such as ``timm:resnet18``, by the part before the colon.
    """

    def __init__(self, what: str, rows: Mapping[str, Row], sources: "Mapping[str, Source[Row]] | None" = None) -> None:
        self.what = what
        self.own: Mapping[str, Row] = dict(rows)
        self._sources = dict(sources or {})
        self._added: dict[str, tuple[Row, object]] = {}  # with who added each
        self._classes: dict[object, tuple[str, object]] = {
            row: (name, None) for name, row in rows.items() if isinstance(row, type)
        }

    def __getitem__(self, name: str) -> Row:
        if name in self.own:
            return self.own[name]
        if name in self._added:
            return self._added[name][0]
        source, colon, inner = name.partition(":") if isinstance(name, str) else ("", "", "")
        if colon and source in self._sources:
            return self._sources[source].make(inner)
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter([*self.own, *self._added])

    def __len__(self) -> int:
        return len(self.own) + len(self._added)

    def like(self, name: object) -> list[str]:
        """List the names that one that is unknown may be meant for."""
        source = str(name).partition(":")[0]
        return list(self._sources[source].names()) if ":" in str(name) and source in self._sources else list(self)

    def add(self, name: str, row: Row, owner: object) -> None:
        """Add a row, or replace one that was added."""
        self._added = {**self._added, name: (row, owner)}  # another thread may be walking over the old one
        if isinstance(row, type):
            self._classes[row] = name, owner

    def owner(self, name: str) -> object | None:
        """Who added a row; None for one of the package's own."""
        return self._added[name][1] if name in self._added else None

    def name_of(self, cls: type) -> str | None:
        """Name a row that is a class, also one that was replaced since; None where it is no row."""
        return self._classes[cls][0] if cls in self._classes else None

    def owner_of(self, cls: type) -> object | None:
        """Who added a row that is a class."""
        return self._classes[cls][1] if cls in self._classes else None
