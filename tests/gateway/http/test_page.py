"""The page's files are for everybody, under a policy that lets nothing else in; the API below them is not."""

import re
from pathlib import Path

import httpx
import pytest

from millstream.gateway.ui.route import FOLDER
from tests.gateway.conftest import gateway
from tests.gateway.scripted import ScriptedCluster

FILES = sorted(path.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("*.*") if not path.name.endswith(".d.ts"))
IMPORT = re.compile(r"""^import .*?from "(.+?)";$""", re.MULTILINE)


async def test_the_page_needs_no_key_and_the_api_does(cluster: ScriptedCluster) -> None:
    async with gateway(cluster, api_keys=["acme:sk-acme"]) as url, httpx.AsyncClient(base_url=url) as http:
        for path in ("/", "/ui", *(f"/ui/{file}" for file in FILES)):
            answer = await http.get(path)
            assert answer.status_code == 200, path
            assert "default-src 'none'" in answer.headers["content-security-policy"]
            assert answer.headers["x-content-type-options"] == "nosniff"
        for path in (
            "/v1/cluster",
            "/v1/jobs",
            "/v1/keys",
            "/v1/arena/votes",
            "/v1/cluster/events",
            "/ui2",
            "/uix/app.js",
        ):
            assert (await http.get(path)).status_code == 401


async def test_what_a_browser_has_is_not_sent_again(http: httpx.AsyncClient) -> None:
    first = await http.get("/ui/app.js")
    again = await http.get("/ui/app.js", headers={"if-none-match": first.headers["etag"]})
    assert first.headers["content-type"].startswith("text/javascript")
    assert (again.status_code, again.content) == (304, b"")
    assert (await http.head("/")).status_code == 200


async def test_below_a_prefix_its_addresses_begin_with_the_prefix(cluster: ScriptedCluster) -> None:
    async with gateway(cluster, root_path="/llm") as url, httpx.AsyncClient(base_url=url) as http:
        for path in ("/llm", "/llm/", "/"):
            assert '<base href="/llm/">' in (await http.get(path)).text
        assert (await http.get("/llm/ui/app.js")).status_code == 200


async def test_a_page_of_another_site_cannot_ask_through_it(http: httpx.AsyncClient) -> None:
    foreign = {"origin": "https://evil.example", "sec-fetch-site": "cross-site"}
    for path in ("/v1/jobs/x/cancel", "/v1/workers/x/kill", "/v1/keys", "/v1/arena/votes"):
        assert (await http.post(path, headers=foreign, json={})).status_code == 403
    assert (await http.get("/", headers={"host": "evil.example"})).status_code == 403


@pytest.mark.parametrize("file", [file for file in FILES if file.endswith(".js") and "vendor" not in file])
def test_a_module_imports_files_that_are_there_and_nothing_else(file: str) -> None:
    source = (FOLDER / file).read_text()
    for name in IMPORT.findall(source):
        assert name.startswith("."), name
        assert (FOLDER / file).parent.joinpath(name).resolve().is_file(), name
    assert not re.search(r"innerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|https?://", source)
    assert len(source.splitlines()) <= 300


def test_every_vendored_module_has_its_licence() -> None:
    vendored = {path.name for path in Path(FOLDER / "vendor").iterdir()}
    licences = {name.split(".")[1] for name in vendored if name.startswith("LICENSE.")}
    assert {"htm", "preact", "marked", "dompurify"} <= licences
