"""What a trial's folder tells of its training, for whoever reads: rows of metrics and the losses of the first steps.

Nothing here imports torch: a driver or a command that shows a trial must not wait for that.
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from icd.errors import CheckpointError

if TYPE_CHECKING:
    from icd.config.trial import Fingerprint

METRICS = "metrics.jsonl"


def stored_rows(folder: Path) -> list[dict[str, Any]]:
    """Read a trial's metrics, one row per reported epoch, in their order; each epoch's checkpoint was durable first.

    An attempt that was taken for dead may have added a row. If two rows have the same epoch, the one that ended
    later is kept: it belongs to the newer attempt.
    """
    path = folder / METRICS
    rows: list[dict[str, Any]] = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            rows.append(json.loads(line))
        except ValueError:
            break  # a kill in the middle of the last line; its epoch comes back from the checkpoint
    rows.sort(key=lambda row: (row["epoch"], row.get("time", 0.0)))
    return list({row["epoch"]: row for row in rows}.values())


def append_row(path: Path, row: Mapping[str, Any]) -> None:
    """Add a line of JSON to a file, durably."""
    with path.open("a") as file:
        file.write(json.dumps(row) + "\n")
        file.flush()
        os.fsync(file.fileno())


def training_seconds(rows: Sequence[Mapping[str, Any]]) -> float:
    """Add up what all epochs took; those between two reports count like the later report's."""
    before = [0, *(row["epoch"] for row in rows)]
    return float(sum(row["seconds/epoch"] * (row["epoch"] - last) for last, row in zip(before, rows, strict=False)))


def fingerprint_of(folder: Path) -> "Fingerprint | None":
    """Read how a finished trial began; None where it began with a version that did not note it.

    Raises:
        CheckpointError: If the file is damaged.
    """
    from icd.config.trial import Fingerprint

    path = folder / "fingerprint.json"
    if not path.exists():
        return None
    try:
        data = json.loads(path.read_text())
        return Fingerprint(**{**data, "losses": tuple(data["losses"])})
    except (ValueError, TypeError, KeyError) as error:
        raise CheckpointError(f"{path} must hold the losses of the first steps, but is damaged: {error}") from error
