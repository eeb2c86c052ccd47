"""Recordings through a gateway, Redis and workers, asked for with OpenAI's client: every format, and a worker killed
between two slices."""

import asyncio
import warnings
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import pytest_asyncio

from millstream.bench.chaos.fleet import FleetPart
from millstream.common.broker import keys
from millstream.common.broker.models.directory import model_info
from millstream.common.broker.models.inspection import live_jobs
from millstream.common.job import JobId, ModelName
from tests.harness.cluster import PATIENCE, Cluster
from tests.harness.support import wait_until
from tests.worker.engines.kinds.speech.tiny_whisper import make, noise, wav

MODEL = ModelName("tiny-whisper")
SHORT, LONG = wav(noise(8)), wav(noise(800))


async def served(site: Cluster, folder: Path, count: int) -> list[FleetPart]:
    """Starts so many workers, and returns once all have announced themselves."""
    make(folder / MODEL)
    settings = {"engine": "transformers", "model": str(folder / MODEL), "device": "cpu", "threads": "1", "lease": "3.0"}
    workers = [await site.fleet.worker(**settings) for _ in range(count)]

    async def all_there() -> bool:
        return sum(worker.alive for worker in (await model_info(site.broker, MODEL)).workers) == count

    await wait_until(all_there, within=PATIENCE, what="the workers announce themselves")
    return workers


@pytest_asyncio.fixture
async def client(site: Cluster) -> AsyncIterator[openai.AsyncOpenAI]:
    gateway = await site.gateway()
    async with openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="none", max_retries=0) as made:
        yield made


def recording(file: bytes) -> Any:
    return ("rain.wav", file, "audio/wav")


async def test_every_format(site: Cluster, client: openai.AsyncOpenAI, tmp_path: Path) -> None:
    await served(site, tmp_path, 1)
    asked: dict[str, Any] = {"model": MODEL, "file": recording(SHORT)}
    plain = await client.audio.transcriptions.create(**asked)
    assert plain.text
    assert plain.usage is not None
    assert (plain.usage.type, plain.usage.seconds) == ("duration", 8)
    told = await client.audio.transcriptions.create(
        **asked, response_format="verbose_json", timestamp_granularities=["segment"]
    )
    assert (told.duration, told.text) == (8.0, plain.text)
    assert told.language in ("english", "german")
    assert told.segments
    assert "".join(each.text for each in told.segments).strip() == plain.text
    assert [each.id for each in told.segments] == list(range(len(told.segments)))
    assert all(each.tokens and each.avg_logprob < 0 for each in told.segments)
    assert await client.audio.transcriptions.create(**asked, response_format="text") == f"{plain.text}\n"
    srt = await client.audio.transcriptions.create(**asked, response_format="srt")
    vtt = await client.audio.transcriptions.create(**asked, response_format="vtt")
    assert srt.startswith("1\n00:00:0")
    assert vtt.startswith("WEBVTT\n\n00:00:0")
    assert srt.count(" --> ") == vtt.count(" --> ") == len(told.segments)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # newer clients would rather see it go
        english = await client.audio.translations.create(**asked, response_format="verbose_json")
    assert english.language == "english"
    assert english.text != plain.text
    [model] = [each async for each in client.models.list()]
    assert getattr(model, "capabilities") == ["transcriptions", "translations"]  # noqa: B009
    with pytest.raises(openai.BadRequestError, match="/v1/audio/transcriptions") as refused:
        await client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "hi"}])
    assert refused.value.param == "model"
    with pytest.raises(openai.BadRequestError, match="cut off") as unread:
        await client.audio.transcriptions.create(model=MODEL, file=recording(SHORT[:30]))
    assert unread.value.param == "file"


async def test_a_model_of_texts_refuses_a_recording(site: Cluster, client: openai.AsyncOpenAI) -> None:
    await site.worker()
    with pytest.raises(openai.BadRequestError, match="does not serve /v1/audio/transcriptions") as refused:
        await client.audio.transcriptions.create(model="simulated", file=recording(SHORT))
    assert refused.value.param == "model"


async def heard(client: openai.AsyncOpenAI) -> tuple[list[str], str]:
    """Returns the pieces of a streamed transcription, and the whole that ends it."""
    stream = await client.audio.transcriptions.create(
        model=MODEL, file=recording(LONG), stream=True, temperature=0.7, extra_body={"seed": 3}, timeout=PATIENCE
    )
    pieces, whole = list[str](), ""
    async for event in stream:
        if event.type == "transcript.text.delta":
            pieces.append(event.delta)
        elif event.type == "transcript.text.done":
            whole = event.text
    return pieces, whole


async def test_a_worker_killed_between_two_slices(site: Cluster, client: openai.AsyncOpenAI, tmp_path: Path) -> None:
    workers = await served(site, tmp_path, 2)
    undisturbed = await heard(client)
    assert len(undisturbed[0]) > 20
    assert "".join(undisturbed[0]) == undisturbed[1]
    running = asyncio.create_task(heard(client))

    async def holder() -> str:
        for job in await live_jobs(site.broker, MODEL):
            if job.state == "running" and job.seq > 3:
                return job.worker
        return ""

    holding = await wait_until(holder, within=PATIENCE, what="some slices are written")
    told = (await model_info(site.broker, MODEL)).workers
    pid = next(worker.details["pid"] for worker in told if worker.id == holding)
    await next(part for part in workers if str(part.pid) == pid).kill()
    assert await running == undisturbed
    [left] = [part for part in workers if part.alive]
    assert left.told("job_ended")


async def test_the_recording_goes_when_its_job_has_ended(site: Cluster, client: openai.AsyncOpenAI) -> None:
    """A job's answer is kept for a while; the megabytes that it came from are not."""
    await site.worker()
    large = wav(noise(60))
    with pytest.raises(openai.BadRequestError):
        await client.audio.transcriptions.create(model="simulated", file=recording(large))
    model = ModelName("simulated")
    names = [name async for name in site.broker.redis.scan_iter(keys.job(model, JobId("audio-*")))]
    assert names
    assert [await site.broker.redis.hget(name, "request") for name in names] == [""]  # type: ignore[misc]


async def test_bounds(site: Cluster) -> None:
    gateway = await site.gateway(max_audio_bytes="100000", max_audio_seconds="5")
    form = {"model": "simulated"}
    async with httpx.AsyncClient(base_url=gateway.url, timeout=PATIENCE) as http:
        path = "/v1/audio/transcriptions"
        large = await http.post(path, data=form, files={"file": recording(SHORT)})
        assert (large.status_code, large.json()["error"]["code"]) == (413, "request_too_large")
        small = await http.post(path, data=form, files={"file": recording(SHORT[:90_000])})
        assert small.status_code == 404  # read, and no such model yet
