"""Votes as browsers send and read them."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from millstream.gateway.apis.admin.arena.rating import Winner
from millstream.gateway.apis.shared.shapes.base import Most, Shape

EXAMPLE: dict[str, Any] = {
    "left": {"model": "smollm2-135m-instruct", "answer": "Water turns the wheel."},
    "right": {"model": "smollm2-360m-instruct", "answer": "A stream drives the mill."},
    "winner": "right",
    "messages": [{"role": "user", "content": "Why do mills need streams?"}],
}
ModelId = Annotated[str, Field(min_length=1, max_length=300)]


class ArenaAnswer(Shape):
    """One of the two answers."""

    model: ModelId
    answer: str = ""
    completion: str | None = Field(default=None, description="The id of the chat completion.")


class VoteRequest(Shape):
    """A preference between two answers to one conversation."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})

    left: ArenaAnswer
    right: ArenaAnswer
    winner: Winner
    messages: Annotated[list[dict[str, Any]], Most(4096)] = Field(default=[])
    blind: bool = Field(default=True, description="The voter did not see which models these were.")


class ArenaVote(BaseModel):
    """A stored vote."""

    id: str
    object: Literal["arena.vote"] = "arena.vote"
    created: int
    left: dict[str, Any]
    right: dict[str, Any]
    winner: Winner
    messages: list[dict[str, Any]]
    blind: bool


class ArenaVoteList(BaseModel):
    """One page of votes, the oldest first."""

    object: Literal["list"] = "list"
    data: list[ArenaVote]
    first_id: str | None
    last_id: str | None
    has_more: bool


class ArenaRating(BaseModel):
    """A model's place; 400 points of difference are odds of ten to one."""

    model: str
    rating: float
    low: float = Field(description="With `high` the interval in which the rating lies with 95 % certainty.")
    high: float
    votes: int
    wins: int
    losses: int
    ties: int = Field(description="Ties, and pairs that were both bad.")


class ArenaLeaderboard(BaseModel):
    """The ranking by Bradley and Terry, the strongest first."""

    object: Literal["arena.leaderboard"] = "arena.leaderboard"
    votes: int
    data: list[ArenaRating]
