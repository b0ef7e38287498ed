"""A worker that trains nothing: speaks the pipes' JSON lines, as ``icd.worker.main`` does, and answers at once."""

import json
import os
import sys
from dataclasses import asdict
from typing import Any

from no_op import no_op

from icd.search.core.attempts import Attempt, EpochReport


def main() -> None:
    """Serve until the driver closes the pipe."""
    commands, events = os.fdopen(int(sys.argv[1]), "rb"), os.fdopen(int(sys.argv[2]), "wb")

    def say(said: str, **more: Any) -> None:
        events.write(json.dumps({"said": said, **more}).encode() + b"\n")
        events.flush()

    def send(epoch: EpochReport) -> bool:
        say("epoch", epoch=asdict(epoch))
        return bool(json.loads(commands.readline())["go"])

    say("ready", pid=os.getpid())
    for line in iter(commands.readline, b""):
        task = Attempt(**json.loads(line)["task"])
        say("outcome", outcome=asdict(no_op(task, send)))


if __name__ == "__main__":
    main()
