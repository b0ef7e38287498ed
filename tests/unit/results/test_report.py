"""The report: what is gathered, what is said, and that the page is one safe file."""

import json
import math
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from icd.results.importance import Importance, Parameter
from icd.results.report import page_of, write_report
from icd.results.report.figures import coloured
from icd.results.report.gather import Facts, gather
from icd.search.core.dead_terms import DeadTerm
from icd.search.core.records import TrialRecord
from icd.worker.gram_file import GRAMS_NAME, pack_grams, read_grams, thumbnails
from tests.ablating import ablated, study_at
from tests.pages import drawings, sections, table, titles, words
from tests.reports import confirmation, grams, rich
from tests.studies import DOCUMENT, EPOCHS, Study, changed, usual

VOID = {"meta", "link", "img", "br"}


class Outline(HTMLParser):
    """Checks nesting, and notes headings, links and what would be fetched."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.headings: list[int] = []
        self.addresses: list[str] = []
        self.ids: set[str] = set()
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        self.addresses += [str(given[name]) for name in ("src", "href", "action", "data") if name in given]
        self.ids |= {str(given["id"])} if "id" in given else set()
        if tag == "img":
            assert given["alt"]
        if tag == "svg":
            assert given["role"] == "img"
            assert given["aria-label"]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    rich(folder, 30)
    return folder


@pytest.fixture(scope="module")
def facts(root: Path) -> Facts:
    return gather(root, "rich")


@pytest.fixture(scope="module")
def page(facts: Facts) -> str:
    return page_of(facts)


def test_gathering_reads_study_and_folders(facts: Facts) -> None:
    assert facts.best == facts.complete[0] == max(facts.complete, key=lambda record: record.values[0])
    assert set(facts.curves) == {facts.complete[0].number, 0}
    assert facts.grams is not None
    assert facts.grams[0] == facts.complete[0].number
    assert facts.audit is not None
    assert facts.confirmation is None
    assert facts.ablation is None


def test_the_page_is_one_file_in_order(page: str) -> None:
    text = page
    outline = Outline(text)
    assert outline.headings[0] == 1
    assert outline.headings.count(1) == 1
    assert all(later - earlier <= 1 for earlier, later in zip(outline.headings, outline.headings[1:], strict=False))
    assert "script" not in outline.tags
    for address in outline.addresses:
        assert address.startswith(("data:", "#")), address
        assert not address.startswith("#") or address[1:] in outline.ids
    assert "; finished: its budget is used. Written " in text
    assert "@import" not in text
    assert "url(" not in text
    assert len(text) < 500_000
    headings = [*sections(page)]
    expected = ["Finding", "Best configurations", "Parameters", "Curves", "Gram matrices"]
    assert headings == [*expected, "What was searched", "Budget and cost", "Rung audit", "Provenance", "Failures"]


def test_every_word_is_escaped(facts: Facts) -> None:
    evil = '"><script>alert(1)</script>'
    records = [replace(record, reason=evil, baseline=evil, params={evil: evil}) for record in facts.records]
    told = replace(facts, name=evil, records=records)
    arms = confirmation()
    compared = (replace(arms.comparisons[0], arm=evil, against=evil),)
    told = replace(
        told,
        confirmation=replace(arms, statement=evil, arms=(replace(arms.arms[0], label=evil),), comparisons=compared),
    )
    text = page_of(told)
    assert "script" not in Outline(text).tags
    assert "&lt;script&gt;" in text
    assert "<script" not in text


def test_an_unconfirmed_finding_says_so(page: str) -> None:
    said = words(sections(page)["Finding"])
    assert said.startswith("Not confirmed: best of 22 single-seed trials on validation images is trial ")
    assert "to learn by how much" in said
    assert "best baseline is KD" in said
    assert "points behind, one seed each." in said
    assert "Test evaluations: 0." in said


def test_a_confirmation_comes_first_with_its_intervals_and_test_evaluations(facts: Facts) -> None:
    found = confirmation(finished=False)
    parts = sections(page_of(replace(facts, confirmation=found)))
    assert [*parts][:2] == ["Finding", "Confirmed configurations"]
    first, second = parts["Finding"], parts["Confirmed configurations"]
    said = words(first)
    assert said.startswith(
        "Trial 7 is better than KD; no difference between it and iCD-KD was shown. The confirmation is not finished"
    )
    assert found.statement in said
    assert "all intervals hold the truth together in 95%." in said
    assert first.index("<svg") < first.index("<table") < first.index(found.statement)
    differences = table(first, "Differences")
    assert differences[0] == ["configuration", "difference", "interval", "verdict", "seeds"]
    assert differences[1] == ["trial 7 against KD", "+1.42", "+0.82 to +2.02", "better", "4"]
    (svg,) = drawings(first)
    assert svg.count("<polygon") == 2, "the two that are shown"
    assert svg.count('class="mark s1"') == 4 * 4, "a dot for each seed"
    assert [row[1] for row in table(second, "Arms")[1:]] == [
        "74.10 ± 0.21",
        "73.70 ± 0.21",
        "72.70 ± 0.21",
        "73.80 ± 0.21",
    ]
    assert "Test evaluations: 16." in words(second)


def test_curves_of_all_trials_are_drawn_and_the_best_named(facts: Facts, page: str) -> None:
    part = sections(page)["Curves"]
    curves, history, *_ = drawings(part)
    assert f"best so far: {facts.complete[0].values[0]:.2f} %" in history
    assert curves.count('class="line near"') == 23
    assert f"trial {facts.complete[0].number} " in curves
    assert "val/top1 after each epoch of 28 trials. Named are the best 5." in words(part)


def test_of_many_trials_the_best_are_drawn_and_the_page_stays_small(facts: Facts) -> None:
    many = [
        TrialRecord(
            number=number,
            state="complete",
            values=(50 + number % 97 / 10,),
            params={"base_loss": "kd", "cluster_weight": number / 7},
            curve={epoch: 50 + number % 97 / 10 - 30 / epoch for epoch in range(1, 241)},
            key=str(number),
            attributes={"seconds": 100.0 + number, "parameters": 1000 + number % 3},
        )
        for number in range(1000)
    ]
    text = page_of(replace(facts, records=many, importance=Importance(trials=0)))
    assert "val/top1 after each epoch of the best 30 of 1000 trials." in text
    assert len(text) < 2_000_000


def test_one_value_has_its_error_and_the_teacher_its_accuracy(facts: Facts) -> None:
    noted = {
        "data": "digits100: 4000 training and 800 validation images",
        "teacher_lines": ["resnet8-9f, val top-1 83 %"],
    }
    told = replace(facts, attributes={**facts.attributes, **noted})
    share = facts.complete[0].values[0] / 100
    said = words(sections(page_of(told))["Finding"])
    assert (
        f"800 validation images has a standard error of {100 * math.sqrt(share * (1 - share) / 800):.2f} points" in said
    )
    assert "Teacher: resnet8-9f, val top-1 83 %." in said


def test_each_parameter_has_its_slice_and_only_clear_ones_are_called_important(facts: Facts) -> None:
    def shown(*rows: Parameter) -> list[str]:
        page = page_of(replace(facts, importance=Importance(trials=40, parameters=rows)))
        return [*(row[0] for row in importances(page)), *titles(sections(page)["Parameters"])]

    def importances(page: str) -> list[list[str]]:
        part = sections(page)["Parameters"]
        return table(part, "Importance")[1:] if ">Importance</caption>" in part else []

    clear = Parameter(name="method.cluster_temperature", trials=40, share=0.4, p=0.01)
    chance = Parameter(name="method.scales", trials=40, share=0.1, p=0.3)
    assert shown(clear, chance)[:3] == ["method.cluster_temperature", "cluster_temperature", "base_loss"]
    assert shown(chance)[0] == "base_loss"


def test_a_page_leads_to_the_runs(facts: Facts, page: str) -> None:
    assert "All runs in MLflow, and its compare page: <code>icd ui rich" in page
    served = page_of(replace(facts, leaderboard="https://mlflow.example/#/experiments?searchFilter=rich"))
    assert '<a href="https://mlflow.example/#/experiments?searchFilter=rich">All runs in MLflow' in served


def test_terms_that_do_nothing_are_named_once(facts: Facts, page: str) -> None:
    assert titles(sections(page)["Curves"])[2:] == [
        f"Shares of the gradient, trial {facts.complete[0].number}",
        "Shares of the gradient, trial 0, baseline KD",
    ]
    dead = DeadTerm(term="cluster", share=0.004, epoch=9, weight="cluster_weight", value=2.0).to_data()
    records = [replace(r, attributes={**r.attributes, "dead_terms": [dead]}) for r in facts.records]
    said = words(sections(page_of(replace(facts, records=records)))["Curves"])
    assert said.count("cluster term, 30 of 28 trials: 0.4 % of the gradient at cluster_weight 2: it could as well") == 1


def test_the_front_of_several_objectives_is_listed(tmp_path: Path) -> None:
    two_objectives(tmp_path)
    rows = table(sections(page_of(gather(tmp_path, "two")))["Accuracy against cost"], "The front")
    assert [row[:3] for row in rows[1:]] == [[str(n), str(10 + n), str(5 + n)] for n in (3, 2, 1, 0)]


def test_failures_are_grouped_by_reason(page: str) -> None:
    rows = table(sections(page)["Failures"], "Failures by reason")
    assert rows[1:] == [["out of memory on <script>alert(1)</script>", "memory", "2", "12, 25"]]


def test_survivors_understate_what_a_rung_foretells(page: str) -> None:
    assert "so the shares are too low" in words(sections(page)["Rung audit"])


def test_the_recipe_exports_what_there_is(facts: Facts) -> None:
    def recipe(facts: Facts) -> str:
        return words(sections(page_of(facts))["Provenance"])

    root = facts.root_option
    assert root.startswith(" --root /")
    facts = replace(facts, root_option="")
    assert "icd export rich -o best.yaml --unconfirmed icd train best.yaml rich.yaml" in recipe(facts)
    assert "--unconfirmed" in recipe(replace(facts, confirmation=confirmation(finished=False)))
    assert "icd export rich -o best.yaml icd train best.yaml --test" in recipe(
        replace(facts, confirmation=confirmation())
    )
    pairs = replace(facts, sweep={**facts.sweep, "pairs": ["small", "large"], "rank": "mean"})
    assert "icd export rich -o best --unconfirmed icd train best/PAIR/best.yaml" in recipe(pairs)


def test_the_recipe_of_several_objectives_says_which_trial(tmp_path: Path) -> None:
    two_objectives(tmp_path)
    facts = replace(gather(tmp_path, "two"), root_option="")
    assert "icd export two -o best.yaml --trial 3 --unconfirmed icd train" in words(
        sections(page_of(facts))["Provenance"]
    )


def test_grams_are_kept_as_they_are(tmp_path: Path) -> None:
    made = grams()
    (tmp_path / GRAMS_NAME).write_bytes(pack_grams(made))
    found = read_grams(tmp_path / GRAMS_NAME)
    assert found is not None
    for side in ("teacher", "student", "before"):
        for scale in (2, 4):
            assert (getattr(found, side)[scale] == getattr(made, side)[scale]).all()
    assert (found.images == made.images).all()
    (tmp_path / GRAMS_NAME).write_bytes(pack_grams(made)[:200])
    assert read_grams(tmp_path / GRAMS_NAME) is None
    assert read_grams(tmp_path / "none.npz") is None


def test_pictures_are_small_and_stretched() -> None:
    pixels = thumbnails(grams(1).images.transpose(0, 3, 1, 2).astype("float32").repeat(7, 2).repeat(7, 3) / 9 - 3)
    assert pixels.shape == (1, 45, 45, 3)
    assert (pixels.min(), pixels.max()) == (0, 255)


def test_shades_run_from_light_to_dark() -> None:
    import numpy as np

    brightness = np.asarray(coloured(np.linspace(0, 1, 64)[None])).astype(float) @ [0.3, 0.6, 0.1]
    assert (np.diff(brightness[0]) < 0).all()


@pytest.mark.parametrize(
    "make",
    [
        lambda root: Study(root),
        lambda root: usual(root),
        lambda root: all_failed(root),
        lambda root: two_objectives(root),
        lambda root: minimised(root),
    ],
    ids=["no trial", "one of each", "all failed", "two objectives", "minimise"],
)
def test_any_sweep_has_a_report(make: Callable[[Path], Study], tmp_path: Path) -> None:
    study = make(tmp_path)
    output = tmp_path / "below" / "report.html"
    for _ in range(2):  # a report may be replaced
        write_report(tmp_path, study.ledger.name, output)
    text = output.read_text()
    Outline(text)
    assert list(output.parent.iterdir()) == [output]
    said = words(sections(text)["Finding"])
    expected = {
        "by-hand": "best of 2 single-seed trials on validation images is trial 1"
        if study.ledger.records()
        else "no trial has run all its epochs",
        "failed": "all 3 trials failed",
        "two": "There are 2 objectives",
        "minimised": "is trial 1 with val/loss 2",
    }
    assert expected[study.ledger.name] in said


def test_costs_are_written_out_and_a_trial_that_never_began_has_no_device(tmp_path: Path) -> None:
    study = Study(tmp_path, changed(objective={"metric": "cost/parameters"}, pruner=None))
    for value in (285812.0, 85812.0):
        study.trial("complete", [5.0], values=[value], baseline=value > 1e5, device="x86 CPU")
    study.trial("failed", device="")
    said = words(page_of(gather(tmp_path, "by-hand")))
    assert "with cost/parameters 285812, 200000 behind, one seed each" in said
    assert "Trained on x86 CPU." in said
    assert "looks better than it is" not in said, "the number of weights has no noise"


def test_over_several_pairs_the_best_trials_show_what_they_are_sorted_by(tmp_path: Path) -> None:
    pairs = [{"name": name, "teacher": DOCUMENT["teacher"], "student": name} for name in ("resnet8", "resnet14")]
    parts = {"teacher": None, "student": None, "pruner": None, "objective": "val/loss"}
    study = Study(tmp_path, changed(pairs=pairs, **parts))
    for one, other in ((1.0, 2.0), (0.9, 2.5), (1.5, 1.0), (0.8, 1.9)):
        number, members = study.ledger.ask(study.space.suggest), {"resnet8": one, "resnet14": other}
        study.ledger.tell(number, "complete", [(one + other) / 2], exit_reason="complete", members=members)
    page = page_of(gather(tmp_path, "by-hand"))
    assert "Best by mean rank over the pairs of 4 complete trials" in words(page)
    headers, best, *_ = table(page, "Best trials")
    assert headers == ["trial", "val/loss", "rank", "resnet8", "resnet14", "epochs", "seconds", "configuration"]
    assert best[:5] == ["3", "1.35", "1.5", "0.8", "1.9"]


def all_failed(root: Path) -> Study:
    study = Study(root, changed(name="failed"))
    for _ in range(3):
        study.trial("failed", reason="no space", exit_reason="disk")
    return study


def two_objectives(root: Path) -> Study:
    parts = {"objective": [{"metric": "val/top1"}, {"metric": "cost/seconds"}], "pruner": None}
    study = Study(root, changed(name="two", **parts))
    for number in range(4):
        study.trial("complete", [10.0 + number] * EPOCHS, values=[10.0 + number, 5.0 + number])
    return study


def minimised(root: Path) -> Study:
    study = Study(root, changed(name="minimised", objective={"metric": "val/loss"}))
    for value in (3.0, 2.0, 4.0):
        study.trial("complete", [5.0, 4.5, 4.2, value])
    return study


def test_what_each_part_is_worth(tmp_path: Path) -> None:
    study = study_at(tmp_path)
    ablated(study, {"without scale 1": (60.3, 60.4, 62.4), "cluster weight 0": (59.4, 60.5, 61.6)})
    page = page_of(gather(tmp_path, "by-hand"))
    assert [*sections(page)][1] == "What each part is worth"
    part = sections(page)["What each part is worth"]
    said, rows = words(part), table(part, "Differences")
    assert said.startswith("Trial 1 reaches 61.00 % on validation images.")
    assert [row[0] for row in rows[-2:]] == ["cluster weight 0 against whole", "without scale 1 against whole"]
    assert rows[-1][1] == "+0.03"
    arms = {row[0]: row for row in table(part, "Arms")}
    assert arms["without scale 1"][3] == "2", "its parts"
    assert arms["whole"][2] == "3", "its seeds"
    assert "The simplest within one standard error of the best: " in said
    assert "test images stayed closed" in said
    Outline(page)


def test_a_report_needs_no_framework(tmp_path: Path) -> None:
    ablated(study_at(tmp_path))
    code = (
        "import sys, json; from pathlib import Path; from icd.results.report import write_report\n"
        f"write_report(Path({str(tmp_path)!r}), 'by-hand', Path({str(tmp_path / 'out.html')!r}))\n"
        "sys.stdout.write(json.dumps([m for m in ('torch', 'ray', 'mlflow', 'matplotlib') if m in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []
    assert done.stderr == ""
