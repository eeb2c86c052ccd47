"""The fields that clients of other servers of open weights send, and OpenAI's do not have. None of them is dropped in
silence: each is a field here, or refused by name with what would be right, or listed as one that changes no answer.

The names are those of vLLM, SGLang, llama.cpp, Ollama, Text Generation Inference (TGI) and LM Studio, as of late 2026.
"""

from dataclasses import dataclass
from typing import Any, cast

from pydantic import model_validator

from millstream.gateway.apis.shared.shapes.base import Shape
from millstream.gateway.errors.table import FieldError

NOTHING = (None, False, 0, "")  # asks for nothing, whatever the field; so do an empty list and an empty object


@dataclass(frozen=True, slots=True)
class ForeignField:
    """A field that is refused: whose it is, what would be right instead, and the values that ask for no more than what
    is done anyway."""

    servers: str
    instead: str
    neutral: tuple[object, ...] = NOTHING


def _one(servers: str, instead: str, neutral: tuple[object, ...] = NOTHING) -> ForeignField:
    return ForeignField(servers, instead, neutral)


LLAMA, VLLM, SGLANG, OLLAMA, TGI, STUDIO = "llama.cpp", "vLLM", "SGLang", "Ollama", "TGI", "LM Studio"
LENGTH = "use 'max_tokens'"
SAMPLER = "there is no such sampler here; use 'temperature', 'top_k', 'top_p' and 'min_p'"
GRAMMARS = "use 'structured_outputs' or 'response_format'"
PENALTY = "use 'repetition_penalty', which looks at the whole text"
TEMPLATE = "use 'chat_template_kwargs'; the template is the model's own"
OPTIONS = "give its entries as fields of the request"
INSIDE = "the engine here does not tell it"
PLACING = "the queue decides which worker computes"
ADAPTER = "name the adapter's model in 'model'"
RANK = "use 'service_tier'"
TEXT_ONLY = "the models here read text"
IN_A_LIST = "use 'messages' or 'prompt'"

