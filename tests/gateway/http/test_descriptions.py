"""The API's description for people: all of it comes from the gateway itself."""

import re

import httpx
import pytest

from millstream.gateway.ui.descriptions import INLINE


@pytest.mark.parametrize(("path", "parts"), [("/docs", 3), ("/redoc", 2)])
async def test_a_description_asks_nobody_else(http: httpx.AsyncClient, path: str, parts: int) -> None:
    page = await http.get(path)
    named = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert page.status_code == 200 and len(named) == parts
    for name in named:
        part = await http.get(name)
        assert name.startswith("/") and part.status_code == 200 and len(part.content) > 100
    policy = page.headers["content-security-policy"]
    assert "http" not in policy and len(INLINE.findall(page.content)) == policy.count("sha256-")


@pytest.mark.parametrize("name", ["nothing.js", "../__init__.py", "..%2F__init__.py", "%2Fetc%2Fpasswd", "favicon.png"])
async def test_nothing_else_of_the_package_is_served(http: httpx.AsyncClient, name: str) -> None:
    assert (await http.get(f"/ui/described/{name}")).status_code == 404
