"""The caller as the request's headers tell: who asks, for how long, and whether it is a new request or one to go on
with."""

from dataclasses import dataclass
from hashlib import blake2b

from starlette.datastructures import Headers

from millstream.common.broker.accounts.keyring import ApiKey
from millstream.common.errors import BadRequest
from millstream.gateway.settings import GatewaySettings

SDK_KEY = "stainless-"  # so begin the keys that generated SDKs make for their own retries, where they send any


@dataclass(frozen=True, slots=True)
class Caller:
    """A request's caller, and how it is to be served. `resumable`: its jobs run on when the connection is lost."""

    key: ApiKey
    timeout: float  # seconds until the deadline
    idempotency_key: str | None = None
    last_event_id: str | None = None
    resumable: bool = False
    session: str = ""
    prefixes_shared: bool = False  # with other tenants
    traceparent: str = ""  # of the request's own span; empty: it is not traced

    @property
    def tenant(self) -> str:
        """Returns the tenant that pays."""
        return self.key.tenant

    @property
    def cache_salt(self) -> str:
        """Returns what keeps a prompt's beginnings apart from other tenants'; empty where they are shared on
        purpose."""
        return "" if self.prefixes_shared else blake2b(self.tenant.encode(), digest_size=8).hexdigest()


def caller(headers: Headers, owner: ApiKey, settings: GatewaySettings) -> Caller:
    """Raises `BadRequest` naming the header at fault."""
    key = headers.get("idempotency-key")
    if key is not None and not 0 < len(key) <= 255:
        raise BadRequest("Invalid 'Idempotency-Key': expected 1 to 255 characters.", param="Idempotency-Key")
    return Caller(
        key=owner,
        timeout=_timeout(headers.get("x-request-timeout"), settings),
        idempotency_key=key,
        last_event_id=headers.get("last-event-id") or None,
        resumable=_resumable(headers.get("x-millstream-resumable"), key, settings),
        session=headers.get("x-session-id", "")[:256],
        prefixes_shared=settings.share_prefixes,
    )


def _timeout(value: str | None, settings: GatewaySettings) -> float:
    """Returns the seconds that the client asked for, up to the longest granted. `x-stainless-timeout` is not read: it
    bounds the wait for the next byte of a stream, not the request."""
    if value is None:
        return settings.request_timeout
    try:
        seconds = float(value)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise BadRequest("Invalid 'x-request-timeout': expected seconds above 0.", param="x-request-timeout")
    return min(seconds, settings.max_request_timeout)


def _resumable(value: str | None, key: str | None, settings: GatewaySettings) -> bool:
    """Tells whether the client means to come back: one that chose an Idempotency-Key itself does; an SDK's own key says
    nothing."""
    if value is None:
        return settings.resumable or (key is not None and not key.startswith(SDK_KEY))
    if value.lower() not in ("true", "false", "1", "0"):
        message = "Invalid 'x-millstream-resumable': expected true or false."
        raise BadRequest(message, param="x-millstream-resumable")
    return value.lower() in ("true", "1")
