"""The OpenAI Agents SDK against a Millstream, by both of its ways: `python agents_client.py BASE_URL MODEL`."""

import asyncio
import json
import sys

from agents import (
    Agent,
    OpenAIChatCompletionsModel,
    OpenAIResponsesModel,
    Runner,
    function_tool,
    set_tracing_disabled,
)
from openai import AsyncOpenAI

BASE_URL, MODEL = sys.argv[1:]
asked: list[str] = []


@function_tool
def weather(city: str) -> str:
    """The weather of a city."""
    asked.append(city)
    return "rain"


async def main() -> None:
    set_tracing_disabled(True)
    client = AsyncOpenAI(base_url=BASE_URL, api_key="none", max_retries=0)
    turns = [{"tool_calls": [{"name": "weather", "arguments": {"city": "Graz"}}]}, {"text": "It rains."}]
    question = f"script: {json.dumps(turns)}"
    for kind in (OpenAIChatCompletionsModel, OpenAIResponsesModel):
        model = kind(model=MODEL, openai_client=client)
        agent = Agent(name="Clerk", instructions="Look outside.", tools=[weather], model=model)
        result = await Runner.run(agent, question)
        assert result.final_output == "It rains.", (kind, result)
        streamed = Runner.run_streamed(agent, question)
        events = [event async for event in streamed.stream_events()]
        assert streamed.final_output == "It rains." and events, (kind, streamed)
    assert asked == ["Graz"] * 4, asked


asyncio.run(main())
