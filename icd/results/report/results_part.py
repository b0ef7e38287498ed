"""What a sweep found: the finding in words, what was confirmed, the best configurations."""

from icd.results.confirmation import Arm, Confirmation, Versus, VersusOnPair
from icd.results.report.blocks import Block, Chart, Section, Table, Text
from icd.results.report.charts import Span, spans_chart
from icd.results.report.gather import Facts, label_of
from icd.results.report.words import flat_text, measured, plural, unit_of
from icd.search.record import TrialRecord

_TOP = 10


def finding(facts: Facts) -> Section:
    """Say what was found and how far it can be trusted."""
    if facts.confirmation is not None:
        found = facts.confirmation
        blocks: list[Block] = [Text(found.statement, "finding")]
        if not found.finished:
            blocks.append(Text("The confirmation is not finished; these are its figures so far.", "warning"))
        looks = f"Test images were evaluated {found.looks} times, over all runs of the confirmation."
        return Section("Finding", [*blocks, Text(looks), *_curse(facts)])
    return Section("Finding", [*_unconfirmed(facts), Text("Looks at test data: 0. The search never opens them.")])


def _unconfirmed(facts: Facts) -> list[Block]:
    best, metric = facts.best, facts.metrics[0]
    if best is None:
        failed = facts.counts["failed"]
        if failed and failed == len(facts.records):
            return [Text(f"Nothing was found: all {plural(failed, 'trial')} failed. See Failures.", "finding")]
        return [Text("Nothing was found yet: no trial has run all its epochs.", "finding")]
    number = len(facts.complete)
    said = (
        f"Not confirmed: best of {plural(number, 'single-seed trial')} on validation images is "
        f"{label_of(best)} with {_reached(best, metric)}."
    )
    many = "The best of several noisy values is better than it would be again"
    unknown = "; by how much is not known before it is trained again on fresh seeds"
    words = Text(f"{many}{'' if facts.overstatement else unknown}.", "warning")
    blocks: list[Block] = [Text(said, "finding"), words, *_curse(facts)]
    baseline = next((record for record in facts.complete if record.baseline), None)
    if baseline is not None and baseline.number != best.number and best.rank is not None:
        reached = _reached(baseline, metric)
        blocks.append(Text(f"The best baseline is {baseline.baseline} with {reached}, one seed each."))
    elif baseline is not None and baseline.number != best.number:
        gap = abs(best.values[0] - baseline.values[0])
        blocks.append(
            Text(
                f"The best baseline is {baseline.baseline} with {measured(metric, baseline.values[0])}, "
                f"{gap:.2g} {unit_of(metric)} behind, one seed each."
            )
        )
    elif baseline is not None:
        blocks.append(Text(f"That is the baseline {baseline.baseline}: the search found nothing better."))
    if len(facts.metrics) > 1:
        blocks.append(Text(f"There are {len(facts.metrics)} objectives; see Accuracy against cost for the front."))
    return blocks


def _reached(record: TrialRecord, metric: str) -> str:
    """Write a trial's value; of several pairs its rank and the value of each."""
    if record.rank is None:
        return f"{metric} {measured(metric, record.values[0])}"
    each = ", ".join(f"{pair} {measured(metric, value)}" for pair, value in record.members.items())
    return f"rank {record.rank:.4g} over the pairs ({metric}: {each})"


def _curse(facts: Facts) -> list[Text]:
    """Say what the best trial's score in the search holds of luck, where the spread over seeds was measured."""
    found = facts.overstatement
    if found is None:
        return []
    spread = f"{found.sd:.2f} points, of {found.source}, {plural(found.seeds, 'seed')}"
    words = (
        f"If all {plural(found.trials, 'complete trial')} of the search were equally good, the best score would be too "
        f"high by about {found.points:.2g} points on average (standard deviation over seeds {spread}). Where they "
        "differ, it is less."
    )
    return [Text(words, "note")]


def confirmed(facts: Facts) -> Section | None:
    """Show the arms of a confirmation and their differences, with intervals."""
    found = facts.confirmation
    if found is None:
        return None
    blocks: list[Block] = [_arms_table(found)]
    if found.versus:
        spans = [
            Span(
                name=f"{item.finalist} against {item.baseline}",
                mean=item.mean,
                low=item.low,
                high=item.high,
                sure=item.verdict in ("better", "worse"),
            )
            for item in found.versus
            if item.low is not None and item.high is not None
        ]
        if spans:
            blocks.append(_spans_chart(spans, found.versus[0].level))
        blocks.append(_versus_table(found))
    blocks += _pair_blocks(found)
    trained = {"train+val": "training and validation images", "train": "training images"}.get(
        found.train_on, found.train_on
    )
    blocks.append(
        Text(
            f"Every arm was trained on {trained} with up to {found.planned_seeds} fresh seeds that all arms share. "
            f"Values are {found.metric} after the last epoch. "
            f"Test images were looked at {found.looks} times."
        )
    )
    failures = [[arm.label, seed, reason] for arm in found.arms for seed, reason in arm.failures.items()]
    if failures:
        blocks.append(Table(caption="Runs that failed", headers=["arm", "seed", "reason"], rows=failures))
    return Section("Confirmed configurations", blocks)


