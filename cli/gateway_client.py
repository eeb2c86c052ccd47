"""The options with which a command reaches a gateway."""

from typing import TypedDict

import httpx

from millstream.cli.settings import ClientSettings
from millstream.common.process.addresses import loopback


class ClientOptions(TypedDict):
    """Arguments of httpx's clients, of either kind."""

    base_url: str
    headers: dict[str, str]
    trust_env: bool


def client_options(settings: ClientSettings) -> ClientOptions:
    """Returns what a client of the gateway begins with. A proxy of the environment is for other machines: none can
    reach this one's loopback."""
    headers = {"Authorization": f"Bearer {settings.api_key}"} if settings.api_key else {}
    return {"base_url": settings.gateway_url, "headers": headers, "trust_env": not _on_loopback(settings.gateway_url)}


def _on_loopback(url: str) -> bool:
    host = httpx.URL(url).host
    return loopback(host) or host.endswith(".localhost")
