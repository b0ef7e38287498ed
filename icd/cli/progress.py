"""What a person sees while a network trains: a bar on a terminal, a line per epoch elsewhere."""

from types import TracebackType
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from icd.trial.train import EpochMetrics


class Display:
    """Shows announcements, steps and epochs on a stream."""

    def __init__(self, stream: TextIO) -> None:
        self.console = Console(file=stream, highlight=False, soft_wrap=True)
        self.bar: Progress | None = None
        self.task: TaskID | None = None

    def __enter__(self) -> "Display":
        if self.console.is_terminal:
            columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"))
            self.bar = Progress(*columns, TimeRemainingColumn(), console=self.console, transient=True)
            self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.bar is not None:
            self.bar.stop()

    def announce(self, text: str) -> None:
        """Say what happens next."""
        self._line(f"icd: {text}")

    def progress(self, epoch: int, step: int, steps: int) -> None:
        """Move the bar."""
        if self.bar is None:
            return
        if self.task is None:
            self.task = self.bar.add_task("")
        self.bar.update(self.task, description=f"epoch {epoch}", completed=step, total=steps)

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

    def _line(self, text: str) -> None:
        self.console.print(text, markup=False)
