"""The Responses API: create, read (also as a stream, from any place), cancel, delete, list the input."""

from dataclasses import replace
from functools import partial
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from starlette.responses import JSONResponse, Response

from millstream.common.errors import BadRequest, ContextLengthExceeded, MillstreamError
from millstream.common.request_id import RequestId
from millstream.gateway.apis.endpoint import Api, Endpoint, StreamWriter, WholeWriter
from millstream.gateway.apis.responses.conversations.route import conversations_of
from millstream.gateway.apis.responses.examples import INPUT_ITEM, RESPONSE, RESPONSE_STREAM
from millstream.gateway.apis.responses.input.items import Item, shown_images
from millstream.gateway.apis.responses.input.listing import listed_items
from millstream.gateway.apis.responses.input.tools import left_out_tools
from millstream.gateway.apis.responses.promise import TurnPromise
from millstream.gateway.apis.responses.read import (
    droppings,
    in_own_terms,
    own_items,
    prepare_count,
    prepare_response,
    wants_logprobs,
    wants_sealed,
)
from millstream.gateway.apis.responses.recall import Recall
from millstream.gateway.apis.responses.response_object import (
    OPENAI_DEFAULTS,
    ResponseFrame,
    conversation_id,
    counted_body,
    frame_fields,
    response_object,
)
from millstream.gateway.apis.responses.service import ResponseService, admitted_response
from millstream.gateway.apis.responses.shape import ResponseRequest
from millstream.gateway.apis.responses.store import StoredResponse, StoredResponses, whole_response
from millstream.gateway.apis.responses.write import ResponseStream
from millstream.gateway.apis.responses.writing import Writing
from millstream.gateway.apis.shared.examples import answers, deleted, listed
from millstream.gateway.apis.shared.json_route import JsonRoute
from millstream.gateway.records.conversations import Conversations
from millstream.gateway.requests.accumulator import Accumulator
from millstream.gateway.requests.handler import RequestHandler
from millstream.gateway.requests.prepared import PreparedRequest, RequestContext
from millstream.gateway.requests.response_meta import ResponseMeta
from millstream.gateway.services.services import InServices, Services, tenant_of

router = APIRouter(tags=["responses"], route_class=JsonRoute)


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
    left_out=lambda body: left_out_tools(body.tools),
    images=lambda body: shown_images(own_items(body)),
)
INPUT_TOKENS = Endpoint(
    path="/v1/responses/input_tokens",
    shape=ResponseRequest,
    id_family="tok",
    read=_counting,
    whole=lambda _: counted_body,
    examples=answers({"object": "response.input_tokens", "input_tokens": 12}),
)
API = Api(router, [RESPONSES, INPUT_TOKENS])


def _turns(request: Request, services: Services) -> StoredResponses:
    return StoredResponses(services.cluster.store, tenant_of(request), services.settings.stored_ttl)


def _response_service(request: Request, services: Services) -> ResponseService:
    return ResponseService(services.cluster.queue, _turns(request, services), tenant_of(request))


def _kept_conversations(request: Request, services: Services) -> Conversations | None:
    return None if services.cluster.store is None else conversations_of(request, services)


def recall_of(request: Request, services: Services) -> Recall:
    """Returns what reads the items that a request of this caller refers to."""
    return Recall(_response_service(request, services), services.settings.max_body_bytes)


@router.post(RESPONSES.path, summary="Take a turn", responses=RESPONSES.examples)
async def create_response(body: ResponseRequest, request: Request, services: InServices) -> Response:
    """A whole response, a stream of typed events, or (`background`) its id to be read later."""
    try:
        return RESPONSES.noted(body, await _create(body, request, services), services)
    except MillstreamError as error:
        in_own_terms(error, body)
        raise


async def _create(body: ResponseRequest, request: Request, services: Services) -> Response:
    body, history = await _recalled(body, recall_of(request, services), _kept_conversations(request, services))
    shown = shown_images([*history, *own_items(body)])
    place = await RESPONSES.context(body.model, request, services, shown)
    failure: ContextLengthExceeded | None = None
    for dropped in droppings([*history, *own_items(body)], body.truncation):
        try:
            order = prepare_response(body, place, history, dropped)
            return await _take(body, order, history, request, services)
        except ContextLengthExceeded as error:
            failure = error
            place = replace(place, caller=replace(place.caller, idempotency_key=None))  # another question by now
    assert failure is not None
    raise failure


async def _recalled(
    body: ResponseRequest, recall: Recall, conversations: Conversations | None
) -> tuple[ResponseRequest, list[Item]]:
    """Returns the body with the items it refers to, and those of the turns before."""
    if not isinstance(body.input, str):
        body = body.model_copy(update={"input": await recall.referred(body.input)})
    if (identity := conversation_id(body)) is not None:
        return body, await recall.conversation(identity, conversations)
    return body, await recall.previous(body.previous_response_id)


@router.post(INPUT_TOKENS.path, summary="Count a turn's input tokens", responses=INPUT_TOKENS.examples)
async def count_input_tokens(body: ResponseRequest, request: Request, services: InServices) -> Response:
    """Counts the tokens of the messages as the model's own template writes them."""
    body, history = await _recalled(body, recall_of(request, services), _kept_conversations(request, services))
    shown = shown_images([*history, *own_items(body)])
    order = prepare_count(body, await INPUT_TOKENS.context(body.model, request, services, shown), history)
    return await RequestHandler(services, request, resumable=False).answer(order, INPUT_TOKENS.writers(body))


