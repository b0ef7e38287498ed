"""Who ends with whom, and who goes on alone."""

from typing import Any

import pytest

from icd.search.company import Company, Seats, UnderWay, ended
from icd.search.quarantine import Place
from icd.search.task import Task

HERE, THERE = Place(host="a", gpu="0"), Place(host="a", gpu="1")


def task(number: int) -> Task:
    return Task(number=number, attempt=1, config={}, sweep="/none", root="/none")


TASKS = [task(0), task(1), task(2)]


def alone(company: Company) -> list[int]:
    return [task.number for task in TASKS if company.goes_alone(task)]


def test_two_deaths_in_company_and_one_for_memory() -> None:
    company = Company()
    company.died(TASKS[:1], "memory", "alone", HERE)
    company.died(TASKS[:2], "killed", "together", HERE)
    assert alone(company) == []
    company.died(TASKS[1:], "killed", "together", HERE)
    assert alone(company) == [1]
    ends = company.died(TASKS[:1] + TASKS[2:], "memory", "together", HERE)
    assert alone(company) == [0, 1, 2]
    assert [(end.number, end.kind, end.reason, end.place) for end in ends] == [
        (0, "memory", "together", HERE),
        (2, "memory", "together", HERE),
    ]


@pytest.mark.parametrize("kind", ["preempted", "lost"])
def test_nobody_is_to_blame_for_a_node_that_goes(kind: Any) -> None:
    company = Company()
    for _ in range(3):
        company.died(TASKS, kind, "its node", HERE)
    assert alone(company) == []


def test_only_the_culprit_of_a_want_of_memory_goes_alone_at_once() -> None:
    company = Company()
    culprit, *others = company.ended_by(TASKS, ended(TASKS[1], "memory", "full"), "ran out of memory", HERE)
    assert (culprit.number, culprit.kind, culprit.place) == (1, "memory", HERE)
    assert [(end.number, end.kind, end.reason, end.place) for end in others] == [
        (0, "lost", "its neighbour, trial 1, ran out of memory", None),
        (2, "lost", "its neighbour, trial 1, ran out of memory", None),
    ]
    assert alone(company) == [1]
    company.ended_by(TASKS[:1], ended(TASKS[0], "memory", "full"), "ran out of memory", HERE)
    assert alone(company) == [1], "who was alone had no company"


def test_a_task_goes_where_it_did_not_fall_and_where_it_is_emptiest() -> None:
    company, places = Company(), {2: HERE, 3: THERE, 4: THERE}
    seats = [Seats(trials=trials) for trials in places]

    def place(seats: Seats) -> Place:
        return places[seats.trials]

    assert company.choose(seats, TASKS[0], place) is seats[0]
    company.died(TASKS[:1], "gpu", "sick", HERE)
    assert company.choose(seats, TASKS[0], place) is seats[1]
    seats[1].attempts[2] = UnderWay(TASKS[2], heard=0.0)
    assert company.choose(seats, TASKS[0], place) is seats[2]
    assert company.choose(seats[:1], TASKS[0], place) is seats[0], "where there is no choice"
