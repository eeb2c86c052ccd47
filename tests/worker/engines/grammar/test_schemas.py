"""Schemas of the field: each is followed, or what of it is not followed is named when `strict` asks for that."""

import json
import re
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction
from ipaddress import IPv4Address, IPv6Network
from pathlib import Path
from typing import Any, Literal
from uuid import UUID

import pytest
from llguidance import LLMatcher, LLTokenizer
from pydantic import AnyUrl, Base64Str, ByteSize, HttpUrl, Json, PastDate, SecretStr, conint, constr, create_model

from millstream.common.errors import BadGrammar
from millstream.common.job import Guide
from millstream.worker.engines.grammar.compiling import Vocabulary, compile_guide
from tests.worker.engines.conftest import byte_tokenizer

FOLDER = Path(__file__).parent / "suite"
SUITE = [json.loads(line) for line in (FOLDER / "draft2020-12.jsonl").read_text().splitlines()]
"""The required groups of JSON Schema's own test suite (json-schema-org/JSON-Schema-Test-Suite), one a line."""

NEEDED = re.compile(r"`\$ref`|`false`|not disjoint|multipleOf")  # cannot be left out, or nothing is valid
ZOD_REFUSED = {"emoji", "hostname", "isoDuration", "float32", "never"}
WORDS = byte_tokenizer()


@pytest.fixture(scope="module")
def tokenizer(vocabulary: Vocabulary) -> LLTokenizer:
    return vocabulary.load()


def compiled(tokenizer: LLTokenizer, schema: Any, *, strict: bool) -> LLMatcher | str:
    """A matcher, or why there is none."""
    try:
        return compile_guide(tokenizer, Guide("json_schema", json.dumps(schema), strict=strict))
    except BadGrammar as error:
        return error.message


def allows(matcher: LLMatcher, value: Any) -> bool:
    ids = WORDS.encode(json.dumps(value, ensure_ascii=False), add_special_tokens=False)
    trial = matcher.deep_copy()
    return trial.try_consume_tokens(ids) == len(ids) and trial.is_accepting()


def keywords(schema: Any) -> set[str]:
    """All names in a schema; a reason must give one of them."""
    if isinstance(schema, list):
        return set[str]().union(*map(keywords, schema))
    if isinstance(schema, dict):
        return set(schema).union(*map(keywords, schema.values()))
    return set()


@pytest.mark.parametrize("pattern", [{}, {"pattern": r"^[0-9T:.+Z-]+$"}], ids=["alone", "beside a pattern"])
@pytest.mark.parametrize(("format", "day"), [("date-time", "2026-11-26T"), ("time", "")])
def test_a_fraction_of_a_second_ends(tokenizer: LLTokenizer, format: str, day: str, pattern: dict[str, str]) -> None:
    matcher = compiled(tokenizer, {"type": "string", "format": format} | pattern, strict=True)
    assert isinstance(matcher, LLMatcher)
    for fraction, valid in [("", True), (".1", True), (".123456789", True), (".1234567890", False)]:
        assert allows(matcher, f"{day}09:30:00{fraction}+01:00") == valid
    assert not allows(matcher, f"{day}24:30:00Z")


@pytest.mark.parametrize("group", dict.fromkeys(each["group"] for each in SUITE))
def test_a_group_of_json_schemas_own_suite_is_followed_or_names_the_keyword(tokenizer: LLTokenizer, group: str) -> None:
    cases = [each for each in SUITE if each["group"] == group and isinstance(each["schema"], dict)]
    assert cases or group == "boolean_schema"
    for case in cases:
        matcher = compiled(tokenizer, case["schema"], strict=True)
        if isinstance(matcher, str):
            named = set(re.findall(r"[$\w]+", matcher)) & (
                keywords(case["schema"]) | {"patternProperty", "false", "$dynamicAnchor"}
            )
            assert named, (case["description"], matcher)
        else:
            wrong = [test for test in case["tests"] if not test["valid"] and allows(matcher, test["data"])]
            assert not wrong, (case["description"], wrong)


@pytest.mark.parametrize("group", dict.fromkeys(each["group"] for each in SUITE))
def test_unless_strict_what_can_be_left_out_is_left_out(tokenizer: LLTokenizer, group: str) -> None:
    for case in SUITE:
        if case["group"] == group and isinstance(case["schema"], dict):
            matcher = compiled(tokenizer, case["schema"], strict=False)
            assert not isinstance(matcher, str) or NEEDED.search(matcher), (case["description"], matcher)


