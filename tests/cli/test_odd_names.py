"""Names are data: every command shows a model, a worker and a tenant as they are called, whatever is in the name."""

import asyncio

import pytest
from typer.testing import CliRunner, Result

from millstream.cli.main import app
from millstream.common.broker.connection.broker import Broker
from millstream.common.broker.jobs import Envelope, NewJob, submit
from millstream.common.broker.models.directory import announce
from millstream.common.broker.workers import beat
from millstream.common.job import GatewayId, JobId, JobRequest, ModelName, TextPrompt, WorkerId

NAMES = ["m[/v2]", "m[v2]", "[red]m", "通义千问", "émodèle 🦀", "a:b/c{d}", "with space", "%s%d\\n"]
PLACE = {"host": "h[/]", "pid": "1", "engine": "simulated[/x]", "state": "ready", "slots": "1", "speed": "1"}


def typed(url: str, *words: str) -> Result:
    env = {
        "MILLSTREAM_REDIS_URL": url,
        "MILLSTREAM_GATEWAY_URL": "http://127.0.0.1:9",
        "COLUMNS": "220",
        "TERM": "dumb",
    }
    return CliRunner().invoke(app, words, env=env)


async def _served(url: str, name: str) -> None:
    """A worker of one slot, and two jobs of which one waits."""
    model = ModelName(name)
    async with Broker(url) as broker:
        await announce(broker, model)
        await beat(broker, model, WorkerId("w-1"), 60_000, PLACE, [])
        envelope = Envelope(GatewayId("g"), "a[/b]", "default", timeout_ms=60_000, retention_ms=60_000)
        for number in (1, 2):
            job = NewJob(JobId(f"job-{number}"), JobRequest(TextPrompt("hi")))
            await submit(broker, model, envelope, [job])


@pytest.mark.parametrize("name", NAMES)
def test_every_listing_shows_a_name_as_it_is(redis_url: str, name: str) -> None:
    asyncio.run(_served(redis_url, name))
    for command in (["models"], ["workers"], ["jobs"], ["top", "--once"], ["doctor"]):
        shown = typed(redis_url, *command)
        assert shown.exception is None or isinstance(shown.exception, SystemExit), command
        assert name in shown.stdout, command
    assert "a[/b]" in typed(redis_url, "jobs").stdout and "a[/b]" in typed(redis_url, "top", "--once").stdout


@pytest.mark.parametrize("name", NAMES)
def test_every_command_takes_the_name(redis_url: str, name: str) -> None:
    asyncio.run(_served(redis_url, name))
    for command in (["policy", name, "prefix"], ["load", name], ["unload", name]):
        told = typed(redis_url, "models", *command)
        assert told.exit_code == 0 and name in told.stdout, command
