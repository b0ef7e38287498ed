"""What a sweep found: the finding in words, what was confirmed, the best configurations."""

import math

from icd.config.names import shown_params
from icd.results import sentences
from icd.results.report.blocks import Block, Section, Table, Text
from icd.results.report.differences import arms_blocks, difference_blocks
from icd.results.report.gather import Facts, label_of
from icd.results.report.words import flat_text, measured, plural, unit_of
from icd.search.core.records import TrialRecord

_TOP = 5


def finding(facts: Facts) -> Section:
    """Say what was found and how far it can be trusted."""
    if facts.confirmation is not None:
        found = facts.confirmation
        first = sentences.headline(found)
        blocks: list[Block] = [Text(first or found.statement, "finding")]
        if not found.finished:
            blocks.append(Text("The confirmation is not finished; these are its figures so far.", "warning"))
        blocks += difference_blocks(found.arms, found.comparisons, "points of test top-1", found.alpha)
        blocks += [Text(found.statement)] if first else []
        return Section("Finding", [*blocks, *_curse(facts), *_yardsticks(facts)])
    closed = Text("Test evaluations: 0. The search never opens the test images.")
    return Section("Finding", [*_unconfirmed(facts), closed, *_yardsticks(facts)])


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


def _yardsticks(facts: Facts) -> list[Block]:
    """Say what one value is good for: the error of its images, and what the teacher reaches."""
    blocks: list[Block] = []
    count, best = facts.val_images, facts.best
    if count and best is not None and facts.metrics[0] == "val/top1" and best.rank is None:
        share = best.values[0] / 100
        error = 100 * math.sqrt(max(share * (1 - share), 0.0) / count)
        words = f"One value of {best.values[0]:.2f} % on {count} validation images has a standard error of {error:.2f} "
        blocks.append(Text(f"{words}points from the choice of images alone (binomial).", "note"))
    teachers = facts.attributes.get("teacher_lines", ())
    return [*blocks, *([Text(f"Teacher: {'; '.join(teachers)}.", "note")] if teachers else [])]


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
    """Show what the arms of a confirmation reached."""
    found = facts.confirmation
    if found is None:
        return None
    trained = {"train+val": "training and validation images", "train": "training images"}.get(
        found.train_on, found.train_on
    )
    words = (
        f"Every arm was trained on {trained} with up to {found.planned_seeds} fresh seeds that all arms share. "
        f"Values are {found.metric} after the last epoch. Test evaluations: {found.test_evaluations}."
    )
    return Section("Confirmed configurations", [*arms_blocks(found.arms, found.pairs), Text(words)], "half")


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
    later = facts.confirmation is not None
    table = Table(caption="Best trials", headers=headers, rows=rows, folded=later)
    return Section("Best configurations", [Text(words), table], "half" if later else "two")


def _trial_row(record: TrialRecord) -> list[object]:
    seconds = record.attributes.get("seconds")
    own = {name.removeprefix("method."): value for name, value in shown_params(record.params).items()}
    params = flat_text(own, 4) if own else ""
    epochs = max(record.curve, default=0)
    return [record.number, *record.values, epochs, seconds, f"{record.baseline or ''} {params}".strip()]
