"""Every route the gateway has: those of the APIs, and those that ask for its health."""

from millstream.gateway.apis.endpoint import Api
from millstream.gateway.apis.registry import APIS
from millstream.gateway.http import health

SERVED = (*APIS, Api(health.router))
ROUTERS = tuple(api.router for api in SERVED)
