"""Every kind of model is served as what it is, and answers what transformers answers."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers.processors import TemplateProcessing
from transformers import AutoTokenizer, BertConfig, BertModel, PreTrainedModel, PreTrainedTokenizerFast

from millstream.common.errors import BadRequest, ContextLengthExceeded
from millstream.common.job import ClassifyInput, EmbedInput, FillInput, RerankInput
from millstream.worker.engines.base import LoadFailed, ModelCard
from millstream.worker.engines.computing.engine import TransformersComputing
from millstream.worker.engines.transformers.loading.kinds import find_kind
from millstream.worker.engines.transformers.settings import EngineSettings, ModelSource
from millstream.worker.jobs.compute import compute
from tests.worker.engines.conftest import byte_tokenizer
from tests.worker.engines.kinds.architectures import ARCHITECTURES, SIZE, Architecture, table

ROOT = Path(__file__).parents[4]
TEXTS = ["The mill turns.", "A much longer text about water, wheels and grain, of several words.", "é"]
GAPPED = "The [MASK] turns [MASK]."
CLOSE = 2e-5


def encoder_tokenizer() -> PreTrainedTokenizerFast:
    """The byte tokenizer with an encoder's special tokens around a text."""
    tokenizer = byte_tokenizer()
    marks = {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"}
    tokenizer.add_special_tokens(marks)
    ids = [(mark, tokenizer.convert_tokens_to_ids(mark)) for mark in ("[CLS]", "[SEP]")]
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=ids
    )
    return tokenizer


def saved(folder: Path, model: PreTrainedModel) -> EngineSettings:
    model.save_pretrained(folder)
    encoder_tokenizer().save_pretrained(folder)
    return EngineSettings(source=ModelSource(str(folder)), dtype="float32")


def loaded(settings: EngineSettings) -> tuple[TransformersComputing, ModelCard]:
    engine = TransformersComputing(settings, find_kind(settings.source))
    return engine, engine.load()


def logits(model: PreTrainedModel, tokenizer: Any, text: str) -> torch.Tensor:
    """Returns what the library computes for one text alone."""
    with torch.inference_mode():
        return model(**tokenizer(text, return_tensors="pt", return_token_type_ids=False)).logits[0]


def vectors_are_the_librarys(engine: TransformersComputing, card: ModelCard, model: PreTrainedModel) -> None:
    tokenizer = encoder_tokenizer()
    result, _ = compute(engine, card, EmbedInput(list(TEXTS)))
    for text, vector in zip(TEXTS, result.vectors, strict=True):
        with torch.inference_mode():
            body: Any = model.base_model
            states = body(**tokenizer(text, return_tensors="pt", return_token_type_ids=False)).last_hidden_state[0]
        state = states[-1] if "Qwen3" in type(model).__name__ else states.mean(0)
        assert vector == pytest.approx((state / state.norm()).tolist(), abs=CLOSE)


def classes_are_the_librarys(engine: TransformersComputing, card: ModelCard, model: PreTrainedModel) -> None:
    result, _ = compute(engine, card, ClassifyInput(list(TEXTS)))
    assert result.labels == ["LABEL_0", "LABEL_1", "LABEL_2"]
    for text, probs in zip(TEXTS, result.probs, strict=True):
        assert probs == pytest.approx(logits(model, encoder_tokenizer(), text).softmax(-1).tolist(), abs=CLOSE)


def token_classes_are_the_librarys(engine: TransformersComputing, card: ModelCard, model: PreTrainedModel) -> None:
    result, _ = compute(engine, card, ClassifyInput(list(TEXTS), each_token=True))
    for text, tokens in zip(TEXTS, result.token_classes, strict=True):
        wanted = logits(model, encoder_tokenizer(), text).softmax(-1)[1:-1]
        assert [each.probs for each in tokens] == [pytest.approx(probs, abs=CLOSE) for probs in wanted.tolist()]
        assert all(text[each.start : each.end] == each.text for each in tokens)


def gaps_are_the_librarys(engine: TransformersComputing, card: ModelCard, model: PreTrainedModel) -> None:
    tokenizer = encoder_tokenizer()
    result, _ = compute(engine, card, FillInput([GAPPED], most=4))
    ids = tokenizer(GAPPED)["input_ids"]
    told = logits(model, tokenizer, GAPPED).softmax(-1)
    for at, filled in zip(
        [i for i, id in enumerate(ids) if id == tokenizer.mask_token_id], result.fillings[0], strict=True
    ):
        best = told[at].topk(4)
        assert [each.id for each in filled] == best.indices.tolist()
        assert [each.prob for each in filled] == pytest.approx(best.values.tolist(), abs=CLOSE)


COMPARED = {
    "encoder": vectors_are_the_librarys,
    "classifier": classes_are_the_librarys,
    "token_classifier": token_classes_are_the_librarys,
    "fill_mask": gaps_are_the_librarys,
}
CAN = {
    "encoder": ("embeddings", "rerank"),
    "classifier": ("classify",),
    "token_classifier": ("token_classify",),
    "fill_mask": ("fill_mask", "embeddings"),
}


@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=lambda each: each.name)
def test_it_answers_what_the_library_answers(architecture: Architecture, tmp_path: Path) -> None:
    torch.manual_seed(7)
    changes = {"num_labels": 3} if "classifier" in architecture.kind else {}
    model = architecture.make(**changes)
    settings = saved(tmp_path, model)
    assert find_kind(settings.source) == architecture.kind
    engine, card = loaded(settings)
    assert card.capabilities == CAN[architecture.kind]
    COMPARED[architecture.kind](engine, card, model)


