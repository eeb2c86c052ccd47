"""Turns sampling fields into a worker's `Sampling`."""

import random
from typing import Protocol

from millstream.common.errors import BadRequest
from millstream.common.job import MODEL_DEFAULTS, Sampling, Tier
from millstream.gateway.apis.shared.shapes.sampling import SamplingFields
from millstream.gateway.errors.table import FieldError

GOLDEN = 0x9E3779B97F4A7C15  # 2^64 / golden ratio: consecutive choices get seeds far apart
SEED_BITS = 0x7FFFFFFFFFFFFFFF
MOST_STOP_CHARACTERS = 8192  # of all stop strings together: a worker makes an automaton with a state for each
LEAST_TOP_P = 1e-6  # OpenAI's 0 means the likeliest token alone


class Tiered(Protocol):
    """A body with OpenAI's `service_tier`."""

    @property
    def service_tier(self) -> str | None: ...


def choice_seed(seed: int | None, choice: int) -> int:
    """Returns the seed of choice `choice` (0 is the client's own). Without a seed it is a random one, so that every job
    can be continued."""
    first = random.getrandbits(63) if seed is None else seed
    return (first + choice * GOLDEN) & SEED_BITS


def sampling(body: SamplingFields, max_tokens: int | None, logprobs: int | None) -> Sampling:
    """Returns the sampling that the body asks for, with OpenAI's defaults where the model has none of its own. The seed
    is set per choice by `choice_seed`."""
    top_k = body.top_k or 0
    return Sampling(
        max_tokens=max_tokens,
        min_tokens=body.min_tokens or 0,
        temperature=_given(body.temperature, 1.0),
        top_p=max(_given(body.top_p, 1.0), LEAST_TOP_P),
        top_k=max(top_k, 0),  # vLLM's -1 means off, as 0 does
        min_p=body.min_p or 0.0,
        repetition_penalty=_given(body.repetition_penalty, 1.0),
        presence_penalty=body.presence_penalty or 0.0,
        frequency_penalty=body.frequency_penalty or 0.0,
        logit_bias=body.logit_bias or {},
        allowed_token_ids=body.allowed_token_ids or [],
        bad_words=body.bad_words or [],
        stop=_stops(body.stop),
        stop_token_ids=body.stop_token_ids or [],
        include_stop=bool(body.include_stop_str_in_output),
        ignore_eos=bool(body.ignore_eos),
        logprobs=logprobs,
        unset=[name for name in MODEL_DEFAULTS if getattr(body, name) is None],
    )


def check_stream_options(body: SamplingFields) -> bool:
    """Tells whether the stream ends with a usage event. Raises `BadRequest` for stream options without a stream."""
    if body.stream_options is None:
        return False
    if not body.stream:
        message = "The 'stream_options' parameter is only allowed when 'stream' is enabled."
        raise BadRequest(message, param="stream_options")
    return bool(body.stream_options.include_usage or body.stream_options.continuous_usage_stats)


def wants_running_usage(body: SamplingFields) -> bool:
    """Tells whether every chunk of the stream carries the usage so far."""
    return body.stream_options is not None and bool(body.stream_options.continuous_usage_stats)


def check_prompt_logprobs(body: SamplingFields) -> None:
    """Raises `BadRequest` where the prompt's log probabilities are asked for in a stream: they are told as a whole."""
    if body.prompt_logprobs is not None and body.stream:
        raise BadRequest(
            "'prompt_logprobs' are told in whole answers only, not with 'stream'.", param="prompt_logprobs"
        )


def tier(body: Tiered) -> Tier:
    """Returns the queue's tier for OpenAI's `service_tier`."""
    match body.service_tier:
        case "flex":
            return "flex"
        case "priority" | "fast":
            return "priority"
        case _:  # absent, auto, default, scale (capacity bought in advance: there is none to buy here)
            return "default"


def _given(value: float | None, default: float) -> float:
    return default if value is None else value


def _stops(stop: str | list[str] | None) -> list[str]:
    """Returns the stop strings that count. An empty one would end every answer before it began; OpenAI's servers drop
    it too. Raises `BadRequest` for more than a worker should look for after every token."""
    found = [text for text in ([stop] if isinstance(stop, str) else stop or []) if text]
    length = sum(map(len, found))
    if length > MOST_STOP_CHARACTERS:
        message = f"Invalid 'stop': {length} characters in all. Expected at most {MOST_STOP_CHARACTERS}."
        raise FieldError(message, param="stop", wire_code="string_above_max_length")
    return found
