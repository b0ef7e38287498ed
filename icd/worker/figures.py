"""Figures of a trial as PNG files: pure functions of numbers, without any state of matplotlib."""

import io
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from icd.training.checkpoints import write_durably

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MOST_IMAGES = 3
_DPI = 110
_DRAWING = threading.Lock()  # matplotlib's fonts and parsers are one for all threads
_PREFIXES = (("train/loss/", "loss terms"), ("train/gradient_share/", "gradient shares"))


def gram_figure(path: Path, matrices: Mapping[int, tuple[Any, Any]], *, title: str = "") -> None:
    """Draw student, teacher and their difference, one row for each scale and image.

    Args:
        path: PNG to write, whole or not at all.
        matrices: For each scale >= 2 the student's and the teacher's [B, M, M] (arrays or CPU tensors), as
            ``gram_matrices`` gives them; the first three images are drawn.
        title: Of the whole figure.

    Raises:
        ValueError: If there is nothing to draw.
    """
    rows = [
        (scale, image, np.asarray(student)[image], np.asarray(teacher)[image])
        for scale, (student, teacher) in sorted(matrices.items())
        for image in range(min(len(student), _MOST_IMAGES))
    ]
    if not rows:
        raise ValueError(f"matrices must hold at least one scale >= 2 and one image, but got scales {list(matrices)}")
    with _DRAWING:
        figure = _figure(9.0, 2.6 * len(rows) + 0.5, title)
        for place, (axes, row) in enumerate(zip(figure.subplots(len(rows), 3, squeeze=False), rows, strict=True)):
            _draw_grams(figure, axes, *row, heading=place == 0)
        _write(figure, path)


def curves_figure(path: Path, rows: Sequence[Mapping[str, float]], *, title: str = "") -> None:
    """Draw loss terms, gradient shares and val/top1 over the epochs.

    Args:
        path: PNG to write, whole or not at all.
        rows: One mapping for each epoch, with ``epoch`` and the metrics of metrics.jsonl; a metric may be absent
            from some or all rows.
        title: Of the whole figure.
    """
    with _DRAWING:
        figure = _figure(12.0, 3.6, title)
        loss, share, top1 = figure.subplots(1, 3)
        for axes, (prefix, heading) in zip((loss, share), _PREFIXES, strict=True):
            names = sorted({name for row in rows for name in row if name.startswith(prefix)})
            for name in names:
                _draw_curve(axes, rows, name, label=name.removeprefix(prefix))
            axes.set_title(heading)
            if names:
                axes.legend(frameon=False)
        share.set_ylim(0, 1)
        _draw_curve(top1, rows, "val/top1", label="val/top1")
        top1.set_title("val/top1 [%]")
        for axes in (loss, share, top1):
            axes.set_xlabel("epoch")
            axes.grid(alpha=0.3)
            axes.xaxis.get_major_locator().set_params(integer=True)
        _write(figure, path)


def _draw_grams(
    figure: "Figure", axes: Any, scale: int, image: int, student_MM: Any, teacher_MM: Any, *, heading: bool
) -> None:
    # Student and teacher share one colour scale, or their colours could not be compared.
    low, high = min(student_MM.min(), teacher_MM.min()), max(student_MM.max(), teacher_MM.max())
    difference_MM = student_MM - teacher_MM
    widest = max(float(np.abs(difference_MM).max()), 1e-12)
    drawn = (
        ("student", student_MM, "viridis", low, high),
        ("teacher", teacher_MM, "viridis", low, high),
        ("student - teacher", difference_MM, "RdBu_r", -widest, widest),
    )
    for place, (name, matrix_MM, colours, least, most) in enumerate(drawn):
        shown = axes[place].imshow(matrix_MM, cmap=colours, vmin=least, vmax=most, interpolation="nearest")
        axes[place].set_xticks([])
        axes[place].set_yticks([])
        if heading:
            axes[place].set_title(name)
        if place > 0:
            figure.colorbar(shown, ax=axes[1:2] if place == 1 else axes[2:3], shrink=0.85, format="%.2g")
    axes[0].set_ylabel(f"scale {scale}, image {image + 1}\n{scale * scale} cells")


def _draw_curve(axes: "Axes", rows: Sequence[Mapping[str, float]], name: str, *, label: str) -> None:
    points = [(row["epoch"], row[name]) for row in rows if name in row]
    if points:
        axes.plot(*zip(*points, strict=True), marker="o" if len(points) < 30 else "", markersize=3, label=label)


def _figure(width: float, height: float, title: str) -> "Figure":
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    if title:
        figure.suptitle(title)
    return figure


def _write(figure: "Figure", path: Path) -> None:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_DPI)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_durably(path, buffer.getvalue())
