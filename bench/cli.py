"""What help costs: CPU seconds, memory and heavy imports of ``icd VERB --help`` for every verb, and of completion.

    python bench/cli.py [--json]

Each is a process of its own, started twice; the second counts, since the first may compile.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

import click

from icd.cli.main import VERBS, icd

HEAVY = ("torch", "torchvision", "scipy", "pandas", "sqlalchemy", "optuna", "mlflow", "ray", "numpy", "pydantic")
MOST_CPU_S, MOST_MB = 0.5, 120.0
_RUN = """
import json, resource, sys
from icd.cli.main import icd
try:
    icd.main({words!r}, prog_name="icd")
except SystemExit:
    pass
heavy = [name for name in {heavy!r} if name in sys.modules]
used = resource.getrusage(resource.RUSAGE_SELF)
sys.stderr.write(json.dumps((used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, heavy)))
"""


@dataclass(frozen=True, slots=True)
class Cost:
    """What one command line costs.

    Attributes:
        words: The command line; empty for completion.
        cpu_s: User and system time.
        memory_mb: Largest resident size.
        heavy: Heavy modules that were imported.
    """

    words: str
    cpu_s: float
    memory_mb: float
    heavy: Sequence[str]

    @property
    def fits(self) -> bool:
        """Whether it answers at once."""
        return self.cpu_s < MOST_CPU_S and self.memory_mb < MOST_MB and not self.heavy


def cost_of(words: Sequence[str], environment: Mapping[str, str] | None = None) -> Cost:
    """Measure one command line."""
    code = _RUN.format(words=list(words), heavy=HEAVY)
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, **(environment or {})},
        )
    cpu_s, memory_mb, heavy = json.loads(done.stderr)
    return Cost(" ".join(["icd", *words]) if words else "icd <TAB>", cpu_s, memory_mb, heavy)


def command_lines() -> Iterator[list[str]]:
    """Give ``--version``, ``--help``, ``schema``, and the help of every verb and of the verbs below it."""
    yield ["--version"]
    yield ["--help"]
    yield ["schema"]
    with icd.make_context("icd", ["x"]) as context:
        for verb in VERBS:
            yield from _below([verb], icd.get_command(context, verb), context)


def _below(path: list[str], command: click.Command | None, context: click.Context) -> Iterator[list[str]]:
    yield [*path, "--help"]
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            yield from _below([*path, name], command.get_command(context, name), context)


COMPLETION = {"_ICD_COMPLETE": "bash_complete", "COMP_WORDS": "icd ", "COMP_CWORD": "1"}


def main() -> int:
    """Measure everything; exits with 1 where something is slow."""
    costs = [cost_of(words) for words in command_lines()]
    costs.append(cost_of([], COMPLETION))
    if "--json" in sys.argv:
        json.dump([asdict(cost) for cost in costs], sys.stdout, indent=1)
    else:
        for cost in costs:
            mark = "" if cost.fits else "  <- too much"
            sys.stdout.write(
                f"{cost.cpu_s:6.2f} s {cost.memory_mb:6.0f} MB  {cost.words}  {', '.join(cost.heavy)}{mark}\n"
            )
    return 0 if all(cost.fits for cost in costs) else 1


if __name__ == "__main__":
    sys.exit(main())
