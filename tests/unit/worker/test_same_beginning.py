"""Two beginnings of a training are compared step by step."""

from dataclasses import replace

from icd.config.trial import Fingerprint
from icd.worker.same_beginning import TOLERANCE, compare

NOTED = Fingerprint(
    key="a" * 64,
    device="x86_64 CPU, 1 threads",
    precision="fp32",
    teacher="cache",
    versions={"icd": "0.1.0", "torch": "2.14.1"},
    losses=(4.75, 300.125, 0.1),
)


def test_equal_within_the_tolerance() -> None:
    nearly = replace(NOTED, losses=(4.75 * (1 + TOLERANCE / 2), 300.125, 0.1 + TOLERANCE / 2))
    compared = compare(NOTED, nearly)
    assert compared.equal
    assert compared.sentence == "fingerprint: first 3 losses equal to 1e-06"


def test_fewer_steps_are_compared_as_far_as_they_go() -> None:
    assert "first 2 losses equal" in compare(NOTED, replace(NOTED, losses=NOTED.losses[:2])).sentence
    assert not compare(NOTED, replace(NOTED, losses=())).equal


def test_the_first_step_that_differs_and_why() -> None:
    other = replace(NOTED, losses=(4.75, 300.5, 9.0), device="NVIDIA H200", teacher="live", versions={"icd": "0.2.0"})
    compared = compare(NOTED, other)
    assert (compared.equal, compared.step) == (False, 2)
    said = compared.sentence
    assert "the loss of step 2 of 3 differs by 0.0012" in said
    teacher = "teacher 'cache', here 'live': add --teacher-cache stream"
    for cause in ("NVIDIA H200", teacher, "icd 0.1.0, here 0.2.0", "torch 2.14.1, here unknown"):
        assert cause in said
    same = compare(NOTED, replace(NOTED, losses=(5.0, 1.0, 1.0)))
    assert "device, teacher and versions are the same" in same.sentence


def test_what_cannot_be_compared() -> None:
    other = compare(NOTED, replace(NOTED, key="b" * 64))
    assert "another configuration (key aaaaaaaaaaaa, this one has bbbbbbbbbbbb)" in other.sentence
    assert "noted no first losses" in compare(NOTED, None).sentence
    assert not compare(NOTED, None).equal
