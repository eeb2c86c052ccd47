"""deploy/nginx/millstream.conf as it is, but for its addresses and paths, in a real nginx before real gateways."""

import asyncio
import os
import shutil
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from millstream.common.broker.embedded import EmbeddedValkey, free_port
from tests.harness.cluster import CHAT, Cluster, all_exact, body, cluster, heard_some
from tests.harness.support import wait_until

CONF = Path(__file__).parents[2] / "deploy" / "nginx" / "millstream.conf"
NGINX = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
pytestmark = pytest.mark.skipif(NGINX is None, reason="nginx is not installed: apt-get install nginx-light")
AROUND = """daemon off; worker_processes 1; pid {room}/nginx.pid; error_log {room}/error.log; {user}
events {{ worker_connections 256; }}
http {{
    access_log {room}/access.log;
    client_body_temp_path {room}/body; proxy_temp_path {room}/proxy; fastcgi_temp_path {room}/fastcgi;
    uwsgi_temp_path {room}/uwsgi; scgi_temp_path {room}/scgi;
    include {room}/millstream.conf;
}}
"""


def trusting(certificate: Path) -> httpx.AsyncClient:
    return httpx.AsyncClient(verify=ssl.create_default_context(cafile=str(certificate)), timeout=60)


def adapted(text: str, changes: dict[str, str]) -> str:
    """The configuration with its addresses and paths replaced; each of them must be there."""
    for old, new in changes.items():
        assert old in text, old
        text = text.replace(old, new)
    return text


@asynccontextmanager
async def nginx(room: Path, tls: tuple[Path, Path], gateways: list[str]) -> AsyncIterator[tuple[str, str]]:
    """Yields nginx's https and its http address."""
    room.mkdir()
    secure, plain = free_port(), free_port()
    changes = {
        "127.0.0.1:8000": gateways[0].removeprefix("http://"),
        "127.0.0.1:8001": gateways[1].removeprefix("http://"),
        "listen 443 ": f"listen 127.0.0.1:{secure} ",
        "listen 80;": f"listen 127.0.0.1:{plain};",
        "/etc/nginx/tls/fullchain.pem": str(tls[0]),
        "/etc/nginx/tls/privkey.pem": str(tls[1]),
    }
    (room / "millstream.conf").write_text(adapted(CONF.read_text(), changes))
    user = "user root;" if os.geteuid() == 0 else ""
    (room / "nginx.conf").write_text(AROUND.format(room=room, user=user))
    assert NGINX is not None
    process = await asyncio.create_subprocess_exec(NGINX, "-p", str(room), "-c", str(room / "nginx.conf"))
    try:
        async with httpx.AsyncClient() as http:
            await wait_until(lambda: answers(http, f"http://127.0.0.1:{plain}"), what="nginx answers")
        yield f"https://127.0.0.1:{secure}", f"http://127.0.0.1:{plain}"
    finally:
        process.terminate()
        await process.wait()


async def answers(http: httpx.AsyncClient, url: str) -> bool:
    try:
        return (await http.get(url)).status_code == 308
    except httpx.ConnectError:
        return False


@pytest_asyncio.fixture
async def site(own_valkey: EmbeddedValkey, tmp_path: Path) -> AsyncIterator[Cluster]:
    async with cluster(own_valkey, tmp_path) as made:
        for start in (made.gateway, made.gateway, made.worker):
            await start()
        yield made


@pytest_asyncio.fixture
async def door(site: Cluster, tmp_path: Path, certificate: tuple[Path, Path]) -> AsyncIterator[Cluster]:
    """The cluster behind nginx; its `http` speaks to the certificate."""
    gateways = [part.url for part in site.fleet.parts if part.url]
    async with nginx(tmp_path / "nginx", certificate, gateways) as (url, plain), trusting(certificate[0]) as http:
        http.base_url = httpx.URL(url)
        http.headers["x-plain"] = plain
        yield replace(site, http=http)


async def test_events_leave_when_they_come_and_leaving_is_told(door: Cluster) -> None:
    endless = body(stream=True, max_tokens=100_000)
    headers = {"accept-encoding": "gzip"}
    async with door.http.stream("POST", CHAT, json=endless, headers=headers) as response:
        assert response.status_code == 200 and "content-encoding" not in response.headers
        lines = response.aiter_lines()
        async for line in lines:
            if '"content":"' in line:
                break
        assert [job["state"] for job in await door.jobs()] == ["running"]  # the first words are here, the last far away
    await wait_until(door.idle, what="the worker hears that the client left")


async def test_streams_go_on_through_it_when_a_gateway_dies(door: Cluster) -> None:
    url = str(door.http.base_url).rstrip("/")
    clients = [door.client(url, 150) for _ in range(6)]
    running = [asyncio.create_task(client.run()) for client in clients]
    for client in clients:
        await heard_some(client)
    held = [job["gateway"] for job in await door.jobs()]
    assert len(set(held)) == 2  # both gateways have streams
    await next(part for part in door.fleet.parts if part.url).kill()
    await all_exact(clients, running)
    assert any(client.heard.connections > 1 for client in clients)
    for _ in range(4):  # and new ones do not meet the dead one
        assert (await door.http.post(CHAT, json=body(max_tokens=2))).status_code == 200


async def test_limits_uploads_and_closed_doors(door: Cluster) -> None:
    large = await door.http.post(CHAT, json=body(user="x" * (17 * 2**20)))
    assert large.status_code == 413 and large.json()["error"]["code"] == "request_too_large"
    form = {"file": ("lines.jsonl", b'{"a": 1}\n' * 200_000)}
    upload = await door.http.post("/v1/files", files=form, data={"purpose": "batch"})
    assert upload.status_code == 200 and upload.json()["bytes"] == 1_800_000
    for spelling in ("/metrics", "/metrics/", "/metrics//", "//metrics", "/v1/../metrics", "/%6detrics"):
        address = door.http.base_url.copy_with(raw_path=spelling.encode())  # as it is: "//metrics" alone names a host
        assert (await door.http.get(address)).status_code == 404, spelling
    assert (await door.http.get("/ready")).status_code == 200
    sent = await door.http.post(f"{door.http.headers['x-plain']}{CHAT}", json=body())
    assert sent.status_code == 308 and sent.headers["location"] == f"https://127.0.0.1{CHAT}"
