"""The figures of a report: which lines, dots and maps each of them draws, and what it says below."""

import base64
import io
from collections.abc import Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np
from markupsafe import Markup
from PIL import Image, ImageOps

from icd.config.names import shown_params
from icd.results.report.charts import Series, lines_chart, slice_chart
from icd.results.report.gather import Facts
from icd.results.words import flat_text, label_of, measured
from icd.search.core.records import TrialRecord
from icd.text import plural
from icd.worker.gram_file import Grams

_DISTINCT = 5  # curves that can be told apart
_DRAWN = 30  # best trials whose curves are drawn
_FEWEST_SLICED, _MOST_SLICES = 3, 6  # trials, parameters
_SHARE = "train/gradient_share/"
_LIGHT, _MIDDLE, _DARK = "#f7fbf3", "#3f88b4", "#0c163c"  # so that a map also reads in black and white
_SIDES = (("teacher", "teacher"), ("student", "student"), ("before", "student before"))


class Figure(NamedTuple):
    """A drawing, or small pictures with captions to be compared; and what it says in words."""

    title: str
    svg: Markup = Markup("")
    text: str = ""
    pictures: Sequence[tuple[str, str, str]] = ()  # data URI, alternative text, caption


def learning_curves(facts: Facts) -> list[Figure]:
    """Draw the first objective's metric over the epochs, of complete trials before others, and the best so far."""
    sign = -1.0 if facts.maximize else 1.0
    complete = [record for record in facts.complete if record.curve]
    rest = [record for record in facts.records if record.curve and record.state != "complete"]
    rest.sort(key=lambda record: (-max(record.curve), sign * record.curve[max(record.curve)], record.number))
    order = [*complete, *rest]
    if not order:
        return []
    series = [
        Series(
            name=label_of(record),
            points=[(float(epoch), value) for epoch, value in sorted(record.curve.items())],
            role=str(place) if place < _DISTINCT else "near",
        )
        for place, record in enumerate(order[:_DRAWN])
    ]
    most = f"the best {_DRAWN} of {len(order)} trials" if len(order) > _DRAWN else plural(len(order), "trial")
    words = f"{facts.curve_metric} after each epoch of {most}. Named are the best {min(_DISTINCT, len(order))}."
    label = f"Learning curves of {plural(len(series), 'trial')}; best: {label_of(order[0])}"
    svg = lines_chart(series, "epoch", facts.curve_metric, label)
    return [Figure(f"{facts.curve_metric} over the epochs", svg, words), *_history(facts)]


def _history(facts: Facts) -> list[Figure]:
    """Draw each complete trial's value by its number, and the best so far."""
    done = sorted(facts.complete, key=lambda record: record.number)
    if len(done) < _FEWEST_SLICED or any(record.rank is not None for record in done):
        return []
    numbers, values = [float(record.number) for record in done], [record.values[0] for record in done]
    best = [*accumulate(values, max if facts.maximize else min)]
    last = numbers[best.index(best[-1])]
    series = [
        Series(name="one trial", points=[*zip(numbers, values, strict=True)], role="dots"),
        Series(
            name=f"best so far: {measured(facts.metrics[0], best[-1])}",
            points=[*zip(numbers, best, strict=True)],
            role="0",
        ),
    ]
    label = f"Best so far over the trials; last gain at trial {last:.0f}"
    words = f"A dot is one complete trial; the line is the best so far. The last gain came with trial {last:.0f}."
    return [Figure("History", lines_chart(series, "trial", facts.metrics[0], label), words)]


def slices(facts: Facts) -> tuple[list[Figure], int]:
    """Draw the first objective against each parameter, the clearest first; and count those that are left out."""
    complete = [record for record in facts.complete if record.params]
    if len(complete) < _FEWEST_SLICED:
        return [], 0
    names = dict.fromkeys([row.name for row in facts.importance.parameters if row.passes])
    names |= dict.fromkeys(name for record in complete for name in record.params)
    metric = facts.metrics[0]

    def drawn(name: str, own: Sequence[TrialRecord]) -> Figure:
        points = [(shown_params(record.params)[name], record.values[0]) for record in own]
        label = f"{metric} against {name} of {plural(len(own), 'complete trial')}; best: {flat_text(points[0][0])}"
        return Figure(name.removeprefix("method."), slice_chart(points, 0, name, metric, label))

    figures = [drawn(name, [r for r in complete if name in r.params]) for name in list(names)[:_MOST_SLICES]]
    return figures, max(0, len(names) - _MOST_SLICES)


def term_shares(facts: Facts) -> list[Figure]:
    """Draw each loss term's share of the gradient over the epochs, of the best trial and of the best baseline."""
    names, figures = {record.number: record.baseline for record in facts.records}, []
    for number, rows in facts.curves.items():
        terms = {
            name.removeprefix(_SHARE): [(float(r["epoch"]), float(r[name])) for r in rows if r.get(name) is not None]
            for name in sorted({name for row in rows for name in row if name.startswith(_SHARE)})
        }
        if not terms:
            continue
        series = [
            Series(name=name, points=points, role=str(place) if place <= _DISTINCT else "near")
            for place, (name, points) in enumerate(terms.items())
        ]
        last = ", ".join(f"{name} {points[-1][1]:.3g}" for name, points in terms.items())
        title = f"Shares of the gradient, trial {number}" + (f", baseline {names[number]}" if names.get(number) else "")
        svg = lines_chart(series, "epoch", "share", f"{title}; after the last epoch: {last}", zero=True)
        figures.append(Figure(title, svg, f"After the last epoch: {last}."))
    return figures


def gram_maps(grams: Grams) -> list[Figure]:
    """Show the Gram matrices of teacher, student and student before, image by image."""
    count = min(len(matrix) for matrix in grams.teacher.values())
    return [_maps(grams, scale, image) for image in range(count) for scale in sorted(grams.teacher)]


def _maps(grams: Grams, scale: int, image: int) -> Figure:
    sides = [(words, getattr(grams, name)) for name, words in _SIDES]
    found = [(words, matrices[scale][image]) for words, matrices in sides if scale in matrices]
    low, high = min(float(m.min()) for _, m in found), max(float(m.max()) for _, m in found)
    pictures = [(_png(Image.fromarray(grams.images[image])), f"validation image {image + 1}", "image")]
    for words, matrix_MM in found:
        alt = f"Gram matrix of the {words}, scale {scale}, image {image + 1}"
        pictures.append((_png(coloured((matrix_MM - low) / max(high - low, 1e-12))), alt, words))
    teacher = found[0][1]
    gaps = "; ".join(f"{words} {float(np.abs(matrix - teacher).mean()):.2g}" for words, matrix in found[1:])
    text = f"Values from {low:.3g} (light) to {high:.3g} (dark). Mean distance to the teacher: {gaps}."
    title = f"Image {image + 1}, scale {scale}, {plural(scale * scale, 'cell')}"
    return Figure(title, text=text, pictures=pictures)


def coloured(shade: np.ndarray[Any, Any]) -> Image.Image:
    """Give colours for [H, W] shades in 0 to 1, from light to dark."""
    grey = Image.fromarray(np.round(255 * shade).astype(np.uint8))
    return ImageOps.colorize(grey, _LIGHT, _DARK, _MIDDLE)


def _png(picture: Image.Image) -> str:
    """Write a picture as a data URI."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
