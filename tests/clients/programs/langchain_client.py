"""langchain-openai against a Millstream: `python langchain_client.py BASE_URL MODEL`."""

import asyncio
import json
import sys

from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAI
from pydantic import BaseModel

BASE_URL, MODEL = sys.argv[1:]


class City(BaseModel):
    """A city."""

    name: str
    inhabitants: int


@tool
def weather(city: str) -> str:
    """The weather of a city."""
    return f"rain in {city}"


def script(says: object) -> str:
    return f"script: {json.dumps(says)}"


def main() -> None:
    chat = ChatOpenAI(base_url=BASE_URL, api_key="none", model=MODEL, stream_usage=True)
    answer = chat.invoke(script({"text": "Hello."}))
    assert answer.content == "Hello." and answer.usage_metadata["output_tokens"] > 0, answer

    chunks = list(chat.stream(script({"text": "one two"})))
    assert "".join(chunk.content for chunk in chunks) == "one two", chunks

    conversation = [
        HumanMessage(
            script([{"tool_calls": [{"name": "weather", "arguments": {"city": "Graz"}}]}, {"text": "It rains."}])
        )
    ]
    asked = chat.bind_tools([weather]).invoke(conversation)
    (call,) = asked.tool_calls
    assert (call["name"], call["args"]) == ("weather", {"city": "Graz"}), asked
    conversation += [asked, ToolMessage(weather.invoke(call["args"]), tool_call_id=call["id"])]
    assert chat.bind_tools([weather]).invoke(conversation).content == "It rains."

    said = script({"text": '{"name": "Graz", "inhabitants": 3}'})
    for method in ("json_schema", "json_mode"):
        assert chat.with_structured_output(City, method=method).invoke(said) == City(name="Graz", inhabitants=3), method
    calling = script({"tool_calls": [{"name": "City", "arguments": {"name": "Graz", "inhabitants": 3}}]})
    parsed = chat.with_structured_output(City, method="function_calling").invoke(calling)
    assert parsed == City(name="Graz", inhabitants=3), parsed

    turn = ChatOpenAI(base_url=BASE_URL, api_key="none", model=MODEL, use_responses_api=True).invoke(
        script({"text": "By the other way."})
    )
    assert turn.text == "By the other way.", turn
    assert OpenAI(base_url=BASE_URL, api_key="none", model=MODEL).invoke(script({"text": "plain"})) == "plain"
    several = asyncio.run(chat.abatch([script({"text": str(number)}) for number in range(4)]))
    assert [answer.content for answer in several] == ["0", "1", "2", "3"]


main()
