"""LlamaIndex's LLM for OpenAI-like servers against a Millstream: `python llama_index_client.py BASE_URL MODEL`."""

import asyncio
import json
import sys

from llama_index.core.llms import ChatMessage
from llama_index.core.tools import FunctionTool
from llama_index.llms.openai_like import OpenAILike

BASE_URL, MODEL = sys.argv[1:]


def weather(city: str) -> str:
    """The weather of a city."""
    return f"rain in {city}"


def script(**says: object) -> str:
    return f"script: {json.dumps(says)}"


def main() -> None:
    llm = OpenAILike(model=MODEL, api_base=BASE_URL, api_key="none", is_chat_model=True, is_function_calling_model=True)
    assert str(llm.complete(script(text="Hello."))) == "Hello."
    asked = [ChatMessage(role="user", content=script(text="one two"))]
    assert llm.chat(asked).message.content == "one two"
    assert "".join(part.delta or "" for part in llm.stream_chat(asked)) == "one two"
    assert asyncio.run(llm.achat(asked)).message.content == "one two"
    said = script(tool_calls=[{"name": "weather", "arguments": {"city": "Graz"}}])
    response = llm.predict_and_call([FunctionTool.from_defaults(weather)], user_msg=said)
    assert str(response) == "rain in Graz", response
    plain = OpenAILike(model=MODEL, api_base=BASE_URL, api_key="none", is_chat_model=False)
    assert str(plain.complete(script(text="plain"))) == "plain"


main()
