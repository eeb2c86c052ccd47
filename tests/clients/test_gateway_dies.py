"""The gateway is killed in the middle of an agent's turn and started again: the agent's own retry goes on, and what the
cut answer began to ask for is done once."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from millstream.bench.chaos.fleet import Fleet, FleetPart
from millstream.common.broker.embedded import EmbeddedValkey
from tests.clients.agents import aider, call, claude, cline, codex, continue_cli, listing, opencode, qwen
from tests.clients.conftest import PATIENCE, ServedSite, script, scripts
from tests.harness.support import wait_until

APPEND = "printf '%s\\n' {} >> log.txt"
ROUTES = ("/v1/chat/completions", "/v1/responses", "/v1/messages")
SLOW = 25  # bytes of an answer per second: the kill falls into its middle
pytestmark = [pytest.mark.clients, pytest.mark.timeout(300)]

Run = Callable[..., str]
AGENTS: dict[str, tuple[Run, Callable[[str], dict[str, Any]]]] = {
    "codex": (codex, lambda command: call("exec_command", cmd=command)),
    "claude": (claude, lambda command: call("Bash", command=command)),
    "opencode": (opencode, lambda command: call("bash", command=command, description="Appends.")),
    "continue": (continue_cli, lambda command: call("Bash", command=command)),
}


@dataclass
class MortalSite:
    """A cluster whose gateway can be killed and started again at the same address."""

    fleet: Fleet
    gateway: FleetPart

    @property
    def served(self) -> ServedSite:
        return ServedSite(self.gateway.url, "simulated")

    async def answering(self) -> bool:
        """Tells whether an answer has begun and not ended."""
        async with httpx.AsyncClient() as http:
            families = text_string_to_metric_families((await http.get(f"{self.gateway.url}/metrics")).text)
        samples = [sample for family in families for sample in family.samples]
        begun = sum(sample.value for sample in samples if sample.name == "millstream_gateway_answers_total")
        ended = [
            sample.value
            for sample in samples
            if sample.name == "millstream_gateway_requests_total"
            and (sample.labels["route"], sample.labels["status"]) in [(route, "200") for route in ROUTES]
        ]
        return begun > sum(ended)

    async def start_again(self) -> None:
        """Starts another gateway where the one that was killed listened."""
        self.gateway = await self.fleet.gateway(port=self.gateway.url.rpartition(":")[2])


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[MortalSite]:
    async with EmbeddedValkey(tmp_path / "valkey") as valkey, Fleet(tmp_path / "logs", valkey.url) as fleet:
        found = MortalSite(fleet, await fleet.gateway())
        await fleet.worker(model="simulated")

        async def served() -> bool:
            models = (await http.get("/v1/models")).json()["data"]
            return any(model["workers"] for model in models)

        async with httpx.AsyncClient(base_url=found.gateway.url) as http:
            await wait_until(served, within=PATIENCE, what="the worker serves its model")
        yield found


async def killed_meanwhile(site: MortalSite, begun: Callable[[], bool], run: Callable[[], str]) -> asyncio.Task[str]:
    """Runs an agent; once `begun` and in the middle of an answer, kills the gateway. Returns the run, not yet ended."""
    agent = asyncio.create_task(asyncio.to_thread(run))

    async def in_the_middle() -> bool:
        assert not agent.done(), await agent
        return begun() and await site.answering()

    await wait_until(in_the_middle, within=PATIENCE, what="the agent is answered")
    await site.gateway.kill()
    return agent


@pytest.mark.parametrize("name", AGENTS)
async def test_an_agent_goes_on(site: MortalSite, project: Path, name: str) -> None:
    agent, command = AGENTS[name]
    log = project / "log.txt"
    turns = scripts(
        {"tool_calls": [command(APPEND.format("one"))]},
        {"text": "I go on with it.", "tool_calls": [command(APPEND.format("two"))], "rate": SLOW},
        {"text": "All done."},
    )
    served = site.served
    run = await killed_meanwhile(site, log.exists, lambda: agent(served, project, turns))
    await site.start_again()
    said = await run
    assert "All done." in said and log.read_text() == "one\ntwo\n"


async def test_aider_goes_on(site: MortalSite, project: Path) -> None:
    commits, served = project / ".git" / "logs" / "HEAD", site.served

    def first_edit_is_over() -> bool:
        """Tells whether the file is committed as it was and as the first answer made it."""
        return commits.exists() and len(commits.read_text().splitlines()) == 2

    messages = [script(text=listing("three")), script(text=listing("four"), rate=SLOW)]
    run = await killed_meanwhile(site, first_edit_is_over, lambda: aider(served, project, *messages))
    await site.start_again()
    said = await run
    assert (project / "b.txt").read_text() == "one\nfour\n" and said.count("Applied edit to b.txt") == 2


def qwen_goes_on(site: ServedSite, project: Path, message: str) -> str:
    return qwen(site, project, message, "--continue")


def by_qwen(command: str) -> dict[str, Any]:
    return call("run_shell_command", command=command, is_background=False)


def by_cline(command: str) -> dict[str, Any]:
    return call("run_commands", commands=[command])


@pytest.mark.parametrize(("agent", "goes_on", "by"), [(qwen, qwen_goes_on, by_qwen), (cline, cline, by_cline)])
async def test_an_agent_that_gives_up_is_continued(
    site: MortalSite, project: Path, agent: Run, goes_on: Run, by: Callable[[str], dict[str, Any]]
) -> None:
    """Qwen Code asks again only for streams that end, Cline only at once: while no gateway is there, they say so and
    have done nothing by halves. Qwen Code goes on with its session afterwards, Cline's next run works."""
    log, served = project / "log.txt", site.served
    one, two = by(APPEND.format("one")), by(APPEND.format("two"))
    turns = scripts({"tool_calls": [one]}, {"text": "I go on.", "tool_calls": [two], "rate": SLOW})
    run = await killed_meanwhile(site, log.exists, lambda: agent(served, project, turns))
    with pytest.raises(AssertionError, match=r"(?i)error"):
        await run
    assert log.read_text() == "one\n"
    await site.start_again()
    again = scripts({"tool_calls": [two]}, {"text": "All done."})
    assert "All done." in await asyncio.to_thread(goes_on, served, project, again)
    assert log.read_text() == "one\ntwo\n"
