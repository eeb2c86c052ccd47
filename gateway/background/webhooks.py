"""Telling others of ends: events in OpenAI's shape, signed in the Standard Webhooks way, tried again for about a day.

The same event has the same id whoever tells it: a receiver that is told twice (a process died in between) can see it.
"""

import asyncio
import base64
import binascii
import hashlib
import hmac
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass

import httpx
import msgspec
import structlog

from millstream.common.broker.records.pending import Pending
from millstream.gateway.background.settings import BackgroundSettings

FIRST_PAUSE, LONGEST_PAUSE = 5.0, 4 * 3600.0  # seconds between tries: 5 s, 20 s, 80 s, ... up to four hours
TIMEOUT = 15.0  # seconds a receiver has to answer
GONE = 410  # the receiver says that nobody wants it any more
log = structlog.stdlib.get_logger(part="webhooks")


@dataclass(frozen=True, slots=True)
class WebhookDelivery:
    """One event for one receiver. `body` is the JSON that is signed and sent."""

    event: str  # its id
    url: str
    body: str
    tried: int = 0

    @property
    def id(self) -> str:
        """Returns the id of this try; the same whoever makes it."""
        return f"webhook:{self.event}:{hashlib.sha256(self.url.encode()).hexdigest()[:12]}:{self.tried}"


def parse_receivers(entries: list[str]) -> list[tuple[str, str]]:
    """Reads the receivers, `tenant=url` each. Raises `ValueError`."""
    pairs = [(tenant, url) for tenant, _, url in (entry.partition("=") for entry in entries)]
    for index, (tenant, url) in enumerate(pairs):
        if not tenant or not _sendable(url):
            raise ValueError(f"webhooks[{index}] (MILLSTREAM_WEBHOOKS): expected `tenant=https://...`")
    return pairs


def _sendable(url: str) -> bool:
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        return False
    return parsed.scheme in ("https", "http") and bool(parsed.host)


def secret_bytes(text: str) -> bytes:
    """Returns the key of the signatures. Raises `ValueError`."""
    try:
        found = base64.b64decode(text.removeprefix("whsec_"), validate=True)
    except binascii.Error:
        found = b""
    if len(found) < 16:
        raise ValueError(
            "webhook_secret (MILLSTREAM_WEBHOOK_SECRET): expected `whsec_` and at least 16 bytes in base64"
        )
    return found


def signature(secret: bytes, event: str, seconds: int, body: str) -> str:
    """Returns the signature that https://www.standardwebhooks.com defines."""
    signed = hmac.new(secret, f"{event}.{seconds}.{body}".encode(), hashlib.sha256).digest()
    return f"v1,{base64.b64encode(signed).decode()}"


def pause_after(tried: int) -> float:
    """Returns the seconds until the next try, when `tried` have failed; a little random, so that many do not come back
    in step."""
    return min(FIRST_PAUSE * 4 ** (tried - 1), LONGEST_PAUSE) * random.uniform(0.8, 1.2)


def mailbox() -> httpx.AsyncClient:
    """Returns the HTTP client for all webhooks: there is one, as a TLS context takes long to make; no connection is
    kept."""
    return httpx.AsyncClient(timeout=TIMEOUT, limits=httpx.Limits(max_keepalive_connections=0))


class Webhooks:
    """The receivers, as the settings name them. Raises `ValueError` for settings that cannot be meant."""

    def __init__(self, settings: BackgroundSettings, pending: Pending, http: httpx.AsyncClient) -> None:
        self._receivers = parse_receivers(settings.webhooks)
        self._secret = secret_bytes(settings.webhook_secret.get_secret_value()) if self._receivers else b""
        self._tries = settings.webhook_tries
        self._pending = pending
        self._http = http

    def deliveries(self, tenant: str, kind: str, subject: str) -> list[WebhookDelivery]:
        """Returns what is to be sent when `subject` (a batch, a response) has come to its end: `kind` is
        `batch.completed`."""
        urls = [url for owner, url in self._receivers if owner in ("*", tenant)]
        event = f"evt_{hashlib.sha256(f'{subject}:{kind}'.encode()).hexdigest()[:32]}"
        told = {"id": event, "object": "event", "created_at": int(time.time()), "type": kind, "data": {"id": subject}}
        body = msgspec.json.encode(told).decode()
        return [WebhookDelivery(event, url, body) for url in urls]

    async def deliver(self, delivery: WebhookDelivery) -> tuple[WebhookDelivery, float] | None:
        """Tries once. If that failed, returns the delivery to try again, and in how many seconds; after the last try it
        is stored as undeliverable."""
        reason = await self._post(delivery)
        if not reason:
            return None
        tried = WebhookDelivery(delivery.event, delivery.url, delivery.body, delivery.tried + 1)
        log.warning(
            "webhook_not_delivered", event_id=delivery.event, url=delivery.url, tried=tried.tried, reason=reason
        )
        if tried.tried < self._tries and reason != f"status {GONE}":
            return tried, pause_after(tried.tried)
        dead: Mapping[str, str] = {"event": tried.event, "url": tried.url, "reason": reason, "body": tried.body}
        await self._pending.keep_dead(dead)
        return None

    async def _post(self, delivery: WebhookDelivery) -> str:
        """Returns why it was not delivered; empty if it was."""
        now = int(time.time())
        headers = {
            "content-type": "application/json",
            "user-agent": "millstream",
            "webhook-id": delivery.event,
            "webhook-timestamp": str(now),
            "webhook-signature": signature(self._secret, delivery.event, now, delivery.body),
        }
        try:
            # The whole exchange has so long, not each byte of it; beyond the status the answer is not read.
            async with (
                asyncio.timeout(TIMEOUT),
                self._http.stream("POST", delivery.url, content=delivery.body, headers=headers) as response,
            ):
                return "" if response.is_success else f"status {response.status_code}"
        except TimeoutError:
            return f"no answer within {TIMEOUT:g} s"
        except httpx.HTTPError as error:
            return str(error) or type(error).__name__
