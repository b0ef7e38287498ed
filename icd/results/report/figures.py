"""The figures of a report: which lines, dots and maps each of them draws, and what it says below."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup

from icd.results.outcome import Outcome
from icd.results.report.charts import Series, Span, bars_chart, lines_chart, slice_chart, spans_chart
from icd.results.report.gather import Facts, label_of
from icd.results.words import flat_text, measured
from icd.search.core.records import TrialRecord
from icd.text import plural
from icd.worker.gram_file import Grams

_DISTINCT = 5  # curves that can be told apart
_NEAR = 30  # best trials that are all drawn
_FAR = 120  # of the others
_FEWEST_SLICED, _MOST_SLICES = 3, 6  # trials, parameters
_MOST_ROWS = 50  # of a table behind a chart
_SHARE, _COSINE = "train/gradient_share/", "train/gradient_cosine/"
_SMALL = 0.01
# From light to dark, so that it also reads in black and white; red, green and blue at equal steps.
_RAMP = np.array([[247, 251, 243], [190, 222, 212], [112, 176, 196], [47, 118, 171], [25, 62, 122], [12, 22, 60]])
_SIDES = (("teacher", "teacher"), ("student", "student"), ("before", "student before"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """A drawing with what it says in words, and its numbers, unless they stand beside it."""

    title: str
    svg: Markup
    text: str = ""
    headers: Sequence[str] = ()
    rows: Sequence[Sequence[object]] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A small picture as a data URI."""

    caption: str
    source: str
    alt: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Pictures:
    """Pictures beside each other, to be compared."""

    title: str
    text: str
    pictures: Sequence[Picture]


@dataclass(frozen=True, slots=True, kw_only=True)
class Slices:
    """A chart for each parameter but those left out, and the importance of those that pass; None where none does."""

    charts: Sequence[Chart]
    importance: Chart | None
    left_out: int


def difference_chart(found: Outcome, unit: str) -> Chart:
    """Draw each difference with its interval and a dot for each seed."""
    runs = {arm.label: {run.seed: run.value for run in arm.runs} for arm in found.arms}
    spans = [
        Span(
            name=f"{item.arm} against {item.against}",
            mean=item.difference,
            low=item.low,
            high=item.high,
            sure=item.shown,
            dots=[
                value - runs[item.against][seed] for seed, value in runs[item.arm].items() if seed in runs[item.against]
            ],
        )
        for item in found.ordered
        if item.difference is not None
    ]
    words = (
        f"A dot is one seed, the mark the difference, the line its interval; all intervals hold the truth together in "
        f"{1 - found.alpha:.0%}. A filled diamond is a shown difference: its interval leaves out 0, the dashed line."
    )
    label = "; ".join(f"{span.name} {span.mean:+.2f}" for span in spans)
    return Chart(title="Differences", svg=spans_chart(spans, unit, label), text=words)