async def _take(
    body: ResponseRequest, order: PreparedRequest, history: list[Item], request: Request, services: Services
) -> Response:
    """One attempt at the turn. Raises `ContextLengthExceeded` if the worker says so before the answer begins."""
    turns = _turns(request, services)
    stored = turns.kept and body.store is not False
    if body.background and not stored:
        raise BadRequest("Background responses need a store, and this gateway has none.", param="background")
    resumable = order.caller.resumable or bool(body.background)
    # The job runs on when this gateway dies; a background process then stores its end.
    order = replace(order, submission=replace(order.submission, kept=stored, resumable=resumable))
    exchange = RequestHandler(services, request, resumable=resumable)
    admitted = await exchange.admit(order)
    silent = body.temperature is None or body.top_p is None
    defaults = await services.model_defaults.of(order.submission.model) if silent else OPENAI_DEFAULTS
    turn = _turn(body, order, admitted.id, history, frame_fields(body, defaults))
    seconds = order.submission.timeout + services.settings.retention
    promise = TurnPromise(turn, order.submission, services.cluster, seconds)
    earlier = await turns.find(turn.id) if stored and admitted.repeated else None
    if stored and earlier is None and not admitted.resumed:  # a gateway that died may have submitted and not stored it
        await promise.make(turns, admitted)
    if body.background and not body.stream and earlier is not None:
        turn = await _response_service(request, services).refresh(earlier)
        return JSONResponse(turn.response, headers=admitted.headers())
    if body.background and not body.stream:
        services.background_tasks.start(_response_service(request, services).finish(turn), admitted.id.text)
        return JSONResponse(turn.response, headers=admitted.headers())
    kept = turns if stored or turn.conversation else None
    writing = Writing(turn, kept, services.background_tasks, promise.kept if stored else None, resumable=resumable)
    try:
        return await exchange.answer(order, writing.answer(), admitted)
    except ContextLengthExceeded:
        if stored:
            await turns.delete(turn.id)
        raise


def _fresh(items: list[Item]) -> list[Item]:
    """Returns the items without their clients' ids: in a conversation each item has one of its own."""
    return [item.model_copy(update={"id": None}) for item in items]


def _turn(
    body: ResponseRequest, order: PreparedRequest, identity: RequestId, history: list[Item], frame: dict[str, Any]
) -> StoredResponse:
    """`identity`: of the jobs that are followed; an earlier request's, if this one repeats it."""
    own = own_items(body)
    head = ResponseMeta(identity.text, identity.created, order.submission.model, order.submission.tier)
    turn = StoredResponse(
        response={},
        frame=frame,
        input=listed_items(_fresh(own) if body.conversation else own, identity.text.partition("_")[2]),
        context=[item.model_dump(exclude_none=True) for item in [*history, *own]],
        model=order.submission.model,
        tier=order.submission.tier,
        sealed=wants_sealed(body),
        logprobs=wants_logprobs(body),
        conversation=conversation_id(body) or "",
        kept=body.store is not False,
    )
    turn.response = response_object(head, turn.framed(), "queued", [])
    return turn


@router.get(
    "/v1/responses/{response_id}",
    summary="Read a response",
    responses=answers(RESPONSE, RESPONSE_STREAM),
    response_model=None,
)
async def retrieve_response(
    response_id: str,
    request: Request,
    services: InServices,
    stream: bool = False,
    starting_after: Annotated[int | None, Query(ge=-1)] = None,
) -> Response:
    """Returns the response as it is now; or as a stream, from its beginning or after the event `starting_after`,
    while it is being generated and after, from any gateway."""
    turns = _turns(request, services)
    if not stream:
        return JSONResponse((await _response_service(request, services).read(response_id)).response)
    turn = await turns.get(response_id)
    after = -1 if starting_after is None else starting_after
    writing = Writing(turn, turns, services.background_tasks, resumable=True, after=after)
    exchange = RequestHandler(services, request, resumable=True)
    return await exchange.stream(writing.answer(), admitted_response(turn, tenant_of(request)))


@router.post(
    "/v1/responses/{response_id}/cancel",
    summary="Cancel a response",
    responses=answers(RESPONSE | {"status": "cancelled"}),
)
async def cancel_response(response_id: str, request: Request, services: InServices) -> JSONResponse:
    """Stops a background response wherever it runs. One that is over stays as it is."""
    turn = await _turns(request, services).get(response_id)
    if not turn.response.get("background"):
        message = "Cannot cancel a response that is not a background one: close its connection instead."
        raise BadRequest(message, param="response_id")
    turn = await _response_service(request, services).cancel(turn)
    return JSONResponse(turn.response)


@router.delete(
    "/v1/responses/{response_id}", summary="Delete a response", responses=deleted(RESPONSE["id"], "response")
)
async def delete_response(response_id: str, request: Request, services: InServices) -> dict[str, Any]:
    """Forgets it and its input; a background one that is under way stops."""
    await _response_service(request, services).delete(response_id)
    return {"id": response_id, "object": "response", "deleted": True}


@router.get("/v1/responses/{response_id}/input_items", summary="List a response's input", responses=listed(INPUT_ITEM))
async def list_input_items(
    response_id: str,
    request: Request,
    services: InServices,
    after: str | None = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    order: Literal["asc", "desc"] = "desc",
) -> dict[str, Any]:
    """The turn's own items, the newest first unless asked otherwise."""
    turn = await _turns(request, services).get(response_id)
    items = turn.input if order == "asc" else turn.input[::-1]
    ids = [item["id"] for item in items]
    begin = ids.index(after) + 1 if after in ids else 0
    page = items[begin : begin + limit]
    return {
        "object": "list",
        "data": page,
        "first_id": page[0]["id"] if page else "",
        "last_id": page[-1]["id"] if page else "",
        "has_more": begin + limit < len(items),
    }
