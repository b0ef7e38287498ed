"""Which places get no more trials: the rule itself, on made-up histories."""

import pytest

from icd.search.controller.node_health import Location, sentence
from icd.search.controller.retry import FRUITLESS, RetryPolicy
from icd.search.core.attempts import AttemptResult, EpochReport

A, B = Location(host="a", gpu="3"), Location(host="b", gpu="0")
HERE, THERE = Location(host="here"), Location(host="there", node="0123456789abcdef")


class World:
    """Tells faults of ends and epochs, a minute apart."""

    def __init__(self, retries: int = 3) -> None:
        self.now = 1000.0
        self.news: list[str] = []
        self.faults = RetryPolicy(retries, self.news.append, clock=lambda: self.now)

    def end(self, place: Location | None, trial: int, kind: str, minutes: float = 1.0) -> "World":
        self.now += 60 * minutes
        self.faults.hear_end(AttemptResult(number=trial, attempt=1, kind=kind, place=place))  # type: ignore[arg-type]
        return self

    def epoch(self, place: Location, trial: int = 99) -> "World":
        self.now += 60
        self.faults.hear_epoch(EpochReport(number=trial, attempt=1, epoch=1, metrics={}, place=place))
        return self

    def again(self, place: Location, trial: int, kind: str) -> bool:
        """A fault, and whether its trial goes on."""
        outcome = AttemptResult(number=trial, attempt=1, kind=kind, place=place)  # type: ignore[arg-type]
        self.now += 60
        self.faults.hear_end(outcome)
        return self.faults.judge(outcome).again

    @property
    def sick(self) -> list[Location]:
        return list(self.faults.quarantined)


def test_two_errors_of_cuda_condemn_a_gpu() -> None:
    world = World().end(A, 1, "gpu")
    assert world.sick == []
    world.end(A, 2, "gpu")
    assert world.sick == [A]
    assert world.news == [
        "GPU 3 of host a: 2 errors of CUDA; it gets no more trials until the next 'icd resume'",
    ]
    world.end(A, 3, "gpu")
    assert len(world.news) == 1, "said once"


@pytest.mark.parametrize(("between", "sick"), [(6, [A]), (7, [])])
def test_the_last_eight_ends_of_a_place_count(between: int, sick: list[Location]) -> None:
    world = World().end(A, 1, "gpu")
    for trial in range(between):
        world.end(A, 10 + trial, "complete")
    assert world.end(A, 2, "gpu").sick == sick


def test_an_error_of_cuda_says_nothing_of_a_cpu() -> None:
    assert World().end(HERE, 1, "gpu").end(HERE, 2, "gpu").end(HERE, 3, "gpu").sick == []


@pytest.mark.parametrize("kind", ["killed", "hang"])
def test_three_trials_that_die_on_one_place_while_others_get_on(kind: str) -> None:
    world = World().end(THERE, 1, kind).epoch(HERE).end(THERE, 2, kind)
    assert world.sick == []
    world.end(THERE, 3, kind)
    assert world.sick == [THERE]
    assert world.news[0].startswith("host there (node 01234567): 3 different trials died there, none elsewhere; it")


@pytest.mark.parametrize(
    "world",
    [
        World().end(A, 1, "killed").end(A, 2, "killed").end(A, 3, "killed"),  # nothing goes on elsewhere
        World().epoch(B).end(A, 1, "killed").end(A, 2, "killed").end(A, 3, "killed"),  # nothing did since
        World().end(A, 1, "killed").epoch(B).end(A, 1, "killed").end(A, 1, "killed").end(A, 1, "killed"),  # one trial
        World().end(A, 1, "killed").epoch(B).end(A, 2, "killed").end(B, 7, "killed").end(A, 3, "killed"),  # B as well
        World().end(A, 1, "killed").epoch(B).end(A, 2, "killed", 0).end(A, 3, "killed", 0),  # one process of three
        World().end(A, 1, "error").epoch(B).end(A, 2, "memory").end(A, 3, "setup").end(A, 4, "lost"),
        World().end(A, 1, "diverged").epoch(B).end(A, 2, "diverged").end(A, 3, "diverged"),
    ],
)
def test_no_reason_to_leave_a_place(world: World) -> None:
    assert world.sick == []
    assert world.news == []


def test_only_the_last_attempts_count() -> None:
    world = World().end(A, 1, "killed").epoch(B)
    for trial in range(10, 18):
        world.end(A, trial, "complete")
    assert world.end(A, 2, "killed").end(A, 3, "killed").sick == []
    assert world.epoch(B).end(A, 4, "killed").sick == [A]


def test_a_trial_that_fails_elsewhere_too_was_at_fault_itself() -> None:
    world = World().end(A, 1, "gpu").end(A, 1, "gpu")
    assert world.sick == [A]
    world.end(B, 1, "gpu")
    assert world.sick == []
    assert world.news[-1] == "GPU 3 of host a is used again: a trial that failed there has failed elsewhere too"
    assert world.faults.counts(1) == {"gpu": 3}


def test_a_place_stays_condemned_whatever_happens_to_others() -> None:
    world = World().end(A, 1, "killed").epoch(B).end(A, 2, "killed").end(A, 3, "killed")
    for trial in range(10, 20):
        world.end(A, trial, "complete").end(B, 20 + trial, "killed")
    assert A in world.sick


def test_faults_of_a_quarantined_place_are_not_the_trials_own() -> None:
    world = World(retries=1)
    assert world.again(A, 1, "gpu")
    assert world.faults.counts(1) == {"gpu": 1}
    assert world.again(A, 1, "gpu"), "the second one condemns the GPU, and neither counts"
    assert world.faults.counts(1) == {}
    assert world.again(B, 1, "hang")
    assert not world.again(B, 1, "hang")
    assert not world.again(A, 5, "error"), "what the code raises is nobody else's fault"


def test_what_earlier_drivers_counted_goes_on() -> None:
    world = World(retries=3)
    world.faults.take_up(4, {"killed": 3})
    assert world.again(A, 4, "hang")
    assert not world.again(A, 4, "killed")
    assert world.faults.counts(4) == {"killed": 4, "hang": 1}


def test_preemptions_are_never_counted() -> None:
    world = World(retries=0)
    for _ in range(FRUITLESS):
        assert not world.faults.fruitless(1)
        world.epoch(B, trial=2).end(B, 1, "preempted")
    assert world.faults.counts(1) == {}
    assert world.faults.fruitless(1), "but they must lead somewhere"
    assert world.epoch(A, trial=1).faults.fruitless(1) is False


def test_a_place_that_sends_everybody_away_at_once_is_left() -> None:
    world = World().epoch(HERE)
    for trial in range(4):
        world.end(HERE, trial, "preempted")
    assert world.sick == []
    world.end(HERE, 7, "preempted", minutes=0.1)
    assert world.sick == [], "trials of one node leave together"
    world.end(HERE, 4, "preempted")
    (said,) = world.news
    assert said.startswith("host here: 5 times in a row trials had to leave it before any had done an epoch there; it ")
    again = World()
    for _ in range(5):
        assert again.sick == []
        again.end(HERE, 1, "preempted", minutes=0.1)
    assert again.sick == [HERE], "one trial again and again"
    busy = World()
    for trial in range(20):
        busy.epoch(HERE).end(HERE, trial, "preempted")
    assert busy.sick == []


def test_sentences() -> None:
    world = World().end(A, 1, "gpu").end(A, 2, "gpu")
    assert world.faults.sentences() == [sentence(A, world.faults.quarantined[A])]
    assert set(world.faults.touched({A})) == {1, 2}
    assert set(world.faults.touched({B})) == set()
