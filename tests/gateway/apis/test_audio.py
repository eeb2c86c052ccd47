"""The form of recordings: what it says of its fields, and how an answer is written in each format."""

from typing import Any

import httpx
import pytest

from millstream.common.chunk import Chunk, Segment, SpokenSlice, Start, Usage
from millstream.common.job import AudioInput, JobRequest
from tests.gateway.conftest import gateway
from tests.gateway.scripted import MODEL, ScriptedCluster

ROUTE = "/v1/audio/transcriptions"
FILE = {"file": ("speech.wav", b"RIFF of a kind", "audio/wav")}
SRT = "1\n00:00:00,000 --> 00:00:01,500\nThe mill\n\n2\n00:01:30,000 --> 00:01:31,250\nturns.\n\n"


def spoken(request: JobRequest) -> list[Chunk]:
    first = SpokenSlice(0, 3000, 95.2, "de", [Segment(0.0, 1.5, " The mill", [1, 2])])
    second = SpokenSlice(3000, 9520, 95.2, "de", [Segment(90.0, 91.25, " turns.", [3])])
    return [
        Chunk(start=Start(0, "fp_test")),
        Chunk(ids=[1, 2], text=" The mill", slice=first),
        Chunk(ids=[3], text=" turns.", slice=second),
        Chunk(finish="stop", usage=Usage(completion=3)),
    ]


@pytest.fixture(autouse=True)
def heard(cluster: ScriptedCluster) -> None:
    cluster.queue.script = spoken


async def sent(http: httpx.AsyncClient, route: str = ROUTE, files: Any = FILE, **fields: Any) -> httpx.Response:
    return await http.post(route, data={"model": MODEL, **fields}, files=files)


async def test_each_format(http: httpx.AsyncClient) -> None:
    whole = {"text": "The mill turns.", "usage": {"type": "duration", "seconds": 96}}
    assert (await sent(http)).json() == whole
    assert (await sent(http, response_format="text")).text == "The mill turns.\n"
    assert (await sent(http, response_format="srt")).text == SRT
    assert (await sent(http, response_format="vtt")).text.startswith(
        "WEBVTT\n\n00:00:00.000 --> 00:00:01.500\nThe mill\n"
    )
    told = (await sent(http, response_format="verbose_json")).json()
    assert (told["language"], told["duration"], told["text"]) == ("german", 95.2, "The mill turns.")
    assert [(each["start"], each["end"], each["tokens"]) for each in told["segments"]] == [
        (0.0, 1.5, [1, 2]),
        (90.0, 91.25, [3]),
    ]


async def test_a_stream_tells_each_slice_and_then_the_whole(http: httpx.AsyncClient) -> None:
    answer = await sent(http, stream="true")
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.text.count('"transcript.text.delta"') == 2
    assert '"transcript.text.done","text":"The mill turns."' in answer.text


async def test_what_the_job_is_told(http: httpx.AsyncClient, cluster: ScriptedCluster) -> None:
    await sent(http, "/v1/audio/translations", language="de", prompt="Mühle", temperature="0.5", seed="7")
    [request] = cluster.queue.requests
    assert isinstance(sound := request.input, AudioInput)
    assert (sound.audio, sound.translate, sound.language, sound.prompt) == (FILE["file"][1], True, "de", "Mühle")
    assert (request.sampling.temperature, request.sampling.seed, sound.most_seconds) == (0.5, 7, 3600)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"temperature": "warm"}, "temperature"),
        ({"temperature": "2"}, "temperature"),
        ({"seed": "1.5"}, "seed"),
        ({"stream": "perhaps"}, "stream"),
        ({"response_format": "xml"}, "response_format"),
        ({"stream": "true", "response_format": "srt"}, "response_format"),
        ({"timestamp_granularities[]": "word", "response_format": "verbose_json"}, "timestamp_granularities"),
        ({"timestamp_granularities[]": "segment"}, "timestamp_granularities"),
        ({"timestamp_granularities[]": "hour"}, "timestamp_granularities"),
        ({"include[]": "logprobs"}, "include"),
        ({"chunking_strategy": "server_vad"}, "chunking_strategy"),
        ({"known_speaker_names[]": "Ann"}, "known_speaker_names"),
        ({"prompt": "x" * 20_000}, "prompt"),
        ({"model": ""}, "model"),
    ],
)
async def test_a_field_at_fault_is_named(
    http: httpx.AsyncClient, cluster: ScriptedCluster, fields: dict[str, str], param: str
) -> None:
    answer = await sent(http, **fields)
    error = answer.json()["error"]
    assert (answer.status_code, error["type"]) == (400, "invalid_request_error")
    assert str(error["param"]).startswith(param), error
    assert not cluster.queue.jobs


async def test_a_form_without_a_recording(http: httpx.AsyncClient) -> None:
    lacking = await sent(http, files={"other": ("a", b"b")})
    assert (lacking.status_code, lacking.json()["error"]["param"]) == (400, "file")
    empty = await sent(http, files={"file": ("a.wav", b"")})
    assert (empty.status_code, empty.json()["error"]["param"]) == (400, "file")
    no_form = await http.post(ROUTE, json={"model": MODEL})
    assert (no_form.status_code, no_form.json()["error"]["param"]) == (400, "file")


async def test_a_recording_above_the_bound(cluster: ScriptedCluster) -> None:
    async with gateway(cluster, max_audio_bytes=10) as url, httpx.AsyncClient(base_url=url) as http:
        answer = await sent(http)
    assert answer.status_code == 413 and "at most 10" in answer.json()["error"]["message"]


async def test_nobody_speaks(http: httpx.AsyncClient) -> None:
    answer = await http.post("/v1/audio/speech", json={"input": "hi"})
    assert answer.status_code == 404 and "no model here speaks" in answer.json()["error"]["message"]
