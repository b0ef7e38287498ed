"""One process at a time works in a folder; the others wait, and the lock dies with its holder."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from icd.errors import Interrupted, SetupError

_LOOK_S = 1.0  # between looks at whether to stop


@contextmanager
def alone_in(
    folder: Path, announce: Callable[[str], None], stop: Callable[[], bool], waiting: Callable[[], None]
) -> Iterator[None]:
    """Hold a folder that need not be there yet; waits while another process does, and says so once.

    Args:
        folder: What is held.
        announce: Told that another process holds it.
        stop: Asked about every second; True ends the waiting.
        waiting: Called as often, for those who would take the silence for a hang.

    Raises:
        Interrupted: If ``stop`` ended the waiting.
        SetupError: If the folder above cannot be written.
    """
    lock, said = FileLock(folder.with_name(f".{folder.name}.lock")), False
    while True:
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=_LOOK_S if said else 0)
            break
        except Timeout:
            if not said:
                announce(f"another process trains in {folder}; waiting for it")
                said = True
            if stop():
                raise Interrupted(f"stopped while another process trained in {folder}") from None
            waiting()
        except OSError as error:
            raise SetupError(f"{folder.parent} cannot be written: {error.strerror or error}") from error
    try:
        yield
    finally:
        lock.release()