REFUSED: dict[str, ForeignField] = {
    "use_beam_search": _one(VLLM, "there is no beam search here; use 'n' or 'best_of'"),
    "length_penalty": _one(VLLM, "there is no beam search here", (None, 1, 1.0)),
    "early_stopping": _one(VLLM, "there is no beam search here"),
    "skip_special_tokens": _one(f"{VLLM}, {SGLANG}", "special tokens are always left out of the text", (None, True)),
    "truncate_prompt_tokens": _one(VLLM, "a prompt is never cut; the Responses API has 'truncation'"),
    "logits_processors": _one(VLLM, "no code of clients runs here"),
    "logprob_token_ids": _one(VLLM, "use 'logprobs' and 'top_logprobs'"),
    "return_tokens_as_token_ids": _one(VLLM, "use 'return_token_ids'"),
    "repetition_detection": _one(VLLM, INSIDE),
    "documents": _one(VLLM, "write the documents into the messages"),
    "chat_template": _one(VLLM, TEMPLATE),
    "priority": _one(f"{VLLM}, {SGLANG}", RANK),
    "cache_salt": _one(VLLM, "cached prompts are kept apart by tenant"),
    "kv_transfer_params": _one(VLLM, PLACING),
    "vllm_xargs": _one(VLLM, "these are for its plugins"),
    "thinking_token_budget": _one(VLLM, "use 'reasoning_effort'"),
    "include_reasoning": _one(VLLM, "thoughts come as 'reasoning_content'", (None, True)),
    "add_special_tokens": _one(VLLM, "the template, or the tokenizer, decides"),
    "regex": _one(SGLANG, GRAMMARS),
    "ebnf": _one(SGLANG, GRAMMARS),
    "json_schema": _one(f"{SGLANG}, {LLAMA}", GRAMMARS),
    "stop_regex": _one(SGLANG, "use 'stop'"),
    "no_stop_trim": _one(SGLANG, "use 'include_stop_str_in_output'"),
    "separate_reasoning": _one(SGLANG, "thoughts come as 'reasoning_content'", (None, True)),
    "stream_reasoning": _one(SGLANG, "thoughts are streamed as they come", (None, True)),
    "return_hidden_states": _one(SGLANG, INSIDE),
    "return_routed_experts": _one(SGLANG, INSIDE),
    "return_cached_tokens_details": _one(SGLANG, "the usage has 'cached_tokens'"),
    "custom_logit_processor": _one(SGLANG, "no code of clients runs here"),
    "custom_params": _one(SGLANG, "no code of clients runs here"),
    "session_params": _one(SGLANG, "prefixes are cached anyway"),
    "lora_path": _one(SGLANG, ADAPTER),
    "input_ids": _one(SGLANG, "give the ids as 'prompt' of a completion"),
    "sampling_params": _one(SGLANG, OPTIONS),
    "sampling_seed": _one(SGLANG, "use 'seed'"),
    "bootstrap_host": _one(SGLANG, PLACING),
    "bootstrap_port": _one(SGLANG, PLACING),
    "bootstrap_room": _one(SGLANG, PLACING),
    "data_parallel_rank": _one(SGLANG, PLACING, (None,)),
    "n_predict": _one(LLAMA, LENGTH, (None,)),
    "n_keep": _one(LLAMA, "a prompt is never cut"),
    "n_discard": _one(LLAMA, "a prompt is never cut"),
    "n_indent": _one(LLAMA, GRAMMARS),
    "n_probs": _one(LLAMA, "use 'logprobs' and 'top_logprobs'"),
    "post_sampling_probs": _one(LLAMA, "probabilities are told before sampling"),
    "t_max_predict_ms": _one(LLAMA, "use the header 'x-request-timeout'"),
    "grammar": _one(LLAMA, GRAMMARS),
    "grammar_lazy": _one(LLAMA, GRAMMARS),
    "grammar_triggers": _one(LLAMA, GRAMMARS),
    "samplers": _one(LLAMA, SAMPLER),
    "dynatemp_range": _one(LLAMA, SAMPLER),
    "dynatemp_exponent": _one(LLAMA, SAMPLER, (None, 1, 1.0)),
    "typical_p": _one(f"{LLAMA}, {TGI}", SAMPLER, (None, 1, 1.0)),
    "tfs_z": _one(f"{LLAMA}, {OLLAMA}", SAMPLER, (None, 1, 1.0)),
    "top_n_sigma": _one(LLAMA, SAMPLER, (None, -1, -1.0, 0, 0.0)),
    "adaptive_target": _one(LLAMA, SAMPLER, (None, -1, -1.0)),
    "adaptive_decay": _one(LLAMA, SAMPLER, (None,)),
    "xtc_probability": _one(LLAMA, SAMPLER),
    "xtc_threshold": _one(LLAMA, SAMPLER, (None, 0.1)),
    "mirostat": _one(f"{LLAMA}, {OLLAMA}", SAMPLER),
    "mirostat_tau": _one(f"{LLAMA}, {OLLAMA}", SAMPLER, (None, 5, 5.0)),
    "mirostat_eta": _one(f"{LLAMA}, {OLLAMA}", SAMPLER, (None, 0.1)),
    "dry_multiplier": _one(LLAMA, SAMPLER),
    "dry_base": _one(LLAMA, SAMPLER, (None, 1.75)),
    "dry_allowed_length": _one(LLAMA, SAMPLER, (None, 2)),
    "dry_penalty_last_n": _one(LLAMA, SAMPLER, (None, -1)),
    "dry_sequence_breakers": _one(LLAMA, SAMPLER, (None, ["\n", ":", '"', "*"])),
    "min_keep": _one(LLAMA, SAMPLER),
    "repeat_penalty": _one(f"{LLAMA}, {OLLAMA}, {STUDIO}", PENALTY, (None, 1, 1.0)),
    "repeat_last_n": _one(f"{LLAMA}, {OLLAMA}", PENALTY, (None, -1)),
    "penalize_nl": _one(LLAMA, PENALTY),
    "return_tokens": _one(LLAMA, "use 'return_token_ids'"),
    "return_progress": _one(LLAMA, INSIDE),
    "timings_per_token": _one(LLAMA, INSIDE),
    "response_fields": _one(LLAMA, "answers are whole"),
    "lora": _one(LLAMA, ADAPTER),
    "parse_tool_calls": _one(LLAMA, "calls are always read", (None, True)),
    "reasoning_format": _one(LLAMA, "thoughts come as 'reasoning_content'", (None, "auto", "deepseek")),
    "thinking_forced_open": _one(LLAMA, TEMPLATE),
    "image_data": _one(LLAMA, TEXT_ONLY),
    "options": _one(OLLAMA, OPTIONS),
    "format": _one(OLLAMA, "use 'response_format'"),
    "think": _one(OLLAMA, "use 'reasoning_effort' or 'chat_template_kwargs'", (None,)),
    "num_ctx": _one(OLLAMA, "the context's length is the worker's", (None,)),
    "num_predict": _one(OLLAMA, LENGTH, (None, -1)),
    "num_keep": _one(OLLAMA, "a prompt is never cut"),
    "raw": _one(OLLAMA, "use '/v1/completions'"),
    "template": _one(OLLAMA, TEMPLATE),
    "system": _one(OLLAMA, "use a message of the role 'system'"),
    "images": _one(OLLAMA, TEXT_ONLY),
    "inputs": _one(TGI, IN_A_LIST),
    "parameters": _one(TGI, OPTIONS),
    "max_new_tokens": _one(f"{TGI}, {SGLANG}", LENGTH, (None,)),
    "do_sample": _one(TGI, "use 'temperature'", (None, True)),
    "watermark": _one(TGI, "texts are not marked here"),
    "decoder_input_details": _one(TGI, "use 'prompt_logprobs'"),
    "details": _one(TGI, "use 'logprobs' and 'return_token_ids'"),
    "top_n_tokens": _one(TGI, "use 'top_logprobs'"),
    "truncate": _one(TGI, "a prompt is never cut"),
    "return_full_text": _one(TGI, "use 'echo' of a completion"),
    "adapter_id": _one(TGI, ADAPTER),
    "tool_prompt": _one(TGI, "tools are told as the model's template does"),
    "guideline": _one(TGI, TEMPLATE),
    "preset": _one(STUDIO, OPTIONS),
    "context_length": _one(STUDIO, "the context's length is the worker's", (None,)),
}
"""Refused by name, where an API has no field of that name itself."""

