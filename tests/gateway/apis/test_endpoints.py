"""The records of the APIs: what they say is what is served."""

from typing import Any, get_args

import pytest
from fastapi.routing import APIRoute

from millstream.gateway.apis.batches.shape import BatchRequest
from millstream.gateway.apis.endpoint import Api, Endpoint, dialect_of
from millstream.gateway.apis.registry import APIS, DIALECTS, ENDPOINTS
from millstream.gateway.errors.table import FieldError

RECORDS = [pytest.param(api, endpoint, id=endpoint.path) for api in APIS for endpoint in api.endpoints]
MISSING = FieldError("Missing required parameter: 'x'.", param="x", wire_code="missing_required_parameter")


@pytest.mark.parametrize(("api", "endpoint"), RECORDS)
def test_a_record_is_a_route_with_its_body_and_its_examples(api: Api, endpoint: Endpoint[Any]) -> None:
    routes = [each for each in api.router.routes if isinstance(each, APIRoute) and each.path == endpoint.path]
    [route] = [each for each in routes if each.methods == {"POST"}]
    assert route.endpoint.__annotations__["body"] is endpoint.shape
    assert route.responses == endpoint.examples
    streams = [media for media in endpoint.examples[200]["content"] if media != "application/json"]
    assert endpoint.stream is not None or not streams


@pytest.mark.parametrize(("api", "endpoint"), RECORDS)
def test_errors_are_told_in_the_dialect_of_the_paths_api(api: Api, endpoint: Endpoint[Any]) -> None:
    assert dialect_of(endpoint.path, DIALECTS).error_body is api.dialect.error_body


def test_batches_may_ask_only_for_what_there_is() -> None:
    assert set(get_args(BatchRequest.model_fields["endpoint"].annotation)) <= set(ENDPOINTS)


@pytest.mark.parametrize(
    ("path", "form"),
    [
        ("/v1/chat/completions", {"message", "type", "param", "code"}),
        ("/v1/messages/nothing", {"type", "message"}),
        ("/nothing", {"message", "type", "param", "code"}),
    ],
)
def test_a_path_without_a_route_has_a_dialect_too(path: str, form: set[str]) -> None:
    assert set(dialect_of(path, DIALECTS).error_body(MISSING)["error"]) == form


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/nobody"])
def test_a_shared_path_speaks_as_its_client_does(path: str) -> None:
    anthropic = dialect_of(path, DIALECTS, [(b"host", b"x"), (b"anthropic-version", b"2023-06-01")])
    assert set(anthropic.error_body(MISSING)["error"]) == {"type", "message"}
    assert set(dialect_of(path, DIALECTS, [(b"host", b"x")]).error_body(MISSING)["error"]) > {"type", "message"}


def test_ollamas_errors_are_text() -> None:
    assert dialect_of("/api/nothing", DIALECTS).error_body(MISSING) == {"error": MISSING.message}
