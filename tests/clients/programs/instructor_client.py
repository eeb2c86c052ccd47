"""instructor against a Millstream: `python instructor_client.py BASE_URL MODEL`."""

import json
import sys

import instructor
from openai import OpenAI
from pydantic import BaseModel

BASE_URL, MODEL = sys.argv[1:]


class City(BaseModel):
    """A city."""

    name: str
    inhabitants: int


GRAZ = {"name": "Graz", "inhabitants": 3}


def ask(**says: object) -> list[dict[str, str]]:
    return [{"role": "user", "content": f"script: {json.dumps(says)}"}]


def main() -> None:
    as_text = ask(text=json.dumps(GRAZ))
    as_call = ask(tool_calls=[{"name": "City", "arguments": GRAZ}])
    modes = {
        instructor.Mode.TOOLS: as_call,
        instructor.Mode.JSON_SCHEMA: as_text,
    }
    for mode, messages in modes.items():
        client = instructor.from_openai(OpenAI(base_url=BASE_URL, api_key="none", max_retries=0), mode=mode)
        found = client.chat.completions.create(model=MODEL, messages=messages, response_model=City, max_retries=0)
        assert found.model_dump() == GRAZ, (mode, found)
        partial = client.chat.completions.create_partial(model=MODEL, messages=messages, response_model=City)
        assert list(partial)[-1].model_dump() == GRAZ, mode


main()
