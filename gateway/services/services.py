"""The services that routes work with, handed to them by the composition root."""

from dataclasses import dataclass, replace
from typing import Annotated, cast

from fastapi import Depends, Request

from millstream.common.broker.accounts.keyring import ApiKey
from millstream.common.job import ModelName
from millstream.gateway.access.authentication import Keys
from millstream.gateway.connection.sse import DrainNotifier
from millstream.gateway.services.aliases import Aliases
from millstream.gateway.services.background_tasks import BackgroundTasks
from millstream.gateway.services.caller import Caller, caller
from millstream.gateway.services.cluster import ClusterServices
from millstream.gateway.services.image_fetcher import ImageFetcher
from millstream.gateway.services.metrics import Metrics
from millstream.gateway.services.model_defaults import ModelDefaults
from millstream.gateway.services.request_trace import trace_of
from millstream.gateway.settings import GatewaySettings


@dataclass(frozen=True, slots=True)
class Services:
    """One gateway process."""

    settings: GatewaySettings
    cluster: ClusterServices
    keys: Keys
    aliases: Aliases
    metrics: Metrics
    background_tasks: BackgroundTasks
    drain_notifier: DrainNotifier
    images: ImageFetcher
    model_defaults: ModelDefaults

    def caller(self, request: Request) -> Caller:
        """Returns what the request's headers say of the caller. Raises `BadRequest`."""
        asking = caller(request.headers, key_of(request), self.settings)
        trace = trace_of(request.scope)
        return asking if trace is None else replace(asking, traceparent=trace.begin())

    async def model(self, asked: str) -> ModelName:
        """Returns the model with aliases resolved. Only a catch-all needs to know who is served."""
        known = frozenset[ModelName]()
        if self.aliases.catch_all is not None:
            known = frozenset(model.name for model in await self.cluster.directory.models())
        return self.aliases.resolve(asked, known)


def tenant_of(request: Request) -> str:
    """Returns the tenant whom the authentication let in."""
    return cast(str, request.scope["state"]["tenant"])


def key_of(request: Request) -> ApiKey:
    """Returns the key that the caller came with, and what it may do."""
    return cast(ApiKey, request.scope["state"]["key"])


def services_of(request: Request) -> Services:
    """Returns the services of the process that answers this request."""
    return cast(Services, request.app.state.services)


async def _services_here(request: Request) -> Services:
    """Returns the services. A coroutine, because FastAPI calls a plain function in a thread: two task switches and a
    queue per request."""
    return services_of(request)


InServices = Annotated[Services, Depends(_services_here)]
