"""Tiny random checkpoints, one of each architecture and kind; what is served of each is compared with transformers."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import transformers
from transformers import PreTrainedModel

from millstream.worker.engines.transformers.loading.kinds import ModelKind
from tests.worker.engines.loading.test_architectures import BATCHED
from tests.worker.engines.loading.test_forward import ENCODING, UNBATCHED

VOCABULARY = 300  # the byte tokenizer's, and room for special tokens
SIZE: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 128,
    "initializer_range": 0.3,
    "pad_token_id": 257,
}
DISTILBERT: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "dim": 32,
    "n_layers": 2,
    "n_heads": 4,
    "hidden_dim": 48,
    "max_position_embeddings": 128,
    "initializer_range": 0.3,
    "pad_token_id": 257,
}
ROBERTA = SIZE | {"pad_token_id": 1, "max_position_embeddings": 130}  # two positions come before the first
ALBERT = SIZE | {"embedding_size": 16, "num_hidden_groups": 1}
DECODER = SIZE | {"num_key_value_heads": 2, "bos_token_id": None, "eos_token_id": 256}
T5 = SIZE | {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2}
MODERN = SIZE | {
    "local_attention": 16,
    "cls_token_id": 258,
    "sep_token_id": 259,
    "bos_token_id": 258,
    "eos_token_id": 259,
}


@dataclass(frozen=True, slots=True)
class Architecture:
    """One row of the table in docs/models.md: the model's class, its configuration, and what it is served as."""

    name: str
    kind: ModelKind
    sizes: dict[str, Any]
    config: str = ""  # the configuration's class; empty: as the model's class begins

    def make(self, **changes: Any) -> PreTrainedModel:
        """Returns a model with random weights."""
        family = self.config or f"{self.name.partition('For')[0].removesuffix('Model')}Config"
        config: Any = getattr(transformers, family)
        model: Callable[[Any], PreTrainedModel] = getattr(transformers, self.name)
        return model(config(**self.sizes | changes)).eval()


ARCHITECTURES = [
    Architecture("BertModel", "encoder", SIZE),
    Architecture("RobertaModel", "encoder", ROBERTA),
    Architecture("DistilBertModel", "encoder", DISTILBERT),
    Architecture("ElectraModel", "encoder", SIZE | {"embedding_size": 16}),
    Architecture("ModernBertModel", "encoder", MODERN),
    Architecture("Qwen3Model", "encoder", DECODER),
    Architecture("T5EncoderModel", "encoder", T5, "T5Config"),
    Architecture("BertForSequenceClassification", "classifier", SIZE),
    Architecture("RobertaForSequenceClassification", "classifier", ROBERTA),
    Architecture("DebertaV2ForSequenceClassification", "classifier", SIZE),
    Architecture("LlamaForSequenceClassification", "classifier", DECODER),
    Architecture("BertForTokenClassification", "token_classifier", SIZE),
    Architecture("DistilBertForTokenClassification", "token_classifier", DISTILBERT),
    Architecture("XLMRobertaForTokenClassification", "token_classifier", ROBERTA),
    Architecture("BertForMaskedLM", "fill_mask", SIZE),
    Architecture("RobertaForMaskedLM", "fill_mask", ROBERTA),
    Architecture("AlbertForMaskedLM", "fill_mask", ALBERT),
    Architecture("ModernBertForMaskedLM", "fill_mask", MODERN),
]
SERVED = {
    "encoder": "`/v1/embeddings`, `/v1/rerank`, `/v1/score`",
    "classifier": "`/v1/classify`; with one class also `/v1/rerank`, `/v1/score`",
    "token_classifier": "`/v1/token_classify`",
    "fill_mask": "`/v1/fill_mask`, `/v1/embeddings`",
    "causal": "all that generates: chat, completions, responses, messages",
    "seq2seq": "`/v1/completions`",
    "speech": "`/v1/audio/transcriptions`, `/v1/audio/translations`",
}


def table() -> str:
    """Returns the table of docs/models.md."""
    rows = ["| architecture | kind | path | asked at |", "|---|---|---|---|"]
    decoders = [(model.__name__, "causal", "batched") for model in BATCHED]
    decoders += [(name, "causal", "one at a time") for name in UNBATCHED]
    decoders += [(name, "seq2seq", "one at a time") for name in ENCODING]
    decoders += [("WhisperForConditionalGeneration", "speech", "slice by slice")]  # tests/worker/engines/kinds/speech
    computing = [(each.name, each.kind, "computing") for each in ARCHITECTURES]
    rows += [f"| `{name}` | {kind} | {path} | {SERVED[kind]} |" for name, kind, path in (*decoders, *computing)]
    return "\n".join(rows)
