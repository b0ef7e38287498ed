"""How the steps of a trial reach its device: no part of a trial's result."""

import os
from typing import Literal, get_args

from icd.errors import UsageError

# ``eager`` hands the device one operation after the other. ``graph`` records a step once as a CUDA graph and replays
# it, where that can be done. ``auto`` is ``eager`` until a graph has been seen to be right and faster on a real GPU.
Engine = Literal["auto", "eager", "graph"]


def engine_asked(option: Engine | None = None, file: Engine = "auto") -> Engine:
    """Say what was asked for: an option of the command, else ``ICD_ENGINE``, else the sweep's file.

    Raises:
        UsageError: If ``ICD_ENGINE`` names no engine.
    """
    if option is not None:
        return option
    named = os.environ.get("ICD_ENGINE") or file
    for engine in get_args(Engine):
        if engine == named:
            return engine  # type: ignore[no-any-return]
    raise UsageError(f"ICD_ENGINE must be auto, eager or graph, but got {named!r}")
