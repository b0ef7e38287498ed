"""A trial that somebody asks a sweep for: ``icd try`` writes it down, and the sweep's driver makes a trial of it."""

import json
import secrets
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialRequest:
    """A request; a trial that was made of one has its name as the attribute ``request``."""

    name: str  # its own, and its file's; names sort by the time of asking
    label: str  # what tables call the trial
    # the trial's document. Images, plugins and the networks of several pairs are those of the sweep.
    document: Mapping[str, Any]
    key: str  # of the configuration, as its trial will have it
    # the same in terms of the sweep's space; empty where the space cannot express it
    params: Mapping[str, Any] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        """Write it for a file."""
        return json.dumps(asdict(self)).encode()


def new_name() -> str:
    """Give a name that no other request has."""
    return f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{time.time_ns() % 10**9:09d}-{secrets.token_hex(3)}"


def read_request(content: bytes) -> TrialRequest | None:
    """Read a request; None for a file that is none."""
    try:
        found = TrialRequest(**json.loads(content))
    except (ValueError, TypeError):
        return None
    whole = isinstance(found.document, dict) and isinstance(found.params, dict)
    return found if whole and all(isinstance(text, str) for text in (found.name, found.label, found.key)) else None
