"""The endpoints that a batch's lines may ask for: each one's shape, reader and whole answer, as its route has them."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from millstream.common.broker.accounts.keyring import ApiKey
from millstream.common.errors import BadRequest
from millstream.common.job import ModelName
from millstream.common.request_id import Family
from millstream.gateway.apis.chat.read import prepare_chat
from millstream.gateway.apis.chat.shape import ChatRequest
from millstream.gateway.apis.chat.write import chat_body
from millstream.gateway.apis.completions.read import prepare_completion
from millstream.gateway.apis.completions.shape import CompletionRequest
from millstream.gateway.apis.completions.write import completion_body
from millstream.gateway.apis.embeddings.read import prepare_embeddings
from millstream.gateway.apis.embeddings.shape import EmbeddingRequest
from millstream.gateway.apis.responses.read import prepare_response, wants_logprobs
from millstream.gateway.apis.responses.response_object import ResponseFrame, frame_fields
from millstream.gateway.apis.responses.shape import ResponseItem, ResponseRequest
from millstream.gateway.apis.responses.store import whole_response
from millstream.gateway.apis.shared.write.results import embeddings_body
from millstream.gateway.errors.validation import shaped
from millstream.gateway.requests.accumulator import Accumulator
from millstream.gateway.requests.prepared import PreparedRequest, RequestContext
from millstream.gateway.requests.response_meta import ResponseMeta
from millstream.gateway.services.caller import Caller
from millstream.gateway.settings import IntakeSettings

Whole = Callable[[ResponseMeta, list[Accumulator]], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Prepared:
    """A line's request after all checks, and how its answer is written."""

    order: PreparedRequest
    whole: Whole


@dataclass(frozen=True, slots=True)
class LineReader:
    """Reads the bodies of one batch's lines."""

    endpoint: str
    key: ApiKey
    settings: IntakeSettings
    resolve: Callable[[str], ModelName]  # the model a line means: an alias may have changed its meaning since

    def prepare(self, body: dict[str, Any], history: list[ResponseItem]) -> Prepared:
        """`history`: the conversation before a response's turn. Raises `BadRequest` naming the field at fault."""
        if body.get("stream") or body.get("background"):
            field = "stream" if body.get("stream") else "background"
            raise BadRequest(f"'{field}' has no meaning in a batch; leave it out.", param=field)
        match self.endpoint:
            case "/v1/chat/completions":
                return self._chat(shaped(ChatRequest, body))
            case "/v1/completions":
                return self._completion(shaped(CompletionRequest, body))
            case "/v1/embeddings":
                return self._embedding(shaped(EmbeddingRequest, body))
            case _:
                return self._response(shaped(ResponseRequest, body), history)

    def _place(self, family: Family, model: str) -> RequestContext:
        caller = Caller(self.key, self.settings.retention, resumable=True)
        return RequestContext(family, self.resolve(model), caller, self.settings.max_jobs)

    def _chat(self, body: ChatRequest) -> Prepared:
        order, tools = prepare_chat(body, self._place("chatcmpl", body.model), self.settings.default_max_tokens)
        return Prepared(order, partial(chat_body, logprobs=bool(body.logprobs), legacy=tools.legacy))

    def _completion(self, body: CompletionRequest) -> Prepared:
        place = self._place("cmpl", body.model)
        order, candidates = prepare_completion(body, place, self.settings.default_max_tokens)
        return Prepared(order, partial(completion_body, candidates=candidates))

    def _embedding(self, body: EmbeddingRequest) -> Prepared:
        order = prepare_embeddings(body, self._place("embd", body.model))
        return Prepared(order, partial(embeddings_body, encoding=body.encoding_format or "float"))

    def _response(self, body: ResponseRequest, history: list[ResponseItem]) -> Prepared:
        order = prepare_response(body, self._place("resp", body.model), history, self.settings.default_max_tokens)
        sealed = "reasoning.encrypted_content" in (body.include or [])
        frame = ResponseFrame(frame_fields(body), sealed, wants_logprobs(body))

        def whole(head: ResponseMeta, accumulators: list[Accumulator]) -> dict[str, Any]:
            return whole_response(head, frame, accumulators[0])

        return Prepared(order, whole)
