"""litellm as a client of a Millstream: `python litellm_client.py BASE_URL MODEL`."""

import asyncio
import json
import sys

import litellm

BASE_URL, MODEL = sys.argv[1:]
THERE = {"api_base": BASE_URL, "api_key": "none"}
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


def ask(**says: object) -> list[dict[str, str]]:
    return [{"role": "user", "content": f"script: {json.dumps(says)}"}]


async def main() -> None:
    model = f"openai/{MODEL}"
    answer = litellm.completion(model=model, messages=ask(text="Hello."), **THERE)
    assert answer.choices[0].message.content == "Hello." and answer.usage.completion_tokens > 0, answer

    stream = litellm.completion(model=model, messages=ask(text="one two"), stream=True, **THERE)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == "one two"

    thought = await litellm.acompletion(model=model, messages=ask(reasoning="Hm.", text="Yes."), **THERE)
    assert thought.choices[0].message.reasoning_content.strip() == "Hm.", thought

    called = ask(tool_calls=[{"name": "weather", "arguments": {"city": "Graz"}}])
    asked = await litellm.acompletion(model=model, messages=called, tools=[WEATHER], **THERE)
    (call,) = asked.choices[0].message.tool_calls
    assert json.loads(call.function.arguments) == {"city": "Graz"}, asked

    plain = litellm.text_completion(
        model=f"text-completion-openai/{MODEL}", prompt=ask(text="plain")[0]["content"], **THERE
    )
    assert plain.choices[0].text == "plain", plain
    turn = litellm.responses(model=model, input=ask(text="By the other way.")[0]["content"], **THERE)
    assert turn.output[0].content[0].text == "By the other way.", turn

    try:
        litellm.completion(model="openai/no such model", messages=ask(text=""), **THERE)
    except litellm.NotFoundError:
        pass
    else:
        raise AssertionError("an unknown model is an error")
    message = litellm.completion(
        model=f"anthropic/{MODEL}",
        messages=ask(text="As Anthropic says."),
        api_base=BASE_URL.removesuffix("/v1"),
        api_key="none",
        max_tokens=100,
    )
    assert message.choices[0].message.content == "As Anthropic says.", message


asyncio.run(main())
