"""The token of a Ray of our own."""

import os
import stat
from pathlib import Path

from icd.search.executors.ray.security import write_token


def test_a_fresh_token_that_its_user_alone_can_read(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        path = write_token(tmp_path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.rename(tmp_path / "first")
    assert len((tmp_path / "first").read_text()) == 64
    assert write_token(tmp_path).read_text() != (tmp_path / "first").read_text()
