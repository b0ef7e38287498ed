"""Letters to workers: each is read once, in its order, whatever is put or asked for twice."""

import asyncio
from typing import Any

import pytest

from icd.search import ray_mailbox
from icd.search.ray_mailbox import Mailbox

FIRST, SECOND, THIRD = ((number, {"do": number}) for number in (1, 2, 3))


def test_a_reader_gets_what_it_has_not_read() -> None:
    async def talk() -> list[Any]:
        mailbox = Mailbox()
        await mailbox.put("a", [FIRST, SECOND])
        await mailbox.put("b", [THIRD])
        heard = [await mailbox.take("a", 0), await mailbox.take("a", 0), await mailbox.take("a", 1)]
        await mailbox.put("a", [SECOND, THIRD])  # the first was read, and the second is put again
        return [*heard, await mailbox.take("a", 2), await mailbox.take("b", 0)]

    assert asyncio.run(talk()) == [[FIRST, SECOND], [FIRST, SECOND], [SECOND], [THIRD], [THIRD]]


def test_a_question_waits_for_a_letter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_mailbox, "_WAIT_S", 0.2)

    async def talk() -> list[Any]:
        mailbox = Mailbox()
        waiting = asyncio.create_task(mailbox.take("a", 0))
        await asyncio.sleep(0.05)
        await mailbox.put("b", [FIRST])
        await mailbox.put("a", [FIRST])
        early = await waiting
        await mailbox.put("a", [FIRST])  # again; it was read
        late = await mailbox.take("a", 1)
        await mailbox.forget("a")
        return [early, late, await mailbox.take("a", 0)]

    assert asyncio.run(talk()) == [[FIRST], [], []]
