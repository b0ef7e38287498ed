"""What a person sees while a sweep runs: a live table on a terminal, a line for every trial's end elsewhere."""

import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from icd.cli.show import configuration, count_text
from icd.search.driver import Driver
from icd.search.reading import counts_of
from icd.search.record import TrialRecord, best
from icd.search.sweeps import Executor

_READ_EVERY_S = 1.0
_READ_SHARE = 0.05  # of the time at most goes into reading the ledger
_MANY_TRIALS = 200  # from here on a summary replaces the lines of single trials
_SUMMARY_EVERY_S = 60.0


class LiveDisplay:
    """Shows a sweep on a stream; ``announce`` and ``watch`` are given to ``Settings``."""

    def __init__(self, stream: TextIO) -> None:
        self.console = Console(file=stream, highlight=False, soft_wrap=True)
        self.live: Live | None = None
        self.records: Sequence[TrialRecord] = ()
        self._told: set[int] | None = None
        self._started: dict[int, float] = {}
        self._read_at = self._said_at = time.monotonic()
        self._next_read = 0.0
        self._driver: Driver | None = None

    def __enter__(self) -> "LiveDisplay":
        if self.console.is_terminal:
            self.live = Live(console=self.console, transient=True, auto_refresh=False)
            self.live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.live is not None:
            self.live.stop()
        if self._driver is not None and kind is None:
            self._read(self._driver)  # what ended since the last look

    def announce(self, text: str) -> None:
        """Say what happens next."""
        self._line(f"icd: {text}")

    def watch(self, driver: Driver, executor: Executor) -> None:
        """Look at the sweep; called several times a second, reads the ledger about once."""
        now = time.monotonic()
        if self._told is None:  # trials that ended before this driver came are no news
            self.records = driver.ledger.records(driver.chooser.stage)
            self._told = {record.number for record in self.records if record.state != "running"}
        self._driver = driver
        for number in driver.running:
            self._started.setdefault(number, now)
        if now < self._next_read:
            return
        self._read(driver)
        self._next_read = now + max(_READ_EVERY_S, (time.monotonic() - now) / _READ_SHARE)
        if self.live is not None:
            self.live.update(self._table(driver, executor), refresh=True)

    def _read(self, driver: Driver) -> None:
        self.records = driver.ledger.records(driver.chooser.stage)
        told = self._told if self._told is not None else set()
        ended = [record for record in self.records if record.state != "running" and record.number not in told]
        told.update(record.number for record in ended)
        if (driver.sweep.budget.trials or len(self.records)) <= _MANY_TRIALS:
            for record in ended:
                self._line(end_line(record, driver.sweep.objectives[0].metric))
        elif ended and self.live is None and time.monotonic() - self._said_at > _SUMMARY_EVERY_S:
            self._said_at = time.monotonic()
            self._line(self._summary(driver))

    def _summary(self, driver: Driver) -> str:
        objective = driver.sweep.objectives[0]
        found = best(self.records, maximize=objective.direction == "maximize")
        shown = f"; best {objective.metric} {found.values[0]:.4g} (trial {found.number})" if found else ""
        limit = driver.sweep.budget.trials
        budget = f" of {limit}" if limit else ""
        used = sum(record.counts for record in self.records)
        return f"{used}{budget} trials: {count_text(counts_of(self.records))}{shown}"

    def _table(self, driver: Driver, executor: Executor) -> Group:
        table = Table(box=None, pad_edge=False)
        for name in ("trial", "epoch", driver.sweep.objectives[0].metric, "seconds", "configuration"):
            table.add_column(name, justify="left" if name == "configuration" else "right", no_wrap=True)
        progress = getattr(executor, "progress", None)
        steps: Mapping[int, Mapping[str, int]] = progress() if progress is not None else {}
        by_number = {record.number: record for record in self.records}
        for number, running in sorted(driver.running.items()):
            where = steps.get(number) or {}
            # A run counts its own epochs; where it is not at the next one, what was heard is of an epoch that ended.
            fresh = where.get("steps") and running.before + where["epoch"] == running.epoch + 1
            part = f"+{where['step'] / where['steps']:.0%}" if fresh else ""
            value = "-" if running.value is None else f"{running.value:.4g}"
            seconds = f"{time.monotonic() - self._started.get(number, time.monotonic()):.0f}"
            record = by_number.get(number)
            text = configuration(record, widest=60) if record else ""
            table.add_row(str(number), f"{running.epoch}{part}/{running.epochs}", value, seconds, Text(text))
        return Group(Text(self._summary(driver), no_wrap=True), table)

    def _line(self, text: str) -> None:
        self.console.print(text, markup=False)


def end_line(record: TrialRecord, metric: str) -> str:
    """Say in a line how a trial ended."""
    epochs = max(record.curve, default=0)
    if record.state == "duplicate":
        return f"trial {record.number:3d}  duplicate  {record.reason}"
    value = record.values[0] if record.values else record.curve[epochs] if record.curve else None
    shown = "" if value is None else f"  {metric} {value:.4g}"
    reason = f"  ({record.reason})" if record.reason else ""
    tried = configuration(record)
    end = f"  {tried}" if tried else ""
    return f"trial {record.number:3d}  {record.state:8s}  epoch {epochs:3d}{shown}{end}{reason}"
