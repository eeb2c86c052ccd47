"""The address at which a gateway listens, and the check that it answers there."""

import asyncio
import errno
import socket
import ssl

LOOK_INTERVAL = 0.1  # seconds between two tries


class CannotStart(Exception):
    """The cluster cannot run like this; the message is for the user."""


def base_url(host: str, port: int, *, tls: bool) -> str:
    """Returns where a client on this machine reaches a gateway bound to `host`."""
    reachable = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return f"{'https' if tls else 'http'}://{reachable}:{port}"


async def answers(url: str) -> bool:
    """Tells whether a gateway's /health says 200."""
    scheme, _, place = url.partition("://")
    host, _, port = place.rpartition(":")
    tls = _any_certificate() if scheme == "https" else None
    try:
        reader, writer = await asyncio.open_connection(host.strip("[]"), int(port), ssl=tls)
        writer.write(f"GET /health HTTP/1.1\r\nHost: {place}\r\nConnection: close\r\n\r\n".encode())
        status = await reader.readline()
        writer.close()
        await writer.wait_closed()
    except OSError:
        return False
    return b" 200 " in status


async def until_it_answers(url: str) -> None:
    """Returns when `answers` does."""
    while not await answers(url):  # noqa: ASYNC110 (another process: there is no event to wait for)
        await asyncio.sleep(LOOK_INTERVAL)


def _any_certificate() -> ssl.SSLContext:
    """Returns a context that accepts any certificate. We ask a child of ours on this machine: whose name its
    certificate bears does not matter."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _remedy(error: OSError) -> str:
    if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
        return "Choose an address of this machine with --host (MILLSTREAM_HOST)."
    return "Stop what uses it, or choose another with --port (MILLSTREAM_PORT)."


def port_to_listen(host: str, port: int) -> int:
    """Returns the port to listen on. Raises `CannotStart` if it is taken."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise CannotStart(
                f"The gateway cannot listen on {host} port {port}: {error.strerror}. {_remedy(error)}"
            ) from error
        return int(probe.getsockname()[1])
