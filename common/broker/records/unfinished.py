# redis-py leaves its replies partly untyped; each is cast where it enters.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
"""Answers that are to be stored when they are complete: noted before their client hears of them, so that they are
stored though their gateway dies."""

import time
from collections.abc import Awaitable
from typing import Literal, cast

import msgspec

from millstream.common.broker import keys
from millstream.common.broker.connection.broker import Broker, redis_errors
from millstream.common.broker.records.job_states import job_states
from millstream.common.job import SETTLED, JobId, ModelName
from millstream.common.request_id import parse_request_id

AnswerKind = Literal["completion", "response"]


class UnfinishedAnswer(msgspec.Struct, frozen=True):
    """An answer that is not stored yet: its id, whose it is, and which model's jobs make it."""

    kind: AnswerKind
    id: str
    tenant: str
    model: str

    def jobs(self) -> list[JobId]:
        """Returns the ids of its jobs."""
        return parse_request_id(self.id).jobs()


def _member(answer: UnfinishedAnswer) -> str:
    return msgspec.json.encode(answer).decode()


class UnfinishedAnswers:
    """The notes of all tenants. Every method raises `Unavailable` while Redis is away."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    async def note(self, answer: UnfinishedAnswer, seconds: float) -> None:
        """Notes the answer for so long; afterwards nothing is left of its jobs. Notes whose time is over go."""
        now = time.time()
        async with redis_errors():
            pipe = self._broker.redis.pipeline(transaction=False)
            pipe.zremrangebyscore(keys.UNFINISHED, "-inf", now)
            pipe.zadd(keys.UNFINISHED, {_member(answer): now + seconds})
            await pipe.execute()

    async def remove(self, answer: UnfinishedAnswer) -> None:
        """Removes the note of an answer that is stored, or of which nothing will be."""
        async with redis_errors():
            await cast(Awaitable[int], self._broker.redis.zrem(keys.UNFINISHED, _member(answer)))

    async def ended(self) -> list[UnfinishedAnswer]:
        """Returns the answers whose jobs have all settled, or are gone."""
        async with redis_errors():
            found = await cast(Awaitable[list[str]], self._broker.redis.zrange(keys.UNFINISHED, 0, -1))
        answers = [msgspec.json.decode(text, type=UnfinishedAnswer) for text in found]
        wanted = ((ModelName(answer.model), job) for answer in answers for job in answer.jobs())
        states, over = await job_states(self._broker, wanted), (None, *SETTLED)
        return [answer for answer in answers if all(job in states and states[job] in over for job in answer.jobs())]
