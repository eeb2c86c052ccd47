"""Examples of votes and their ranking, for `/docs` and `/openapi.json`."""

from typing import Any

from millstream.gateway.apis.admin.arena.shape import EXAMPLE
from millstream.gateway.apis.shared.examples import MODEL

VOTE: dict[str, Any] = {
    **EXAMPLE,
    "id": "vote_187a3c5f0e1d2c3b4a5f6e7d",
    "object": "arena.vote",
    "created": 1763767713,
    "blind": True,
}
LEADERBOARD: dict[str, Any] = {
    "object": "arena.leaderboard",
    "votes": 24,
    "data": [
        {
            "model": MODEL,
            "rating": 1042.1,
            "low": 961.4,
            "high": 1122.8,
            "votes": 24,
            "wins": 13,
            "losses": 7,
            "ties": 4,
        }
    ],
}
