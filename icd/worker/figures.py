"""The Gram matrices of a trial as a PNG file: a pure function of numbers, without any state of matplotlib."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from icd.training.checkpoints import write_durably

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST_IMAGES = 3
_DPI = 110


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
    figure = _figure(9.0, 2.6 * len(rows) + 0.5, title)
    for place, (axes, row) in enumerate(zip(figure.subplots(len(rows), 3, squeeze=False), rows, strict=True)):
        _draw_grams(figure, axes, *row, heading=place == 0)
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
