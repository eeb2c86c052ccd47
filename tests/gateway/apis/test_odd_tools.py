"""Tools that cannot be offered, in every API that takes some: refused, naming the tool and what is wrong with it."""

from typing import Any

import httpx
import pytest

from tests.gateway.scripted import MODEL

HI = [{"role": "user", "content": "hi"}]
NAMES = ["", "two words", "n" * 200, "ü"]


def nested(name: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name}}


def bodies(name: str) -> dict[str, dict[str, Any]]:
    """A body with a tool of that name for each path."""
    flat = {"type": "function", "name": name}
    return {
        "/v1/chat/completions": {"messages": HI, "tools": [nested(name)]},
        "/v1/responses": {"input": "hi", "tools": [flat]},
        "/v1/responses/input_tokens": {"input": "hi", "tools": [flat]},
        "/v1/messages": {"messages": HI, "max_tokens": 5, "tools": [{"name": name}]},
        "/v1/messages/count_tokens": {"messages": HI, "tools": [{"name": name}]},
        "/api/chat": {"messages": HI, "tools": [nested(name)]},
    }


@pytest.mark.parametrize("path", bodies(""))
@pytest.mark.parametrize("name", NAMES)
async def test_a_name_that_no_template_could_show_is_refused(http: httpx.AsyncClient, path: str, name: str) -> None:
    answer = await http.post(path, json={"model": MODEL, **bodies(name)[path]})
    assert answer.status_code == 400, answer.text
    assert "tools[0]" in answer.text and "name" in answer.text
