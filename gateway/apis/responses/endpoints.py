"""The records of the two routes of the Responses API that make jobs."""

from functools import partial
from typing import Any

from millstream.gateway.apis.endpoint import Endpoint, StreamWriter, WholeWriter
from millstream.gateway.apis.responses.examples import RESPONSE, RESPONSE_STREAM
from millstream.gateway.apis.responses.read import prepare_count, prepare_response, wants_logprobs, wants_sealed
from millstream.gateway.apis.responses.response_object import ResponseFrame, counted_body, frame_fields
from millstream.gateway.apis.responses.shape import ResponseRequest
from millstream.gateway.apis.responses.store import whole_response
from millstream.gateway.apis.responses.write import ResponseStream
from millstream.gateway.apis.shared.examples import answers
from millstream.gateway.requests.accumulator import Accumulator
from millstream.gateway.requests.prepared import PreparedRequest, RequestContext
from millstream.gateway.requests.response_meta import ResponseMeta


def _prepared(body: ResponseRequest, context: RequestContext) -> PreparedRequest:
    """Returns the job of a first turn; a conversation that goes on is read by `prepare_response` itself."""
    return prepare_response(body, context, [])


def _counting(body: ResponseRequest, context: RequestContext) -> PreparedRequest:
    return prepare_count(body, context, [])


def _whole(body: ResponseRequest) -> WholeWriter:
    def whole(head: ResponseMeta, accumulators: list[Accumulator]) -> dict[str, Any]:
        return whole_response(head, _frame(body), accumulators[0])

    return whole


def _stream(body: ResponseRequest) -> StreamWriter:
    return partial(ResponseStream, frame=_frame(body))


def _counted(body: ResponseRequest) -> WholeWriter:
    return counted_body


def _frame(body: ResponseRequest) -> ResponseFrame:
    return ResponseFrame(frame_fields(body), wants_sealed(body), wants_logprobs(body))


RESPONSES = Endpoint(
    path="/v1/responses",
    shape=ResponseRequest,
    id_family="resp",
    read=_prepared,
    whole=_whole,
    stream=_stream,
    examples=answers(RESPONSE, RESPONSE_STREAM),
)
INPUT_TOKENS = Endpoint(
    path="/v1/responses/input_tokens",
    shape=ResponseRequest,
    id_family="tok",
    read=_counting,
    whole=_counted,
    examples=answers({"object": "response.input_tokens", "input_tokens": 12}),
)
