"""Pydantic AI against a Millstream, through each of its three APIs: python pydantic_ai_client.py BASE_URL MODEL"""

import json
import sys

from pydantic import BaseModel
from pydantic_ai import Agent
from pydantic_ai.models import Model
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.output import NativeOutput
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.openai import OpenAIProvider

base_url, name = sys.argv[1:]
openai = OpenAIProvider(base_url=base_url, api_key="none")
anthropic = AnthropicProvider(base_url=base_url.removesuffix("/v1"), api_key="none")
MODELS: list[Model] = [
    OpenAIChatModel(name, provider=openai),
    OpenAIResponsesModel(name, provider=openai),
    AnthropicModel(name, provider=anthropic),
]


class City(BaseModel):
    name: str
    inhabitants: int


def script(says: object) -> str:
    return f"script: {json.dumps(says)}"


def uses_a_tool_and_thinks(model: Model) -> None:
    agent, looked = Agent(model), list[str]()

    @agent.tool_plain
    def weather(city: str) -> str:
        looked.append(city)
        return "rain"

    called = [{"name": "weather", "arguments": {"city": "Graz"}}]
    asked = script([{"reasoning": "Hm.", "tool_calls": called}, {"reasoning": "So.", "text": "It rains."}])
    answer = agent.run_sync(asked)
    assert (answer.output, looked) == ("It rains.", ["Graz"]), answer
    again = agent.run_sync(script({"text": "Still."}), message_history=answer.all_messages())
    assert again.output == "Still.", again


def follows_a_type(model: Model) -> None:
    city = {"name": "Graz", "inhabitants": 3}
    called = script([{"tool_calls": [{"name": "final_result", "arguments": city}]}])
    assert Agent(model, output_type=City).run_sync(called).output == City(**city)


for each in MODELS:
    uses_a_tool_and_thinks(each)
    follows_a_type(each)
native = Agent(MODELS[0], output_type=NativeOutput(City)).run_sync(
    script({"text": '{"name": "Graz", "inhabitants": 3}'})
)
assert native.output == City(name="Graz", inhabitants=3)
