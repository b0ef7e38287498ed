"""Lines for problems that are found after a file was read, such as images of another size than its views."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from icd.config.yaml import Document
from icd.errors import ConfigError, Problem


@contextmanager
def located(document: Document) -> Iterator[None]:
    """Give every problem that has a path and no place yet the line of the document that caused it."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError([_located(problem, document) for problem in error.problems]) from error


def _located(problem: Problem, document: Document) -> Problem:
    if problem.source or not problem.path:
        return problem
    source, line = document.origin(tuple(problem.path.split(".")))
    return replace(problem, source=source, line=line)
