"""Every route the gateway has: those of the APIs, those that ask for its health, and the web page."""

from millstream.gateway.apis.endpoint import Api
from millstream.gateway.apis.registry import APIS
from millstream.gateway.http import health
from millstream.gateway.ui import descriptions
from millstream.gateway.ui import route as ui

SERVED = (*APIS, Api(health.router), Api(descriptions.router), Api(ui.router))
ROUTERS = tuple(api.router for api in SERVED)
