"""Fetches images that clients name by address, from the hosts that the operator allows and from no others.

A client could otherwise have the gateway ask what only the gateway can reach. So the host must be allowed, each of its
addresses must be a public one (unless the operator named the host), and the connection goes to the very address that
was checked: a name that resolves to something else a moment later gains nothing.
"""

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import SplitResult, urljoin, urlsplit

import httpx
import structlog

from millstream.common.errors import BadRequest
from millstream.gateway.services.image_kinds import KINDS, WEB, as_data_url

MOST = 16  # images of one request
AT_ONCE = 16  # fetches of one gateway process
SECONDS = 15.0  # for one image, redirects included
REDIRECTS = 3
PORTS = {"http": 80, "https": 443}
NOT_ALLOWED = "its host is not one that images are fetched from here (--image-hosts)"

log = structlog.stdlib.get_logger(part="images")
IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


class _NotFetched(Exception):
    """An image could not be had; the text says why, in words for the client."""


@dataclass(frozen=True, slots=True)
class FetchedImages:
    """Images as `data:` URLs, and why others could not be had, both by address."""

    fetched: dict[str, str]
    failed: dict[str, str]


class ImageFetcher:
    """`hosts`: names, `*.example.org` for all below one, `*` for every public host; `host:port` where the port is not
    the usual one."""

    def __init__(self, hosts: Sequence[str], most_bytes: int) -> None:
        self._hosts = [host.lower() for host in hosts]
        self._most_bytes = most_bytes
        self._turn = asyncio.Semaphore(AT_ONCE)
        self._trusted: ssl.SSLContext | None = None

    async def fetch(self, sources: Iterable[str]) -> FetchedImages:
        """Fetches those of the sources that are addresses. Raises `BadRequest` for too many."""
        urls = list(dict.fromkeys(source for source in sources if source.startswith(WEB)))
        if len(urls) > MOST:
            raise BadRequest(f"The request names {len(urls)} images by address; at most {MOST} are fetched.")
        found = FetchedImages({}, {})
        await asyncio.gather(*(self._into(found, url) for url in urls))
        return found

    async def _into(self, found: FetchedImages, url: str) -> None:
        try:
            async with self._turn, asyncio.timeout(SECONDS):
                data = await self._image(url)
            if (made := await asyncio.to_thread(as_data_url, data)) is None:
                raise _NotFetched(f"what is there is no {KINDS} image")
            found.fetched[url] = made
        except _NotFetched as error:
            found.failed[url] = f"the image could not be fetched: {error}"
        except TimeoutError:
            found.failed[url] = f"the image could not be fetched within {SECONDS:.0f} seconds"
        except httpx.HTTPError as error:
            log.info("image_not_fetched", error=str(error) or type(error).__name__)
            found.failed[url] = "the image could not be fetched: its host does not answer well"

    async def _image(self, url: str) -> bytes:
        if self._trusted is None:
            self._trusted = await asyncio.to_thread(ssl.create_default_context)
        async with httpx.AsyncClient(verify=self._trusted, trust_env=False, timeout=SECONDS) as client:
            for _ in range(REDIRECTS + 1):
                data, onward = await self._asked(client, url)
                if onward is None:
                    return data
                url = urljoin(url, onward)
        raise _NotFetched("it is redirected too often")

    async def _asked(self, client: httpx.AsyncClient, url: str) -> tuple[bytes, str | None]:
        """Returns the image, or where it is said to be."""
        parts = _parts(url)
        host, port = parts.hostname or "", parts.port or PORTS[parts.scheme]
        address = await self._checked(host, port, usual=port == PORTS[parts.scheme])
        literal = f"[{address}]" if address.version == 6 else str(address)
        there = parts._replace(netloc=f"{literal}:{port}", fragment="").geturl()
        headers = {"host": parts.netloc, "accept": "image/*", "accept-encoding": "identity"}
        async with client.stream("GET", there, headers=headers, extensions={"sni_hostname": host}) as response:
            if response.is_redirect:
                return b"", response.headers["location"]
            if response.status_code != 200:
                raise _NotFetched(f"its host answered {response.status_code}")
            data = bytearray()
            async for block in response.aiter_raw():
                data += block
                if len(data) > self._most_bytes:
                    raise _NotFetched(f"it is larger than {self._most_bytes} bytes")
            return bytes(data), None

    async def _checked(self, host: str, port: int, *, usual: bool) -> IpAddress:
        """Returns the address to connect to."""
        named = self._named(host, port, usual=usual)
        if not named and not ("*" in self._hosts and usual):
            raise _NotFetched(NOT_ALLOWED)
        try:
            told = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise _NotFetched("its host is not known") from error
        addresses = [ipaddress.ip_address(str(each[4][0]).partition("%")[0]) for each in told]
        if not named and not all(map(_public, addresses)):
            raise _NotFetched(NOT_ALLOWED)
        return addresses[0]

    def _named(self, host: str, port: int, *, usual: bool) -> bool:
        for pattern in self._hosts:
            name, _, wanted = pattern.partition(":")
            if (wanted != str(port)) if wanted else not usual:
                continue
            if name == host or (name.startswith("*.") and host.endswith(name[1:])):
                return True
        return False


def _parts(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise _NotFetched("its address is no address") from error
    if parts.scheme not in PORTS or not parts.hostname or parts.username is not None:
        raise _NotFetched("its address is no plain http or https address")
    return parts


def _public(address: IpAddress) -> bool:
    """Tells whether an address is one of the public network's, whatever is wrapped in it."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo and address.teredo[1])
        if inner:
            return _public(inner)
        if address in ipaddress.ip_network("64:ff9b::/96"):
            return _public(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return address.is_global and not address.is_multicast
