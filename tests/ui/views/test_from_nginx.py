"""The page as static files from nginx: its origin is not the gateway's, so the browser asks whether it may read."""

import asyncio
import os
import shutil
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from playwright.async_api import BrowserContext, Page, expect

from millstream.common.broker.embedded import free_port
from millstream.gateway.services.connect import connect
from millstream.gateway.settings import GatewaySettings
from millstream.gateway.ui.route import FOLDER, HEADERS, POLICY
from tests.deploy.test_nginx import AROUND, NGINX, adapted
from tests.harness.serving import serving
from tests.harness.support import wait_until
from tests.ui.conftest import Scene, begun, done, say, set_up, words_of

pytestmark = [pytest.mark.ui, pytest.mark.skipif(NGINX is None, reason="nginx is not installed")]
CONF = Path(__file__).parents[3] / "deploy" / "nginx" / "page.conf"
EMPTY = 'name="millstream-api" content=""'


def installed(room: Path, api: str) -> Path:
    """Lays the files out as gateway/ui/README.md says, with the gateway's address in the page."""
    site = room / "site"
    shutil.copytree(FOLDER, site / "ui")
    index = (site / "ui" / "index.html").rename(site / "index.html")
    text = index.read_text()
    assert EMPTY in text
    index.write_text(text.replace(EMPTY, f'name="millstream-api" content="{api}/"'))
    return site


@asynccontextmanager
async def nginx(room: Path, port: int, api: str) -> AsyncGenerator[str]:
    """Yields the address of the page that asks the gateway at `api`."""
    changes = {
        "listen 443 ssl;": f"listen 127.0.0.1:{port};",
        "ssl_certificate     /etc/nginx/tls/fullchain.pem;": "",
        "ssl_certificate_key /etc/nginx/tls/privkey.pem;": "",
        "/srv/millstream-page": str(installed(room, api)),
        "https://llm.example.org;": f"{api};",
    }
    (room / "millstream.conf").write_text(adapted(CONF.read_text(), changes))
    user = "user root;" if os.geteuid() == 0 else ""
    (room / "nginx.conf").write_text(AROUND.format(room=room, user=user))
    assert NGINX is not None
    process = await asyncio.create_subprocess_exec(NGINX, "-p", str(room), "-c", str(room / "nginx.conf"))
    url = f"http://127.0.0.1:{port}"
    try:
        async with httpx.AsyncClient() as http:
            await wait_until(lambda: _answers(http, url), what="nginx answers")
        yield url
    finally:
        process.terminate()
        await process.wait()


async def _answers(http: httpx.AsyncClient, url: str) -> bool:
    try:
        return (await http.get(url)).status_code == 200
    except httpx.ConnectError:
        return False


def gateway(scene: Scene, origins: list[str]) -> GatewaySettings:
    keys = ["acme:sk-acme-secret"]
    return GatewaySettings(redis_url=scene.broker.url, port=0, drain=0.5, api_keys=keys, cors_origins=origins)


async def enter(page: Page, url: str) -> None:
    await page.goto(f"{url}/")
    await page.get_by_label("API key").fill("sk-acme-secret")
    await page.get_by_role("button", name="Enter").click()
    await page.get_by_placeholder("Ask something").wait_for()


async def test_the_page_of_another_origin_talks_reloads_and_deletes(
    context: BrowserContext, scene: Scene, tmp_path: Path
) -> None:
    port = free_port()
    async with serving(gateway(scene, [f"http://127.0.0.1:{port}"]), connect) as api, nginx(tmp_path, port, api) as url:
        page = await context.new_page()
        await enter(page, url)
        await set_up(page, Most_tokens="120", Seed="17")
        await say(page, "from elsewhere")
        await begun(page)
        await page.reload()  # its id came in a header that a page of another origin may read
        await done(page)
        assert await words_of(page) == (await scene.answer("from elsewhere", max_tokens=120, seed=17)).split()
        await expect(page.get_by_role("complementary")).to_contain_text("found again with the same key")
        await page.get_by_role("link", name="life").click()
        assert page.url.startswith(f"{url}/#/cluster/")
        await expect(page.locator(".life .strip")).to_contain_text("waited")
        await page.goto(f"{url}/#/chat")
        await page.get_by_role("button", name="Delete: from elsewhere").click()
        await expect(page.get_by_role("button", name="Delete: from elsewhere")).to_have_count(0)


async def test_a_gateway_that_does_not_know_the_origin_is_not_read(
    context: BrowserContext, scene: Scene, tmp_path: Path
) -> None:
    port = free_port()
    async with serving(gateway(scene, ["https://page.example.org"]), connect) as api, nginx(tmp_path, port, api) as url:
        page = await context.new_page()
        await page.goto(f"{url}/")
        await expect(page.get_by_text("The gateway does not answer.")).to_be_visible()
        await expect(page.get_by_label("API key")).to_have_count(0)


async def test_nginx_sends_what_a_gateway_sends(scene: Scene, tmp_path: Path) -> None:
    async with nginx(tmp_path, free_port(), scene.url) as url, httpx.AsyncClient(base_url=url) as http:
        for path in ("/", "/ui/app.js", "/ui/nothing.js"):
            sent = (await http.get(path)).headers
            policy = POLICY.replace("connect-src 'self'", f"connect-src 'self' {scene.url}")
            assert sent["content-security-policy"] == policy
            for name in HEADERS.keys() - {"content-security-policy"}:
                assert sent[name] == HEADERS[name]
        kinds = {path: (await http.get(path)).headers["content-type"] for path in ("/ui/app.js", "/ui/style.css")}
        assert set(kinds.values()) == {"text/javascript; charset=utf-8", "text/css; charset=utf-8"}
        for hidden in ("/index.html", "/nginx.conf", "/ui/", "/ui/../nginx.conf"):
            assert (await http.get(hidden)).status_code == 404