def _spans_chart(spans: list[Span], level: float) -> Chart:
    words = (
        f"Difference of each finalist to each baseline, paired by seed, with its {level:.0%} interval. Filled diamonds "
        "are settled after Holm's correction; the dashed line is no difference."
    )
    label = "; ".join(f"{s.name} {s.mean:+.2f} [{s.low:+.2f}, {s.high:+.2f}]" for s in spans)
    svg = spans_chart(spans, "points of test top-1", label)
    return Chart(title="Finalists against baselines", svg=svg, text=words)


def _arms_table(found: Confirmation) -> Table:
    rows = [_arm_row(arm) for arm in found.arms]
    headers = ["arm", "kind", "mean ± sd", "n", "search (val)", "looks"]
    return Table(caption="Arms", headers=headers, rows=rows)


def _arm_row(arm: Arm) -> list[object]:
    mean = "-" if arm.mean is None else f"{arm.mean:.2f}" + _spread(arm.sd)
    return [arm.label, arm.kind, mean, len(arm.runs), arm.search_value, sum(run.looks for run in arm.runs)]


def _versus_table(found: Confirmation) -> Table:
    headers = ["finalist", "baseline", "difference", "interval", "n", "p (t)", "p (Wilcoxon)", "p (Holm)", "verdict"]
    headers += ["search said", "confirmation says", "shrinkage"]
    return Table(caption="Differences", headers=headers, rows=[_versus_row(item) for item in found.versus])


def _versus_row(item: Versus) -> list[object]:
    said = "-" if item.search_said is None else f"{item.search_said:+.2f}"
    shrunk = "-" if item.shrinkage is None else f"{item.shrinkage:+.2f}"
    interval = _interval(item) + ("" if item.low is None else f" ({item.level:.0%})")
    tests = [item.p_t, item.p_wilcoxon, item.p_holm]
    start = [item.finalist, item.baseline, f"{item.mean:+.2f}", interval, len(item.seeds), *tests]
    return [*start, item.verdict, said, f"{item.mean:+.2f}", shrunk]


def _pair_blocks(found: Confirmation) -> list[Block]:
    """Show what each of several pairs shows by itself."""
    if not found.pairs:
        return []
    words = (
        "Values and differences above are means over the pairs, seed by seed, and so are the tests. Below each pair "
        "stands by itself; its intervals and p-values are corrected for nothing."
    )
    arms: list[list[object]] = []
    for place, arm in enumerate(found.arms):
        each = [pair.arms[place] for pair in found.pairs]
        shown = ["-" if own.mean is None else f"{own.mean:.2f}" + _spread(own.sd) for own in each]
        arms.append([arm.label, *shown, arm.mean_rank, arm.worst_rank])
    headers = ["arm", *(pair.name for pair in found.pairs), "mean rank", "worst rank"]
    rows: list[list[object]] = [
        [pair.name, item.finalist, item.baseline, f"{item.mean:+.2f}", _interval(item), item.seeds, item.p_t]
        for pair in found.pairs
        for item in pair.versus
    ]
    heads = ["pair", "finalist", "baseline", "difference", "interval", "n", "p (t), not corrected"]
    tables = [
        Table(caption="Arms on each pair, mean ± sd", headers=headers, rows=arms),
        Table(caption="Differences on each pair", headers=heads, rows=rows),
    ]
    return [Text(words), *tables]


def _spread(sd: float | None) -> str:
    return "" if sd is None else f" ± {sd:.2f}"


def _interval(item: Versus | VersusOnPair) -> str:
    return "-" if item.low is None or item.high is None else f"{item.low:+.2f} to {item.high:+.2f}"


def best_configurations(facts: Facts) -> Section | None:
    """List the best trials and the baselines."""
    complete = facts.complete
    if not complete:
        return None
    shown = complete[:_TOP] + [record for record in complete[_TOP:] if record.baseline]
    headers = ["trial", *facts.metrics, "epochs", "seconds", "configuration"]
    rows = [_trial_row(record) for record in shown]
    words = f"One seed each, on validation images. Best by {facts.metrics[0]} of {len(complete)} complete trials"
    words += ", and the baselines below." if len(shown) > _TOP else ", baselines among them."
    return Section("Best configurations", [Text(words), Table(caption="Best trials", headers=headers, rows=rows)])


def _trial_row(record: TrialRecord) -> list[object]:
    seconds = record.attributes.get("seconds")
    params = flat_text(record.params, 4) if record.params else ""
    epochs = max(record.curve, default=0)
    return [record.number, *record.values, epochs, seconds, f"{record.baseline or ''} {params}".strip()]
