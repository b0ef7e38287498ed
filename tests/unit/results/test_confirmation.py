"""What a confirmation says of its runs: numbers, findings in words, the command's table and JSON."""

import json
import math
import statistics
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from icd.cli.main import main
from icd.results.outcome import Arm, Comparison, Outcome, Run, Verdict
from icd.results.plan import stored_plans
from icd.results.read_outcome import compared, outcome_of, statement_of
from icd.results.run_plan import planned
from icd.results.stats import expected_maximum
from icd.results.tables import outcome_lines
from icd.search.study.locks import driver_lock
from tests.confirming import Confirming, confirming, gaps, searched
from tests.driving import EPOCHS

GAIN = gaps(trial_3=4, trial_2=0.3)


@pytest.fixture(autouse=True)
def no_other_database(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ICD_STORAGE_URL", "MLFLOW_TRACKING_URI", "ICD_ROOT"):
        monkeypatch.delenv(name, raising=False)


def test_nothing_was_begun_and_nothing_ran(tmp_path: Path) -> None:
    hand = searched(tmp_path)
    assert outcome_of(hand.ledger, "confirm") is None
    found = confirming(hand, against=["KD"]).found
    assert (found.winner, found.test_evaluations, found.finished) == (None, 0, False)
    assert {(item.difference, item.p, item.verdict) for item in found.comparisons} == {(None, None, "open")}
    assert found.statement == "Nothing can be said yet: no finalist has a complete run."
    assert [arm.mean for arm in found.arms] == [None, None, None]
    assert "trial 3" in "\n".join(outcome_lines(found))


def test_numbers_are_those_of_the_runs(tmp_path: Path) -> None:
    hand = confirming(searched(tmp_path, trials=5, enqueue=["KD"]), seeds=3)  # 0 is KD, the last the best
    assert [arm.label for arm in hand.plan.arms] == ["trial 4", "trial 3", "KD"]

    def value(arm: str, seed: int) -> float:
        return gaps(trial_4=4, trial_3=0.3)(arm, seed) + (arm == "KD") * seed % 2 / 10

    while (attempt := hand.driver.next_attempt()) is not None:
        attributes = hand.record(attempt).attributes
        last = value(attributes["arm"], attributes["seed"])
        for epoch, top1 in ((1, 10.0), (2, last + 20), (3, last + 20), (EPOCHS, last)):
            hand.epoch(attempt, epoch, top1, seconds=2.5)
        hand.end(attempt)
    found, seeds = hand.found, (101, 102, 103)
    assert (found.sweep, found.metric, found.train_on, found.planned_seeds) == ("tiny", "test/top1", "train+val", 3)
    assert (found.test_evaluations, found.seconds, found.finished, found.faults) == (
        9 * EPOCHS,
        9 * EPOCHS * 2.5,
        True,
        0,
    )
    for label in ("trial 4", "trial 3", "KD"):
        arm, values = found.arm(label), [value(label, seed) for seed in seeds]
        assert [run.value for run in arm.runs] == values, "the last epoch counts"
        assert (arm.mean, arm.sd) == pytest.approx((statistics.fmean(values), statistics.stdev(values)))
        assert {run.seconds for run in arm.runs} == {10.0}
    first = found.comparisons[0]
    differences = [value("trial 4", seed) - value("KD", seed) for seed in seeds]
    assert (first.arm, first.against, first.seeds) == ("trial 4", "KD", 3)
    assert first.difference == pytest.approx(statistics.fmean(differences))
    assert first.difference is not None
    assert first.low is not None
    assert first.high is not None
    assert 0 < first.low < first.difference < first.high
    assert first.verdict == "better"
    assert (first.p or 1) <= 0.05
    assert first.search_gain == 4.0, "trials 0 and 4 of the search"
    assert found.winner == "trial 4"
    assert "The search promised +4.00 points over KD (one seed, validation images);" in found.statement


def test_a_finalist_that_failed_on_a_seed_comes_after_the_others(tmp_path: Path) -> None:
    hand = confirming(searched(tmp_path), against=["KD"], seeds=2)
    first = hand.driver.next_attempt()
    assert first is not None
    hand.end(first, "diverged", "loss term 'kd' must be finite")
    hand.finish_all(GAIN)
    found = hand.found
    assert (found.arm("trial 3").mean or 0) > (found.arm("trial 2").mean or 0)
    assert found.winner == "trial 2"
    assert found.arm("trial 3").failures == {101: "loss term 'kd' must be finite"}


@pytest.mark.parametrize(("adaptive", "failed"), [(False, 1), (True, 3)])
def test_runs_that_failed_leave_the_verdict_to_the_others(tmp_path: Path, *, adaptive: bool, failed: int) -> None:
    hand = confirming(searched(tmp_path), against=["KD"], seeds=5, top=1, adaptive=adaptive)
    while (attempt := hand.driver.next_attempt()) is not None:
        attributes = hand.record(attempt).attributes
        if attributes["arm"] == "KD" and attributes["seed"] in hand.plan.seeds[:failed]:
            hand.end(attempt, "diverged", "loss term 'kd' must be finite")
        else:
            hand.run(attempt, GAIN)
    (item,) = hand.found.comparisons
    assert (item.seeds, item.verdict) == (5 - failed, "better")
    assert (item.p or 1) < 0.05
    said = "KD gave no result on seed 101: loss term 'kd' must be finite; the run is left out."
    assert said in hand.found.statement


@pytest.mark.parametrize("runs", [1, 3, 4])
def test_it_is_plain_json_at_any_time(tmp_path: Path, runs: int) -> None:
    hand = confirming(searched(tmp_path), against=["KD"], seeds=2)
    hand.finish_all(GAIN, most=runs)
    text = json.dumps(asdict(hand.found), allow_nan=False)
    assert json.loads(text)["statement"].endswith("This confirmation is not finished.")
    assert json.loads(text)["arms"][0]["runs"][0]["value"] == GAIN("trial 3", 101)


def made(verdict: Verdict = "better", **changes: Any) -> Outcome:
    """A confirmation that nobody ran."""
    run = Run(trial=9, seed=101, value=61.0, seconds=1.0)
    common: dict[str, Any] = {"trial": 3, "search_value": 60.0, "config": {}, "runs": (run, replace(run, seed=102))}
    arms = (
        Arm(label="trial 3", kind="finalist", mean=61.0, sd=0.5, **common),
        Arm(label="KD", kind="baseline", mean=60.0, sd=0.5, **common),
    )
    item = Comparison(
        arm="trial 3",
        against="KD",
        seeds=2,
        difference=1.0,
        se=0.2,
        low=0.25,
        high=1.75,
        p=None if verdict in ("open", "not judged") else 0.04,
        verdict=verdict,
        detectable=0.9,
    )
    usual: dict[str, Any] = {
        "sweep": "tiny",
        "stage": "confirm",
        "metric": "test/top1",
        "train_on": "train+val",
        "planned_seeds": 5,
        "alpha": 0.05,
        "failed_runs": "left-out",
        "round": 1,
        "arms": arms,
        "comparisons": (item,),
        "test_evaluations": 16,
        "seconds": 7200.0,
        "finished": True,
        "winner": "trial 3",
        "optimism": None,
        "statement": "",
    }
    found = Outcome(**{**usual, **changes})
    return replace(found, statement=statement_of(found))


TRUTH = "True differences are those of means over seeds, on these images and with this teacher."
HEADLINES: dict[Verdict, str] = {
    "better": "Trial 3 is better than KD.",
    "worse": "Trial 3 is worse than KD.",
    "no difference shown": "No difference between trial 3 and KD was shown.",
    "not judged": "Trial 3 was not compared with KD.",
    "open": "Trial 3 against KD is not decided yet.",
}


@pytest.mark.parametrize("verdict", HEADLINES)
def test_every_verdict_has_its_sentence(verdict: Verdict) -> None:
    more = {
        "no difference shown": ", 0.90 points would have been shown in four of five cases",
        "not judged": ", too few runs to know their spread",
    }.get(verdict, "")
    judged = verdict not in ("not judged", "open")
    rate = " If there were no difference, one would be shown in 5% of such cases. " + TRUTH
    assert made(verdict).statement == (
        f"{HEADLINES[verdict]} trial 3 reaches 61.00 % top-1 on test images (sd 0.50), 2 seeds. "
        f"Against KD: +1.00 points, interval +0.25 to +1.75, 2 seeds{', p 0.04' if judged else ''}{more}."
        f"{rate if judged else ''}"
    )


@pytest.mark.parametrize(
    ("low", "p", "interval", "said"),
    [
        (0.004, 0.0499, "+0.004 to +1.75", "0.05"),
        (-0.0003, 0.0501, "-0.0003 to +1.75", "0.0501"),
        (-1e-12, 0.05, "+0.00 to +1.75", "0.05"),
    ],
)
def test_numbers_near_the_edge_show_on_which_side_they_are(low: float, p: float, interval: str, said: str) -> None:
    item = replace(made().comparisons[0], low=low, p=p, difference=-0.0)
    found = made(comparisons=(item,))
    assert f"Against KD: +0.00 points, interval {interval}, 2 seeds, p {said}." in found.statement
    assert f"+0.00  {interval}  {said}  better" in " ".join(outcome_lines(found)).replace("   ", "  ")


def test_what_was_not_measured_is_not_judged() -> None:
    values: dict[tuple[str, str], dict[int, float]] = {("a", ""): {1: 60.0}, ("b", ""): {}, ("c", ""): {1: 62.0}}
    found = compared(values, [("a", "b"), ("a", "c")], alpha=0.05, finished=True)
    assert [(item.difference, item.verdict) for item in found] == [(None, "not judged"), (-2.0, "not judged")]
    said = made(comparisons=(*made().comparisons, *(replace(item, arm="trial 3") for item in found)))
    assert "Trial 3 is better than KD; it was not compared with b and c." in said.statement
    assert "Against b: no runs of both. Against c: -2.00 points, 1 seed, too few runs to know" in said.statement
    assert "one would be shown in 5% of such cases." in said.statement, "one comparison was judged"


def test_several_verdicts_are_one_sentence() -> None:
    (item,) = made().comparisons
    others = [replace(item, against=label) for label in ("SD-KD", "iCD-KD")]
    level = replace(item, against="DKD", verdict="no difference shown")
    found = made(comparisons=(item, *others, level))
    assert found.statement.startswith(
        "Trial 3 is better than KD, SD-KD and iCD-KD; no difference between it and DKD was shown."
    )
    assert "The chance of any false difference among the 4 comparisons of this confirmation is 5%" in found.statement


@pytest.mark.parametrize(("alpha", "said", "rest"), [(0.001, "0.1%", "99.9%"), (0.025, "2.5%", "97.5%")])
def test_the_chance_of_a_false_difference_has_all_its_digits(alpha: float, said: str, rest: str) -> None:
    (item,) = made().comparisons
    assert f"one would be shown in {said} of such cases." in made(alpha=alpha).statement
    two = made(alpha=alpha, comparisons=(item, item))
    assert f"is {said}, and their intervals hold the truth together in {rest}." in two.statement


def test_what_else_is_said() -> None:
    found = made(finished=False)
    assert found.statement.endswith("This confirmation is not finished.")
    bare = replace(found.comparisons[0], low=None, high=None, p=None, search_gain=2.0)
    assert "Against KD: +1.00 points, 2 seeds." in made(comparisons=(bare,)).statement
    promised = "The search promised +2.00 points over KD (one seed, validation images); +1.00 were found."
    assert promised in made(comparisons=(bare,)).statement
    broken = replace(found.arms[1], failures={103: "out of memory"})
    lost = made(arms=(found.arms[0], broken))
    assert "KD gave no result on seed 103: out of memory; the run is left out." in lost.statement
    chance = made(arms=(found.arms[0], replace(broken, counted={103: 5.0})), failed_runs="chance-level")
    assert "out of memory; the run counts as 5.00 %." in chance.statement
    lucky = (
        "trial 3 was chosen as the best of several finalists on these test images; if they are equally good, its mean"
    )
    assert f"{lucky} is too high by 0.25 points on average." in made(optimism=0.25).statement


def test_the_best_of_several_finalists_is_said_to_be_lucky(tmp_path: Path) -> None:
    hand = confirming(searched(tmp_path), against=["KD"], seeds=3)
    hand.finish_all(GAIN)
    found = hand.found
    error = found.comparisons[0].se
    assert error is not None
    assert found.optimism == pytest.approx(expected_maximum(2) * error / math.sqrt(2))


def test_the_table() -> None:
    text = "\n".join(outcome_lines(made()))
    assert text.splitlines()[0] == "confirmation 1 of tiny, test/top1"
    assert [line.split() for line in text.splitlines()[1:4]] == [
        ["configuration", "mean", "±", "sd", "seeds", "search", "(val)"],
        ["trial", "3", "61.00", "±", "0.50", "2", "60.00"],
        ["KD", "60.00", "±", "0.50", "2", "60.00"],
    ]
    assert [line.split() for line in text.splitlines()[5:7]] == [
        ["configuration", "difference", "interval", "p", "verdict", "seeds"],
        ["trial", "3", "against", "KD", "+1.00", "+0.25", "to", "+1.75", "0.04", "better", "2"],
    ]
    assert "16 test evaluations, 2.00 hours of training, on train+val images" in text
    assert text.splitlines()[-1] == made().statement


# The command


def command(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    code = main(["confirm", *map(str, words)])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_show_reads_and_runs_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hand = searched(tmp_path)
    noted = hand.ledger.attributes
    code, out, err = command(capsys, "tiny", "--dry-run", "--against", "KD", "--root", tmp_path)
    assert (code, err) == (0, "")
    first, *labels = out.splitlines()
    count = len(labels)
    assert first == f"{count} configurations on 5 seeds: at most {5 * count} trainings of 4 epochs, on train+val"
    assert labels[-1] == "  KD"
    code, out, err = command(capsys, "tiny", "--dry-run", "--json", "--all-seeds", "--seeds", 2, "--root", tmp_path)
    told = json.loads(out)["planned"]
    assert (told["seeds"], told["trainings"]) == (2, 2 * len(told["configurations"]))
    assert hand.ledger.attributes == noted
    confirmed: Confirming = confirming(hand, against=["KD"], seeds=2)
    confirmed.finish_all(GAIN, most=3)
    before = confirmed.runs
    code, out, err = command(capsys, "tiny", "--dry-run", "--root", tmp_path)
    assert (code, err) == (0, "")
    assert out.splitlines() == outcome_lines(confirmed.found)
    code, out, err = command(capsys, "tiny", "--dry-run", "--json", "--root", tmp_path)
    assert (code, err) == (0, "")
    assert json.loads(out) == json.loads(json.dumps(asdict(confirmed.found)))
    assert confirmed.runs == before


def test_another_round_is_the_last_one_but_for_what_is_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    hand = confirming(searched(tmp_path), top=1, against=["KD"], train_on="train", alpha=0.1, seeds=3, adaptive=False)
    hand.finish_all(GAIN)
    noted = hand.ledger.attributes
    where = ["tiny", "--keep-seeds", "--seeds", 4, "--root", tmp_path]
    code, out, err = command(capsys, *where, "--dry-run")
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "2 configurations on 4 seeds: 2 trainings of 4 epochs, on train",
        "taken over from earlier rounds: 6 runs",
        "  trial 3",
        "  KD",
    ]
    assert hand.ledger.attributes == noted, "nothing is begun"

    def train_listed(stage: str, name: str, settings: Any, listed: Any, overrides: Any) -> None:
        listed(hand.ledger, hand.sweep)

    monkeypatch.setattr("icd.results.run_plan.train_listed", train_listed)
    code, _, err = command(capsys, *where, "--executor", "process")
    assert (code, "was stopped; the same command" in err) == (5, True), "nothing was trained"
    first, second = stored_plans(hand.ledger, "confirm")
    assert (second.seeds[:3], len(second.seeds), len(second.reused)) == (first.seeds, 4, 6)
    assert second.asked == {**first.asked, "seeds": 4}
    assert command(capsys, *where[:1], *where[2:], "--executor", "process")[0] == 5, "goes on, still untrained"
    assert len(stored_plans(hand.ledger, "confirm")) == 2
    asked = {"anew": True, "against": ["SD-KD"]}
    other = planned("confirm", "tiny", tmp_path, asked)
    assert other.asked == {**second.asked, "against": ("SD-KD",)}
    assert not {*other.seeds} & {*second.seeds}


@pytest.mark.parametrize("show", [["--dry-run"], []])
def test_an_unknown_sweep(tmp_path: Path, capsys: pytest.CaptureFixture[str], show: list[str]) -> None:
    searched(tmp_path).close()
    code, out, err = command(capsys, "tiyn", *show, "--root", tmp_path, "--executor", "process")
    assert (code, out) == (5, "")
    assert err.startswith("icd: error[STATE] ")
    assert "did you mean 'tiny'" in err


def test_requests_that_cannot_be(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hand = searched(tmp_path, trials=1, enqueue=["KD"])
    where = ["tiny", "--root", tmp_path, "--executor", "process"]
    code, _, err = command(capsys, *where, "--against", "KD", "--against", "SD-KDD")
    assert code == 2
    assert "--against must name rows, baselines or trials, but got 'SD-KDD'; did you mean 'SD-KD'?" in err
    code, _, err = command(capsys, *where)
    assert code == 5
    assert "sweep 'tiny' has no finalist: no trial has run all its epochs that is not one of KD" in err
    for words in (["--seeds", "1"], ["--top", "0"], ["--alpha", "0.6"], ["--train-on", "val"]):
        code, _, err = command(capsys, *where, *words)
        assert code == 2
        assert words[0] in err
    with driver_lock(hand.folder):
        code, _, err = command(capsys, *where)
    assert code == 5
    assert "is driven by" in err
    assert hand.ledger.records("confirm") == []
