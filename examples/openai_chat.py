"""An answer by OpenAI's own client, whole and then streamed: python examples/openai_chat.py [QUESTION]"""

import os
import sys

from openai import OpenAI

MODEL = os.environ.get("MODEL", "smollm2-135m-instruct")
QUESTION = sys.argv[1] if len(sys.argv) > 1 else "What is the capital of France?"

client = OpenAI(
    base_url=os.environ.get("OPENAI_BASE_URL", "http://127.0.0.1:8000/v1"),
    api_key=os.environ.get("OPENAI_API_KEY", "unused"),
)
messages = [{"role": "user", "content": QUESTION}]

whole = client.chat.completions.create(model=MODEL, messages=messages, temperature=0, max_tokens=60)
print(whole.choices[0].message.content)

stream = client.chat.completions.create(model=MODEL, messages=messages, temperature=0, max_tokens=60, stream=True)
for chunk in stream:
    print(chunk.choices[0].delta.content or "", end="", flush=True)
print()