WITHOUT_EFFECT: dict[str, str] = {
    "spaces_between_special_tokens": f"{VLLM}: special tokens are not in the text",
    "mm_processor_kwargs": f"{VLLM}: there are no images to process",
    "request_id": f"{VLLM}: the header x-request-id is taken over",
    "rid": f"{SGLANG}: the header x-request-id is taken over",
    "stream_interval": f"{VLLM}: every step is told as it comes",
    "enable_response_messages": f"{VLLM}: what the model was shown is not told",
    "extra_key": f"{SGLANG}: it names what may be cached together",
    "cache_prompt": f"{LLAMA}: prompts are cached anyway",
    "id_slot": f"{LLAMA}: the queue decides which slot computes",
    "slot_id": f"{LLAMA}: the queue decides which slot computes",
    "preserved_tokens": f"{LLAMA}: what the parser of calls needs is kept",
    "keep_alive": f"{OLLAMA}: the worker decides how long its model stays",
    "ttl": f"{STUDIO}: the worker decides how long its model stays",
    "draft_model": f"{STUDIO}: it only ever saves time",
}
"""Accepted: no answer is another one for them."""

HONOURED: dict[str, str] = {
    "top_k": f"{VLLM}, {SGLANG}, {LLAMA}, {OLLAMA}, {TGI}, {STUDIO}",
    "min_p": f"{VLLM}, {SGLANG}, {LLAMA}, {OLLAMA}",
    "repetition_penalty": f"{VLLM}, {SGLANG}, {TGI}",
    "min_tokens": f"{VLLM}, {SGLANG}",
    "stop_token_ids": f"{VLLM}, {SGLANG}",
    "include_stop_str_in_output": VLLM,
    "ignore_eos": f"{VLLM}, {SGLANG}, {LLAMA}",
    "allowed_token_ids": VLLM,
    "bad_words": VLLM,
    "structured_outputs": VLLM,
    "guided_json": f"{VLLM} before 0.12",
    "guided_regex": f"{VLLM} before 0.12",
    "guided_choice": f"{VLLM} before 0.12",
    "guided_grammar": f"{VLLM} before 0.12",
    "prompt_logprobs": VLLM,
    "return_token_ids": f"{VLLM}, {SGLANG}",
    "chat_template_kwargs": f"{VLLM}, {SGLANG}, {LLAMA}",
    "continue_final_message": f"{VLLM}, {SGLANG}",
    "add_generation_prompt": VLLM,
    "echo": VLLM,
}
"""Fields of chats or completions here, with what they mean there. Where an API has no such field they are refused."""


class ForeignAware(Shape):
    """A body whose fields from other servers are not dropped in silence."""

    @model_validator(mode="before")
    @classmethod
    def _aware(cls, body: Any) -> Any:
        if isinstance(body, dict):
            for name, value in cast(dict[str, object], body).items():
                if name not in cls.model_fields and (name in REFUSED or name in HONOURED):
                    _refuse(name, value)
        return cast(object, body)


def _refuse(name: str, value: object) -> None:
    """Raises `BadRequest` for a field that asks for what is not done here."""
    field = REFUSED.get(name) or ForeignField(HONOURED[name], "it is a field of chat completions or of completions")
    if value in ([], {}) or any(_same(value, each) for each in field.neutral):
        return
    message = f"Unsupported parameter: '{name}': it is known from {field.servers}; {field.instead}."
    raise FieldError(message, param=name, wire_code="unsupported_parameter")


def _same(value: object, other: object) -> bool:
    """Tells whether two values of JSON are one: 1 is 1.0, but not true."""
    return isinstance(value, bool) == isinstance(other, bool) and value == other
