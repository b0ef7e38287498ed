"""One process at a time trains in a folder; the others wait, and the lock dies with its holder."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from icd.errors import Interrupted, SetupError
from icd.training.loop import Execution

_LOOK_S = 1.0  # between looks at whether to stop


@contextmanager
def alone_in(folder: Path, execution: Execution, announce: Callable[[str], None]) -> Iterator[None]:
    """Hold a folder that need not be there yet; waits while another process does, and says so once.

    Raises:
        Interrupted: If ``execution.stop`` ended the waiting.
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
            if execution.stop():
                raise Interrupted(f"stopped while another process trained in {folder}") from None
            execution.progress(0, 0, 1)  # the waiting is no hang
        except OSError as error:
            raise SetupError(f"{folder.parent} cannot be written: {error.strerror or error}") from error
    try:
        yield
    finally:
        lock.release()
