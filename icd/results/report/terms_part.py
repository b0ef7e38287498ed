"""What the loss terms did: shares of the gradient over the epochs, and the Gram matrices they led to."""

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from icd.results.report.blocks import Block, Chart, Picture, Pictures, Section, Table, Text
from icd.results.report.charts import Series, lines_chart
from icd.results.report.gather import Facts
from icd.results.report.words import plural
from icd.worker.gram_file import Grams

_SHARE, _COSINE = "train/gradient_share/", "train/gradient_cosine/"
_SMALL = 0.01
_DISTINCT = 6
_MOST_ROWS = 60
# From light to dark, so that it also reads in black and white; red, green and blue at equal steps.
_RAMP = np.array([[247, 251, 243], [190, 222, 212], [112, 176, 196], [47, 118, 171], [25, 62, 122], [12, 22, 60]])
_SIDES = (("teacher", "teacher"), ("student", "student"), ("before", "student before"))


def term_shares(facts: Facts) -> Section | None:
    """Draw each loss term's share of the gradient over the epochs."""
    names = {record.number: record.baseline for record in facts.records}
    blocks: list[Block] = []
    for number, rows in facts.curves.items():
        title = f"trial {number}" + (f", baseline {names[number]}" if names.get(number) else "")
        blocks += _terms(rows, _SHARE, f"Shares of the gradient, {title}", "share")
        blocks += _terms(rows, _COSINE, f"Angles between gradients, {title}", "cosine")
    if not blocks:
        return None
    blocks.sort(key=lambda block: isinstance(block, Text))  # charts beside each other
    words = "Each term's share of the sum of the gradients' lengths, measured once in each reported epoch."
    return Section("Loss terms", [Text(words), *blocks], "three")


def _terms(rows: Sequence[Mapping[str, float]], prefix: str, title: str, what: str) -> list[Block]:
    terms = {
        name.removeprefix(prefix): [
            (float(row["epoch"]), float(row[name])) for row in rows if row.get(name) is not None
        ]
        for name in sorted({name for row in rows for name in row if name.startswith(prefix)})
    }
    if not terms:
        return []
    series = [
        Series(name=name, points=points, role=str(place) if place < _DISTINCT else "near")
        for place, (name, points) in enumerate(terms.items())
    ]
    last = ", ".join(f"{name} {points[-1][1]:.3g}" for name, points in terms.items())
    label = f"{title}; after the last epoch: {last}"
    svg = lines_chart(series, "epoch", what, label, zero=True)
    stride = max(1, -(-len(rows) // _MOST_ROWS))
    cells = [[row["epoch"], *(row.get(prefix + name) for name in terms)] for row in rows[::stride]]
    table = Table(caption=what.capitalize(), headers=["epoch", *terms], rows=cells)
    chart: Block = Chart(title=title, svg=svg, text=f"After the last epoch: {last}.", table=table)
    return [chart, *([Text(words, "warning") for words in _small(terms)] if prefix == _SHARE else [])]


def _small(terms: Mapping[str, Sequence[tuple[float, float]]]) -> list[str]:
    """Say which terms hardly push the student."""
    found = []
    for name, points in terms.items():
        most, last = max(share for _, share in points), points[-1][1]
        if most < _SMALL:
            found.append(f"The term {name} never reached 1 % of the gradient (at most {most:.2%}): it hardly acts.")
        elif last < _SMALL:
            found.append(f"The term {name} ended below 1 % of the gradient ({last:.2%}); its most was {most:.0%}.")
    return found


def gram_maps(facts: Facts) -> Section | None:
    """Show the Gram matrices of teacher, student and student before, image by image."""
    if facts.grams is None:
        return None
    number, grams = facts.grams
    words = (
        f"What the cluster term compares, for trial {number}: how alike the cells of an image look to a network. Rows "
        "and columns are cells, dark is alike, rows sum to 1. The three maps of a line share one colour scale. Student "
        "before is the same network with its initial weights."
    )
    count = min(len(matrix) for matrix in grams.teacher.values())
    blocks = [_image(grams, scale, image) for image in range(count) for scale in sorted(grams.teacher)]
    return Section("Gram matrices", [Text(words), *blocks], "four")


def _image(grams: Grams, scale: int, image: int) -> Pictures:
    sides = [(words, getattr(grams, name)) for name, words in _SIDES]
    found = [(words, matrices[scale][image]) for words, matrices in sides if scale in matrices]
    low, high = min(float(m.min()) for _, m in found), max(float(m.max()) for _, m in found)
    pictures = [Picture(caption="image", source=png(grams.images[image]), alt=f"validation image {image + 1}")]
    for words, matrix_MM in found:
        shade = (matrix_MM - low) / max(high - low, 1e-12)
        alt = f"Gram matrix of the {words}, scale {scale}, image {image + 1}"
        pictures.append(Picture(caption=words, source=png(coloured(shade)), alt=alt))
    teacher = found[0][1]
    gaps = "; ".join(f"{words} {float(np.abs(matrix - teacher).mean()):.2g}" for words, matrix in found[1:])
    text = f"Values from {low:.3g} (light) to {high:.3g} (dark). Mean distance to the teacher: {gaps}."
    cells = plural(scale * scale, "cell")
    return Pictures(title=f"Image {image + 1}, scale {scale}, {cells}", text=text, pictures=pictures)


def coloured(shade: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Give [H, W, 3] colours for [H, W] shades in 0 to 1."""
    steps = np.linspace(0.0, 1.0, len(_RAMP))
    channels = [np.interp(shade, steps, _RAMP[:, channel]) for channel in range(3)]
    return np.round(np.stack(channels, axis=-1)).astype(np.uint8)


def png(pixels: np.ndarray[Any, Any]) -> str:
    """Write [H, W, 3] colours in 0 to 255 as a data URI."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
