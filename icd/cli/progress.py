"""What a person sees while a sweep runs or a network trains: live on a terminal, in lines elsewhere."""

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self, TextIO

from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

from icd.cli.format import configuration, count_text
from icd.cli.options import check_writable, device_of
from icd.cli.signals import stop_requested, stopping_politely
from icd.config.sweep import engine_asked
from icd.search.controller.controller import SweepController
from icd.search.core.records import TrialRecord, best
from icd.search.executors.executor import Executor
from icd.search.sweep_status import counts_of
from icd.text import columns
from icd.training.loop import EpochMetrics, Execution

_READ_EVERY_S = 1.0
_READ_SHARE = 0.05  # of the time at most goes into reading the ledger
_MANY_TRIALS = 200  # from here on a summary replaces the lines of single trials
_SUMMARY_EVERY_S = 60.0


class _Shown:
    """Lines on a stream; below them stands something that moves, where the stream is a terminal."""

    live: Any = None  # that, while it is shown

    def __init__(self, stream: TextIO) -> None:
        self.console = Console(file=stream, highlight=False, soft_wrap=True, emoji=False)

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            self.live = self.moving()
            self.live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self.live is not None:
            self.live.stop()

    def moving(self) -> Live | Progress:
        """Make what moves."""
        raise NotImplementedError

    def announce(self, text: str) -> None:
        """Say what happens next."""
        self._line(f"icd: {text}")

    def _line(self, text: str) -> None:
        self.console.print(text, markup=False)


class LiveDisplay(_Shown):
    """Shows a sweep on a stream; ``announce`` and ``watch`` are given to ``Settings``."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self.records: Sequence[TrialRecord] = ()
        self._told: set[int] = set()
        self._started: dict[int, float] = {}
        self._read_at = self._said_at = time.monotonic()
        self._next_read = 0.0
        self._driver: SweepController | None = None

    def moving(self) -> Live:
        """Make an empty table."""
        return Live(console=self.console, transient=True, auto_refresh=False)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        super().__exit__(kind)
        if self._driver is not None and kind is None:
            self._read(self._driver)  # what ended since the last look

    def watch(self, driver: SweepController, executor: Executor) -> None:
        """Look at the sweep; called several times a second, reads the ledger about once."""
        now = time.monotonic()
        if self._driver is None:  # trials that ended before this driver came are no news
            self.records = driver.ledger.records(driver.source.stage)
            self._told = {record.number for record in self.records if not record.unfinished}
        self._driver = driver
        for number in driver.running:
            self._started.setdefault(number, now)
        if now < self._next_read:
            return
        self._read(driver)
        self._next_read = now + max(_READ_EVERY_S, (time.monotonic() - now) / _READ_SHARE)
        if self.live is not None:
            self.live.update(self._table(driver, executor), refresh=True)

    def _read(self, driver: SweepController) -> None:
        self.records = driver.ledger.records(driver.source.stage)
        ended = [record for record in self.records if not record.unfinished and record.number not in self._told]
        self._told.update(record.number for record in ended)
        if (driver.sweep.budget.trials or len(self.records)) <= _MANY_TRIALS:
            for record in ended:
                self._line(end_line(record, driver.sweep.objectives[0].metric))
        elif ended and self.live is None and time.monotonic() - self._said_at > _SUMMARY_EVERY_S:
            self._said_at = time.monotonic()
            self._line(self._summary(driver))

    def _summary(self, driver: SweepController) -> str:
        objective = driver.sweep.objectives[0]
        found = best(self.records, maximize=objective.direction == "maximize")
        shown = f"; best {objective.metric} {found.values[0]:.4g} (trial {found.number})" if found else ""
        limit = driver.sweep.budget.trials
        budget = f" of {limit}" if limit else ""
        used = sum(record.counts for record in self.records)
        return f"{used}{budget} trials: {count_text(counts_of(self.records))}{shown}"

    def _table(self, driver: SweepController, executor: Executor) -> Text:
        rows, steps = list[list[object]](), executor.progress()
        by_number = {record.number: record for record in self.records}
        for number, running in sorted(driver.running.items()):
            last = steps.get(number)
            # Where it is not at the next epoch, what was heard is of one that ended.
            fresh = last is not None and last.steps and last.epoch == running.epoch + 1
            part = f"+{last.step / last.steps:.0%}" if last is not None and fresh else ""
            seconds = f"{time.monotonic() - self._started.get(number, time.monotonic()):.0f}"
            record = by_number.get(number)
            text = configuration(record, widest=60) if record else ""
            rows.append([number, f"{running.epoch}{part}/{running.epochs}", running.value, seconds, text])
        headers = ["trial", "epoch", driver.sweep.objectives[0].metric, "seconds", "configuration"]
        lines = columns(headers, rows, left=["configuration"])
        return Text("\n".join([self._summary(driver), *lines]), no_wrap=True)


def end_line(record: TrialRecord, metric: str) -> str:
    """Say in a line how a trial ended."""
    if record.state == "duplicate":
        return f"trial {record.number:3d}  duplicate  {record.reason}"
    value = record.values[0] if record.values else record.last
    shown = "" if value is None else f"  {metric} {value:.4g}"
    reason = f"  ({record.reason})" if record.reason else ""
    tried = configuration(record)
    end = f"  {tried}" if tried else ""
    return f"trial {record.number:3d}  {record.state:8s}  epoch {record.epochs:3d}{shown}{end}{reason}"


class Display(_Shown):
    """Shows announcements, steps and epochs on a stream."""

    task: TaskID | None = None

    def moving(self) -> Progress:
        """Make a bar."""
        parts = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"))
        return Progress(*parts, TimeRemainingColumn(), console=self.console, transient=True)

    def progress(self, epoch: int, step: int, steps: int) -> None:
        """Move the bar."""
        if self.live is None:
            return
        if self.task is None:
            self.task = self.live.add_task("")
        self.live.update(self.task, description=f"epoch {epoch}", completed=step, total=steps)

    def report(self, metrics: EpochMetrics) -> None:
        """Say how an epoch went."""
        values = metrics.values
        part = "val" if "val/top1" in values else "test"
        terms = "  ".join(
            f"{name.removeprefix('train/loss/')} {value:.4g}"
            for name, value in values.items()
            if name.startswith("train/loss/")
        )
        self._line(
            f"epoch {metrics.epoch:3d}  {part} top-1 {values[f'{part}/top1']:6.2f} %  loss {values['train/loss']:.4g} "
            f"({terms})  lr {values['lr']:.3g}  {values['seconds/epoch']:.1f} s"
        )


@contextmanager
def executing(options: Mapping[str, Any], root: Path) -> Iterator[tuple[Execution, Display]]:
    """Show on stderr how networks train in this process, on the device of the options; a signal stops after an epoch.

    Raises:
        SetupError: If the device is not there, or the root cannot be written.
    """
    device = device_of(options["device"], options["threads"])
    check_writable(root)
    again = "--resume" if "resume" in options else "the same command"
    with stopping_politely(again), Display(sys.stderr) as display:
        execution = Execution(
            device=device,
            num_workers=options["workers"],
            report=display.report,
            progress=display.progress,
            stop=stop_requested,
            engine=engine_asked(options.get("engine")),
        )
        yield execution, display


@contextmanager
def driving(options: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Show on stderr how a sweep goes; gives the options of ``icd.search`` and ``icd.results`` for that."""
    with stopping_politely(), LiveDisplay(sys.stderr) as display:
        yield {"announce": display.announce, "watch": display.watch, "stop": stop_requested, **options}