def learning_curves(facts: Facts) -> list[Chart]:
    """Draw the first objective's metric over the epochs."""
    sign = -1.0 if facts.maximize else 1.0
    seen = [record for record in facts.records if record.curve]
    if not seen:
        return []
    complete = [record for record in facts.complete if record.curve]
    done = {record.number for record in complete}
    rest = [record for record in seen if record.number not in done]
    rest.sort(key=lambda record: (-max(record.curve), sign * record.curve[max(record.curve)], record.number))
    order = [*complete, *rest]
    others = order[_NEAR:]
    sampled = others[:: -(-len(others) // _FAR)] if others else []
    series = [_curve(record, str(place)) for place, record in enumerate(order[:_DISTINCT])]
    series += [_curve(record, "near") for record in order[_DISTINCT:_NEAR]] + [
        _curve(record, "far") for record in sampled
    ]
    words = f"{facts.curve_metric} after each epoch. Named are the best {min(_DISTINCT, len(order))}"
    words += f" of {len(order)} trials" if len(order) > _DISTINCT else ""
    if len(others) > len(sampled):
        words += f"; the best {_NEAR} are all drawn, and {len(sampled)} of the other {len(others)} as a sample"
    label = f"Learning curves of {plural(len(series), 'trial')}; best: {label_of(order[0])}"
    svg = lines_chart(series, "epoch", facts.curve_metric, label)
    rows = [[r.number, r.state, max(r.curve), r.curve[max(r.curve)], label_of(r)] for r in order[:_MOST_ROWS]]
    heads, title = ["trial", "state", "epochs", "last", "what"], f"{facts.curve_metric} over the epochs"
    curves = Chart(title=title, svg=svg, text=f"{words}.", headers=heads, rows=rows)
    past = history(facts)
    return [curves, *([past] if past else [])]


def _curve(record: TrialRecord, role: str) -> Series:
    points = sorted((float(epoch), value) for epoch, value in record.curve.items())
    return Series(name=f"{label_of(record)}: {points[-1][1]:.4g}", points=points, role=role)


def slices(facts: Facts) -> Slices | None:
    """Draw the first objective against each parameter, the clearest first."""
    complete = [record for record in facts.complete if record.params]
    if len(complete) < _FEWEST_SLICED:
        return None
    names = dict.fromkeys([row.name for row in facts.importance.parameters if row.passes])
    names |= dict.fromkeys(name for record in complete for name in record.params)
    metric, charts = facts.metrics[0], []
    for name in list(names)[:_MOST_SLICES]:
        own = [record for record in complete if name in record.params]
        points = [(record.params[name], record.values[0]) for record in own]
        label = f"{metric} against {name} of {plural(len(own), 'complete trial')}; best: {flat_text(points[0][0])}"
        svg = slice_chart(points, 0, name, metric, label)
        charts.append(Chart(title=name.removeprefix("method."), svg=svg))
    return Slices(charts=charts, importance=_importance(facts), left_out=max(0, len(names) - _MOST_SLICES))


def _importance(facts: Facts) -> Chart | None:
    """Draw the parameters that pass."""
    clear = {
        f"{row.name}{f' ({row.condition})' if row.condition else ''}": row.share or 0.0
        for row in facts.importance.parameters
        if row.passes
    }
    if not clear:
        return None
    label = "Importance: " + ", ".join(f"{name} {share:.0%}" for name, share in clear.items())
    words = (
        "Share of the trials' ranks that a parameter explains by itself. Shown are those that pass: in a search "
        "without effects, any would in one of twenty. One that is not shown may matter too."
    )
    return Chart(title="Importance", svg=bars_chart(clear, label), text=words)


def history(facts: Facts) -> Chart | None:
    """Draw each complete trial's value by its number, and the best so far."""
    done = sorted(facts.complete, key=lambda record: record.number)
    if len(done) < _FEWEST_SLICED or any(record.rank is not None for record in done):
        return None
    choose, best, steps = (max if facts.maximize else min), done[0].values[0], []
    for record in done:
        best = choose(best, record.values[0])
        steps.append((float(record.number), best))
    points = [(float(record.number), record.values[0]) for record in done]
    series = [
        Series(name="one trial", points=points, role="dots"),
        Series(name=f"best so far: {measured(facts.metrics[0], best)}", points=steps, role="0"),
    ]
    last = next(number for number, value in steps if value == best)
    label = f"Best so far over the trials; last gain at trial {last:.0f}"
    words = f"A dot is one complete trial; the line is the best so far. The last gain came with trial {last:.0f}."
    return Chart(title="History", svg=lines_chart(series, "trial", facts.metrics[0], label), text=words)


def term_charts(facts: Facts) -> list[Chart]:
    """Draw each loss term's share of the gradient over the epochs, and the angles between their gradients."""
    names, charts = {record.number: record.baseline for record in facts.records}, []
    for number, rows in facts.curves.items():
        trial = f"trial {number}" + (f", baseline {names[number]}" if names.get(number) else "")
        for prefix, what, axis in (
            (_SHARE, "Shares of the gradient", "share"),
            (_COSINE, "Angles between gradients", "cosine"),
        ):
            terms = _terms(rows, prefix)
            if not terms:
                continue
            series = [
                Series(name=name, points=points, role=str(place) if place <= _DISTINCT else "near")
                for place, (name, points) in enumerate(terms.items())
            ]
            last = ", ".join(f"{name} {points[-1][1]:.3g}" for name, points in terms.items())
            title = f"{what}, {trial}"
            svg = lines_chart(series, "epoch", axis, f"{title}; after the last epoch: {last}", zero=True)
            stride = max(1, -(-len(rows) // _MOST_ROWS))
            cells = [[row["epoch"], *(row.get(prefix + name) for name in terms)] for row in rows[::stride]]
            said = f"After the last epoch: {last}."
            charts.append(Chart(title=title, svg=svg, text=said, headers=["epoch", *terms], rows=cells))
    return charts


def _terms(rows: Sequence[Mapping[str, float]], prefix: str) -> dict[str, list[tuple[float, float]]]:
    """Give epoch and value of every term that was measured."""
    names = sorted({name for row in rows for name in row if name.startswith(prefix)})
    return {
        name.removeprefix(prefix): [(float(r["epoch"]), float(r[name])) for r in rows if r.get(name) is not None]
        for name in names
    }


def small_terms(facts: Facts) -> list[str]:
    """Say which terms hardly push the student."""
    found: dict[str, None] = {}
    for rows in facts.curves.values():
        for name, points in _terms(rows, _SHARE).items():
            most, last = max(share for _, share in points), points[-1][1]
            if most < _SMALL:
                found[f"The term {name} never reached 1 % of the gradient (at most {most:.2%}): it hardly acts."] = None
            elif last < _SMALL:
                found[f"The term {name} ended below 1 % of the gradient ({last:.2%}); its most was {most:.0%}."] = None
    return [*found]


def gram_maps(grams: Grams) -> list[Pictures]:
    """Show the Gram matrices of teacher, student and student before, image by image."""
    count = min(len(matrix) for matrix in grams.teacher.values())
    return [_maps(grams, scale, image) for image in range(count) for scale in sorted(grams.teacher)]


def _maps(grams: Grams, scale: int, image: int) -> Pictures:
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