def test_how_much_of_the_suite_is_followed(tokenizer: LLTokenizer) -> None:
    schemas = [each["schema"] for each in SUITE if isinstance(each["schema"], dict)]
    strictly = [schema for schema in schemas if not isinstance(compiled(tokenizer, schema, strict=True), str)]
    leniently = [schema for schema in schemas if not isinstance(compiled(tokenizer, schema, strict=False), str)]
    assert len(schemas) == 366 and len(strictly) >= 180 and len(leniently) >= 337


@pytest.mark.parametrize("strict", [False, True], ids=["lenient", "strict"])
def test_what_zod_writes_for_its_types(tokenizer: LLTokenizer, strict: bool) -> None:
    """The schemas are those that `z.toJSONSchema(z.object({x: …}))` of zod 4.6.7 wrote."""
    cases = [json.loads(line) for line in (FOLDER / "zod-4.6.jsonl").read_text().splitlines()]
    told = {case["type"]: compiled(tokenizer, case["schema"], strict=strict) for case in cases}
    refused = {type: why for type, why in told.items() if isinstance(why, str)}
    assert len(told) > 70 and set(refused) == (ZOD_REFUSED if strict else set())
    assert all(re.search("`pattern`|minimum|not", why) for why in refused.values())


PYDANTIC: list[Any] = [
    *(set[str], frozenset[int], Path, SecretStr, bytes, dict[str, int], dict[int, str], tuple[int, str]),
    *(tuple[int, ...], Decimal, date, datetime, time, timedelta, UUID, IPv4Address, IPv6Network, AnyUrl, HttpUrl),
    *(Literal["a", 1], int | None, int | str, Any, conint(ge=1, le=5, multiple_of=2), bool, None, float, Fraction),
    *(constr(pattern="^a+$", min_length=2), re.Pattern, Base64Str, Json[Any], PastDate, ByteSize),
]


@pytest.mark.parametrize("type", PYDANTIC, ids=str)
def test_what_pydantic_writes_for_its_types(tokenizer: LLTokenizer, type: Any) -> None:
    schema = create_model("Model", x=(type, ...), y=(list[type], [])).model_json_schema()
    assert not isinstance(compiled(tokenizer, schema, strict=False), str)
    why = compiled(tokenizer, schema, strict=True)
    assert "uniqueItems" in str(why) if type in (set[str], frozenset[int]) else not isinstance(why, str)


def test_the_rest_is_followed_when_something_is_left_out(tokenizer: LLTokenizer) -> None:
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {
            "format": {"type": "string", "format": "password", "maxLength": 3},  # called like a keyword
            "pattern": {"type": "string", "pattern": "^(?!x)", "minLength": 2},
            "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "uniqueItems": True, "maxItems": 2},
        },
        "required": ["format", "pattern", "tags"],
        "additionalProperties": False,
    }
    matcher = compiled(tokenizer, schema, strict=False)
    assert not isinstance(matcher, str)
    good: dict[str, Any] = {"format": "abc", "pattern": "xy", "tags": ["a", "a"]}
    assert allows(matcher, good)
    for wrong in ({"format": "abcd"}, {"pattern": "x"}, {"tags": ["c"]}, {"tags": ["a", "b", "a"]}):
        assert not allows(matcher, good | wrong)
    assert "uniqueItems" in str(compiled(tokenizer, schema["properties"]["tags"], strict=True))
    assert "`pattern`" in str(compiled(tokenizer, schema["properties"]["pattern"], strict=True))
    assert not isinstance(compiled(tokenizer, schema["properties"]["format"], strict=True), str)


def test_names_of_properties_are_followed_where_they_are_all_that_is_said(tokenizer: LLTokenizer) -> None:
    few = compiled(tokenizer, {"type": "object", "propertyNames": {"enum": ["a", "b"]}}, strict=True)
    short = compiled(tokenizer, {"type": "object", "propertyNames": {"pattern": "^.{1,2}$"}}, strict=True)
    assert not isinstance(few, str) and not isinstance(short, str)
    assert allows(few, {"a": 1, "b": 2}) and not allows(few, {"c": 1})
    assert allows(short, {"ab": 1}) and not allows(short, {"abc": 1})
