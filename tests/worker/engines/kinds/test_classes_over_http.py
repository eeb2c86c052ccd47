"""Classes, classes of tokens and gaps, asked over HTTP of real workers, against what transformers computes."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio
from transformers import PreTrainedModel

from millstream.bench.chaos.fleet import Fleet
from millstream.common.broker.connection.broker import Broker
from millstream.common.broker.embedded import EmbeddedValkey
from millstream.common.broker.models.directory import census
from tests.harness.support import wait_until
from tests.worker.engines.kinds.test_kinds import CLOSE, GAPPED, TEXTS, encoder_tokenizer, logits, made, saved

pytestmark = [pytest.mark.timeout(300), pytest.mark.asyncio(loop_scope="module")]
MODELS: dict[str, PreTrainedModel] = {
    "classes": made("BertForSequenceClassification", num_labels=3),
    "token-classes": made("BertForTokenClassification", num_labels=3),
    "gaps": made("BertForMaskedLM"),
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def http(
    module_valkey: EmbeddedValkey, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[httpx.AsyncClient]:
    """A gateway with a worker of each kind."""
    url, room = module_valkey.url, tmp_path_factory.mktemp("kinds")
    async with Fleet(room / "logs", url) as fleet, Broker(url) as broker:
        for name, model in MODELS.items():
            saved(room / name, model)
            await fleet.worker(engine="transformers", model=str(room / name), dtype="float32", threads="1")
        gateway = await fleet.gateway()

        async def all_live() -> bool:
            return sum(info.live for info in await census(broker)) == len(MODELS)

        await wait_until(all_live, within=120, what="the workers announce themselves")
        async with httpx.AsyncClient(base_url=gateway.url, timeout=60) as client:
            yield client


async def asked(http: httpx.AsyncClient, path: str, **body: Any) -> dict[str, Any]:
    answer = await http.post(path, json=body)
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    assert told["object"] == "list" and told["usage"]["completion_tokens"] == 0 < told["usage"]["prompt_tokens"]
    return told


@pytest.mark.parametrize("path", ["/v1/classify", "/classify"])
async def test_classes(http: httpx.AsyncClient, path: str) -> None:
    told = await asked(http, path, model="classes", input=TEXTS)
    assert [each["index"] for each in told["data"]] == [0, 1, 2]
    for text, each in zip(TEXTS, told["data"], strict=True):
        wanted = logits(MODELS["classes"], encoder_tokenizer(), text).softmax(-1)
        assert each["probs"] == pytest.approx(wanted.tolist(), abs=CLOSE)
        assert (each["label"], each["num_classes"]) == (f"LABEL_{int(wanted.argmax())}", 3)
    alone = await asked(http, path, model="classes", input=TEXTS[0])
    assert alone["data"][0]["probs"] == pytest.approx(told["data"][0]["probs"], abs=CLOSE)


async def test_more_texts_than_one_job_takes_keep_their_order(http: httpx.AsyncClient) -> None:
    texts = [f"{number} mills" for number in range(150)]
    told = await asked(http, "/v1/classify", model="classes", input=texts)
    alone = [await asked(http, "/v1/classify", model="classes", input=texts[at]) for at in (0, 70, 149)]
    assert len(told["data"]) == 150
    for at, one in zip((0, 70, 149), alone, strict=True):
        assert told["data"][at]["probs"] == pytest.approx(one["data"][0]["probs"], abs=CLOSE)


async def test_classes_of_tokens(http: httpx.AsyncClient) -> None:
    told = await asked(http, "/v1/token_classify", model="token-classes", input=TEXTS)
    assert told["labels"] == ["LABEL_0", "LABEL_1", "LABEL_2"]
    for text, each in zip(TEXTS, told["data"], strict=True):
        wanted = logits(MODELS["token-classes"], encoder_tokenizer(), text).softmax(-1)[1:-1]
        assert [token["probs"] for token in each["tokens"]] == [
            pytest.approx(row, abs=CLOSE) for row in wanted.tolist()
        ]
        for token, row in zip(each["tokens"], wanted, strict=True):
            assert token["label"] == f"LABEL_{int(row.argmax())}"
            assert token["score"] == pytest.approx(float(row.max()), abs=CLOSE)
            assert text[token["start"] : token["end"]] == token["token"]


async def test_gaps(http: httpx.AsyncClient) -> None:
    told = await asked(http, "/v1/fill_mask", model="gaps", input=GAPPED, top_k=4)
    tokenizer = encoder_tokenizer()
    ids = tokenizer(GAPPED)["input_ids"]
    rows = logits(MODELS["gaps"], tokenizer, GAPPED).softmax(-1)
    masked = [rows[at].topk(4) for at, id in enumerate(ids) if id == tokenizer.mask_token_id]
    gaps = told["data"][0]["gaps"]
    assert [[each["token_id"] for each in gap] for gap in gaps] == [best.indices.tolist() for best in masked]
    assert [each["score"] for each in gaps[0]] == pytest.approx(masked[0].values.tolist(), abs=CLOSE)


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/v1/classify", {"model": "classes", "input": []}, "input"),
        ("/v1/classify", {"model": "classes", "input": ["x", 3]}, "input[1]"),
        ("/v1/classify", {"model": "classes"}, "input"),
        ("/v1/classify", {"model": "classes", "input": "x" * 400}, "input[0]"),
        ("/v1/classify", {"model": "gaps", "input": "x"}, "model"),
        ("/v1/token_classify", {"model": "classes", "input": "x"}, "model"),
        ("/v1/fill_mask", {"model": "gaps", "input": "no gap"}, "input[0]"),
        ("/v1/fill_mask", {"model": "gaps", "input": GAPPED, "top_k": 0}, "top_k"),
        ("/v1/fill_mask", {"model": "gaps", "input": [[1, 2]]}, "input[0]"),
    ],
)
async def test_what_is_wrong_is_named(http: httpx.AsyncClient, path: str, body: dict[str, Any], param: str) -> None:
    answer = await http.post(path, json=body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param), answer.text


async def test_a_text_that_is_too_long_is_cut_when_asked(http: httpx.AsyncClient) -> None:
    told = await asked(http, "/v1/classify", model="classes", input="x" * 400, truncate=True)
    assert told["usage"]["prompt_tokens"] == 128
