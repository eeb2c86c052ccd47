"""Many questions as one batch, which gives way to all other requests: python examples/batch.py [QUESTION ...]"""

import json
import os
import sys
import time

from openai import OpenAI

MODEL = os.environ.get("MODEL", "smollm2-135m-instruct")
QUESTIONS = sys.argv[1:] or ["What is the capital of France?", "What is the capital of Italy?"]

client = OpenAI(
    base_url=os.environ.get("OPENAI_BASE_URL", "http://127.0.0.1:8000/v1"),
    api_key=os.environ.get("OPENAI_API_KEY", "unused"),
)


def line(number: int, question: str) -> str:
    messages = [{"role": "user", "content": question}]
    body = {"model": MODEL, "messages": messages, "temperature": 0, "max_tokens": 60}
    return json.dumps({"custom_id": f"q{number}", "method": "POST", "url": "/v1/chat/completions", "body": body})


lines = "\n".join(line(number, question) for number, question in enumerate(QUESTIONS))
file = client.files.create(file=("questions.jsonl", lines.encode()), purpose="batch")
batch = client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
while batch.status in ("validating", "in_progress", "finalizing"):
    time.sleep(0.5)
    batch = client.batches.retrieve(batch.id)
print(batch.status, batch.request_counts, file=sys.stderr)
if batch.errors:
    sys.exit("\n".join(f"line {error.line}: {error.message}" for error in batch.errors.data))
for file_id in filter(None, (batch.output_file_id, batch.error_file_id)):
    for answer in map(json.loads, client.files.content(file_id).text.splitlines()):
        body = answer["response"]["body"] if answer["response"] else answer  # a line that never ran has no response
        print(answer["custom_id"], body["choices"][0]["message"]["content"] if "choices" in body else body["error"])
