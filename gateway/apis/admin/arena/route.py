"""`POST/GET /v1/arena/votes`, `GET /v1/arena/votes.jsonl`, `GET /v1/arena/leaderboard`."""

import secrets
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from millstream.common.errors import BadRequest, Unavailable
from millstream.gateway.apis.admin.arena.examples import LEADERBOARD, VOTE
from millstream.gateway.apis.admin.arena.rating import Ballot, ratings
from millstream.gateway.apis.admin.arena.shape import (
    ArenaLeaderboard,
    ArenaRating,
    ArenaVote,
    ArenaVoteList,
    VoteRequest,
)
from millstream.gateway.apis.shared.examples import answers, listed
from millstream.gateway.apis.shared.json_route import JsonRoute
from millstream.gateway.records.store import Record, RecordStore, walk
from millstream.gateway.services.services import InServices, Services, tenant_of

router = APIRouter(tags=["arena"], route_class=JsonRoute)
LINES = {200: {"description": "A vote a line", "content": {"application/jsonl": {"schema": {"type": "string"}}}}}


class Votes:
    """One tenant's votes."""

    def __init__(self, store: RecordStore, tenant: str, ttl: float) -> None:
        self._store = store
        self._tenant = tenant
        self._ttl = ttl

    async def add(self, body: VoteRequest) -> ArenaVote:
        """Keeps a vote. Raises `QuotaExceeded`."""
        identity, now = f"vote_{time.time_ns():016x}{secrets.token_hex(4)}", int(time.time())
        vote = ArenaVote(id=identity, created=now, **body.model_dump())
        record = Record(identity, now, vote.model_dump_json().encode())
        await self._store.put(self._tenant, "vote", record, self._ttl)
        return vote

    async def page(self, after: str | None, limit: int) -> list[ArenaVote]:
        """Returns votes after another one. Raises `BadRequest` for an unknown `after`."""
        if after is not None and await self._store.get(self._tenant, "vote", after) is None:
            raise BadRequest(f"Invalid 'after': there is no vote '{after[:80]}'.", param="after")
        found = await self._store.list(self._tenant, "vote", after=after, limit=limit)
        return [ArenaVote.model_validate_json(record.body) for record in found]

    async def walk(self) -> AsyncGenerator[ArenaVote]:
        """Yields all votes, the oldest first."""
        async with aclosing(walk(self._store, self._tenant, "vote")) as records:
            async for record in records:
                yield ArenaVote.model_validate_json(record.body)


def votes_of(request: Request, services: Services) -> Votes:
    """Returns the tenant's votes. Raises `Unavailable` where nothing is kept."""
    if services.cluster.store is None:
        raise Unavailable("This gateway keeps no votes.")
    return Votes(services.cluster.store, tenant_of(request), services.settings.stored_ttl)


async def _votes(request: Request, services: InServices) -> Votes:
    return votes_of(request, services)


InVotes = Annotated[Votes, Depends(_votes)]


@router.post(
    "/v1/arena/votes",
    summary="Vote on two answers",
    response_model=ArenaVote,
    status_code=201,
    responses=answers(VOTE, status=201),
)
async def create_vote(body: VoteRequest, request: Request, services: InServices) -> JSONResponse:
    """Keeps a vote as long as stored answers are kept (`stored_ttl`); it counts against the same quota."""
    vote = await votes_of(request, services).add(body)
    return JSONResponse(vote.model_dump(), status_code=201)


@router.get("/v1/arena/votes", summary="List the votes", responses=listed(VOTE))
async def list_votes(
    votes: InVotes, after: str | None = None, limit: Annotated[int, Query(ge=1, le=100)] = 20
) -> ArenaVoteList:
    """Lists the tenant's votes, the oldest first."""
    found = await votes.page(after, limit + 1)
    data = found[:limit]
    first, last = (data[0].id, data[-1].id) if data else (None, None)
    return ArenaVoteList(data=data, first_id=first, last_id=last, has_more=len(found) > limit)


@router.get("/v1/arena/votes.jsonl", summary="Export the votes", response_class=Response, responses={**LINES})
async def export_votes(votes: InVotes) -> Response:
    """Returns all votes of the tenant with their conversations, one a line."""
    name = {"content-disposition": 'attachment; filename="votes.jsonl"'}
    return StreamingResponse(_lines(votes), media_type="application/jsonl", headers=name)


async def _lines(votes: Votes) -> AsyncGenerator[bytes]:
    async with aclosing(votes.walk()) as walk:
        async for vote in walk:
            yield vote.model_dump_json().encode() + b"\n"


@router.get("/v1/arena/leaderboard", summary="Rank the models by the votes", responses=answers(LEADERBOARD))
async def read_leaderboard(votes: InVotes, blind: bool = True) -> ArenaLeaderboard:
    """Returns the ranking that the tenant's votes make likeliest, with intervals. `blind`: only of votes whose voter
    did not see the models' names."""
    ballots: list[Ballot] = []
    async with aclosing(votes.walk()) as walk:
        async for vote in walk:
            if vote.blind or not blind:
                ballots.append((str(vote.left["model"]), str(vote.right["model"]), vote.winner))
    data = [ArenaRating(**asdict(each)) for each in ratings(ballots)]
    return ArenaLeaderboard(votes=len(ballots), data=data)
