"""What routes work with, handed to them by the composition root."""

from dataclasses import dataclass
from typing import Annotated, cast

from fastapi import Depends, Request

from millstream.common.broker.accounts.keyring import ApiKey
from millstream.common.job import ModelName
from millstream.gateway.access.authentication import Keys
from millstream.gateway.connection.sse import Farewells
from millstream.gateway.services.aliases import Aliases
from millstream.gateway.services.background_tasks import Afterwork
from millstream.gateway.services.caller import Caller, caller
from millstream.gateway.services.cluster import Cluster
from millstream.gateway.services.metrics import Metrics
from millstream.gateway.settings import GatewaySettings


@dataclass(frozen=True, slots=True)
class Rooms:
    """One gateway process."""

    settings: GatewaySettings
    cluster: Cluster
    keys: Keys
    aliases: Aliases
    metrics: Metrics
    afterwork: Afterwork
    farewells: Farewells

    def caller(self, request: Request) -> Caller:
        """What the request's headers say. Raises `BadRequest`."""
        return caller(request.headers, key_of(request), self.settings)

    async def model(self, asked: str) -> ModelName:
        """Aliases resolved. Only a catch-all needs to know who is served."""
        known = frozenset[ModelName]()
        if self.aliases.catch_all is not None:
            known = frozenset(model.name for model in await self.cluster.directory.models())
        return self.aliases.resolve(asked, known)


def tenant_of(request: Request) -> str:
    """Whom the gatekeeper let in."""
    return cast(str, request.scope["state"]["tenant"])


def key_of(request: Request) -> ApiKey:
    """The key they came with, and what it may do."""
    return cast(ApiKey, request.scope["state"]["key"])


def rooms_of(request: Request) -> Rooms:
    """The process that answers this request."""
    return cast(Rooms, request.app.state.rooms)


async def _rooms_here(request: Request) -> Rooms:
    """A coroutine, because FastAPI calls a plain function in a thread: two task switches and a queue per request."""
    return rooms_of(request)


InRooms = Annotated[Rooms, Depends(_rooms_here)]
