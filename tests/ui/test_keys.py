"""An administrator makes a key in the page, limits it, and revokes it."""

from pathlib import Path

import httpx
import pytest
from playwright.async_api import BrowserContext, expect

from millstream.common.broker.embedded import EmbeddedValkey
from millstream.gateway.services.connect import connect
from millstream.gateway.settings import GatewaySettings
from tests.harness.serving import serving


@pytest.mark.ui
async def test_a_key_is_made_limited_and_revoked(context: BrowserContext, tmp_path: Path) -> None:
    async with EmbeddedValkey(tmp_path / "valkey") as valkey:
        settings = GatewaySettings(redis_url=valkey.url, port=0, drain=0.5, api_keys=["admin:sk-admin"])
        async with serving(settings, connect) as url, httpx.AsyncClient(base_url=url) as http:
            page = await context.new_page()
            await page.goto(f"{url}/#/keys")
            await page.get_by_label("API key").fill("sk-admin")
            await page.get_by_role("button", name="Enter").click()
            await page.get_by_label("Tenant").fill("acme")
            await page.get_by_role("button", name="Make a key").click()
            key = await page.get_by_role("status").locator("pre.line").inner_text()
            bearer = {"authorization": f"Bearer {key}"}
            assert (await http.get("/v1/models", headers=bearer)).status_code == 200
            row = page.locator("tr", has_text="acme")
            await expect(row).to_contain_text("none")
            await row.get_by_role("button", name="Change").click()
            await page.get_by_label("Weight").fill("-1")
            await page.get_by_label("Tokens/day").fill("500")
            await page.locator("form").evaluate("form => (form.noValidate = true)")
            await page.get_by_role("button", name="Save").click()
            await expect(page.get_by_role("alert")).to_contain_text("weight")
            await page.get_by_label("Weight").fill("3")
            await page.get_by_role("button", name="Save").click()
            await expect(row).to_contain_text("500")
            [kept] = (await http.get("/v1/keys", headers={"authorization": "Bearer sk-admin"})).json()["data"]
            assert (kept["weight"], kept["limits"]["tokens_per_day"]) == (3.0, 500)
            page.on("dialog", lambda dialog: dialog.accept())
            await row.get_by_role("button", name="Revoke").click()
            await expect(page.get_by_text("No key was made.")).to_be_visible()
