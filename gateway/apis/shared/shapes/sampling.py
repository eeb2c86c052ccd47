"""The sampling fields that chat completions and completions share, OpenAI's and the usual open-weights extras."""

from typing import Annotated, Any

from pydantic import ConfigDict, Field

from millstream.gateway.apis.shared.shapes.base import (
    TEXTS,
    Bias,
    Most,
    Penalty,
    Seed,
    Shape,
    Stops,
    Temperature,
    TokenId,
    TokenText,
    Unit,
)
from millstream.gateway.apis.shared.shapes.foreign import ForeignAware


class StreamOptions(Shape):
    """Options of a stream."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None  # accepted; our chunks carry no padding
    continuous_usage_stats: bool | None = None  # vLLM's: the usage so far with every chunk


class StructuredOutputs(Shape):
    """The grammar that vLLM's clients ask for: one of these."""

    model_config = ConfigDict(extra="allow")

    # "json" is a method of pydantic's models
    json_body: dict[str, Any] | str | None = Field(default=None, alias="json")
    json_object: bool | None = None
    regex: str | None = None
    choice: Annotated[list[str], Most(TEXTS)] | None = Field(default=None, min_length=1)
    grammar: str | None = None
    disable_fallback: bool | None = None  # accepted: there is one compiler
    structural_tag: Any = None  # refused


class OpenSampling(ForeignAware):
    """The usual extras of servers of open weights. Names of theirs that are no field here are refused by name."""

    top_k: int | None = Field(default=None, ge=-1, le=2**31 - 1)
    min_p: Unit | None = None
    repetition_penalty: float | None = Field(default=None, ge=0.01, le=100)
    min_tokens: int | None = Field(default=None, ge=0, le=2**31 - 1)
    stop_token_ids: Annotated[list[TokenId], Most(256)] | None = None
    allowed_token_ids: Annotated[list[TokenId], Most(TEXTS)] | None = Field(default=None, min_length=1)
    bad_words: Annotated[list[Annotated[str, Field(min_length=1)]], Most(256)] | None = None
    include_stop_str_in_output: bool | None = None
    ignore_eos: bool | None = None
    structured_outputs: StructuredOutputs | None = None
    guided_json: dict[str, Any] | str | None = None
    guided_regex: str | None = None
    guided_choice: Annotated[list[str], Most(TEXTS)] | None = Field(default=None, min_length=1)
    guided_grammar: str | None = None


class SamplingFields(OpenSampling):
    """The fields that tell how tokens are chosen and when generation ends."""

    model: str
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: int | None = Field(default=None, ge=0, le=2**31 - 1)
    temperature: Temperature | None = None
    top_p: Unit | None = None
    frequency_penalty: Penalty | None = None
    presence_penalty: Penalty | None = None
    logit_bias: Annotated[dict[TokenText, Bias], Most(4096)] | None = None
    seed: Seed | None = None
    stop: str | Stops | None = None
    n: int | None = Field(default=None, ge=1, le=128)
    user: str | None = None

    prompt_logprobs: int | None = Field(default=None, ge=0, le=20)
    return_token_ids: bool | None = None
