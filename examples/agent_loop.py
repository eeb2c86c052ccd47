"""A model that uses tools until it knows the answer: python examples/agent_loop.py [QUESTION]

It needs a model that was trained to call tools, such as Qwen3; the small sample model was not."""

import json
import os
import sys

from openai import OpenAI

MODEL = os.environ.get("MODEL", "smollm2-135m-instruct")
QUESTION = sys.argv[1] if len(sys.argv) > 1 else "Is it warmer in Graz or in Oslo?"
MOST_TURNS = 8

client = OpenAI(
    base_url=os.environ.get("OPENAI_BASE_URL", "http://127.0.0.1:8000/v1"),
    api_key=os.environ.get("OPENAI_API_KEY", "unused"),
)


def temperature(city: str) -> str:
    return {"Graz": "21 °C", "Oslo": "12 °C"}.get(city, "unknown city")


TOOLS = {"temperature": temperature}
DESCRIBED = [
    {
        "type": "function",
        "function": {
            "name": "temperature",
            "description": "The temperature in a city now.",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        },
    }
]


def run(name: str, arguments: str) -> str:
    """What the tool says, or what was wrong with the call: the model reads it and can try again."""
    try:
        return TOOLS[name](**json.loads(arguments))
    except (KeyError, TypeError, ValueError) as error:
        return f"error: {error!r}"


messages = [{"role": "user", "content": QUESTION}]
for _ in range(MOST_TURNS):
    answer = client.chat.completions.create(model=MODEL, messages=messages, tools=DESCRIBED).choices[0].message
    messages.append(answer.model_dump(exclude_none=True))
    if not answer.tool_calls:
        print(answer.content)
        break
    for call in answer.tool_calls:
        result = run(call.function.name, call.function.arguments)
        print(f"[{call.function.name}({call.function.arguments}) = {result}]", file=sys.stderr)
        messages.append({"role": "tool", "tool_call_id": call.id, "content": result})
else:
    sys.exit(f"no answer after {MOST_TURNS} turns")
