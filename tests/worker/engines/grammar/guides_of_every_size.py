"""Guides that grow with a number, for limits, crashes and slow compiles."""

import json

from millstream.common.job import Guide


def chain_of_rules(length: int) -> Guide:
    """Lark rules, each of which needs the next: the compiler descends one level for each."""
    rules = [f'r{i}: "a" r{i + 1}' for i in range(length)]
    return Guide("grammar", "\n".join(["start: r0", *rules, f'r{length}: "b"']), "guided_grammar")


def chain_of_references(length: int) -> Guide:
    """Definitions, each an object whose one property is the next."""
    defs = {f"d{i}": {"type": "object", "properties": {"x": {"$ref": f"#/$defs/d{i + 1}"}}} for i in range(length)}
    return schema({"$defs": defs | {f"d{length}": {"type": "string"}}, "$ref": "#/$defs/d0"})


def properties(count: int) -> Guide:
    """An object of many optional properties: seconds to compile from some thousands on."""
    return schema({"type": "object", "properties": {f"p{i}": {"type": "string"} for i in range(count)}})


def choices(count: int) -> Guide:
    return Guide("choice", json.dumps([f"choice {i}" for i in range(count)]), "guided_choice")


def words(count: int) -> Guide:
    """Returns choices written as a grammar, which a gateway does not look into."""
    return Guide("grammar", "start: " + " | ".join(f'"c{i}"' for i in range(count)), "guided_grammar")


def schema(value: object) -> Guide:
    return Guide("json_schema", json.dumps(value), "response_format.json_schema.schema")