def test_the_page_tells_what_is_tested() -> None:
    assert table() in (ROOT / "docs" / "models.md").read_text(encoding="utf-8")


def made(name: str, **changes: Any) -> PreTrainedModel:
    torch.manual_seed(3)
    return next(each for each in ARCHITECTURES if each.name == name).make(**changes)


def test_one_class_scores_pairs(tmp_path: Path) -> None:
    model = made("BertForSequenceClassification", num_labels=1)
    engine, card = loaded(saved(tmp_path, model))
    assert card.capabilities == ("rerank", "classify")
    result, _ = compute(engine, card, RerankInput("water", [TEXTS[0], TEXTS[1]]))
    tokenizer = encoder_tokenizer()
    for text, score in zip(TEXTS, result.scores, strict=False):
        with torch.inference_mode():
            wanted = model(**tokenizer("water", text, return_tensors="pt")).logits.sigmoid().item()
        assert score == pytest.approx(wanted, abs=CLOSE)


def test_classes_that_do_not_exclude_each_other(tmp_path: Path) -> None:
    model = made("BertForSequenceClassification", num_labels=3, problem_type="multi_label_classification")
    engine, card = loaded(saved(tmp_path, model))
    (probs,) = compute(engine, card, ClassifyInput([TEXTS[0]]))[0].probs
    assert probs == pytest.approx(logits(model, encoder_tokenizer(), TEXTS[0]).sigmoid().tolist(), abs=CLOSE)


@pytest.mark.parametrize(
    "head", ["ForSequenceClassification", "ForTokenClassification", "ForMaskedLM", "LMHeadModel"], ids=str
)
def test_a_head_that_was_never_trained_is_refused(head: str, tmp_path: Path) -> None:
    """The configuration names a head, and the weights are those of the bare encoder."""
    settings = saved(tmp_path, BertModel(BertConfig(**SIZE)))
    config = tmp_path / "config.json"
    config.write_text(config.read_text().replace('"BertModel"', f'"Bert{head}"'))
    from millstream.worker.engines.transformers.engine import TransformersEngine

    kind = find_kind(settings.source)
    engine = TransformersEngine(settings) if kind == "causal" else TransformersComputing(settings, kind)
    with pytest.raises(LoadFailed, match=r"no whole Bert\w+: of its weights \d+ are not in it \(c"):
        engine.load()


def test_a_network_without_its_last_layer_is_refused(tmp_path: Path) -> None:
    settings = saved(tmp_path, BertModel(BertConfig(**SIZE)))
    config = tmp_path / "config.json"
    config.write_text(config.read_text().replace('"num_hidden_layers": 2', '"num_hidden_layers": 3'))
    with pytest.raises(LoadFailed, match=r"encoder\.layer\.2\.\S+, .* and \d+ more"):
        loaded(settings)


@pytest.mark.parametrize("name", ["BertForQuestionAnswering", "BertForMultipleChoice", "ViTForImageClassification"])
def test_a_head_that_nothing_uses_is_named(name: str, tmp_path: Path) -> None:
    saved(tmp_path, BertModel(BertConfig(**SIZE)))
    config = tmp_path / "config.json"
    config.write_text(config.read_text().replace('"BertModel"', f'"{name}"'))
    with pytest.raises(LoadFailed, match=f"{name} has a head that nothing here uses"):
        find_kind(ModelSource(str(tmp_path)))


def test_what_a_model_does_not_do_is_refused_with_what_it_does(tmp_path: Path) -> None:
    engine, card = loaded(saved(tmp_path, made("BertForTokenClassification", num_labels=3)))
    for work in (EmbedInput(["x"]), ClassifyInput(["x"]), FillInput(["x"]), RerankInput("x", ["y"])):
        with pytest.raises(BadRequest, match=r"does not serve /v1/\w+, but /v1/token_classify\.") as refused:
            compute(engine, card, work)
        assert refused.value.param == "model"


def test_a_text_without_a_gap_is_refused(tmp_path: Path) -> None:
    engine, _ = loaded(saved(tmp_path, made("BertForMaskedLM")))
    with pytest.raises(BadRequest, match=r"Input 1 has no gap: mark it with '\[MASK\]'") as refused:
        engine.fill([GAPPED, "no gap"], 3)
    assert refused.value.param == "input[1]"


@pytest.mark.parametrize("name", ["RobertaModel", "BertModel"])
def test_the_longest_input_is_taken_and_one_longer_is_not(name: str, tmp_path: Path) -> None:
    """RoBERTa's positions begin after its padding's, so it takes two fewer than its table has."""
    engine, card = loaded(saved(tmp_path, made(name)))
    assert card.context_length == 128
    assert len(engine.embed([[5] * 128])) == 1
    with pytest.raises(ContextLengthExceeded):
        engine.embed([[5] * 129])


def test_a_text_that_is_cut_keeps_its_tokens_apart_from_its_closing(tmp_path: Path) -> None:
    engine, _ = loaded(saved(tmp_path, made("BertForTokenClassification", num_labels=3)))
    (tokens,) = engine.classify_tokens(["ab" * 200], truncate=True)
    assert len(tokens) == 126 and [each.end for each in tokens] == list(range(1, 127))


def test_the_tokenizers_are_read_back(tmp_path: Path) -> None:
    saved(tmp_path, made("BertModel"))
    ids = AutoTokenizer.from_pretrained(tmp_path)("a")["input_ids"]
    assert ids == encoder_tokenizer()("a")["input_ids"] and len(ids) == 3
