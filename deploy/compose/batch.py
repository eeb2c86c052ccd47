"""Have a batch of twelve lines worked on, and print what became of it: `batch.py PORT`; status 1 if one is missing."""

import json
import sys
import time

import httpx
from openai import OpenAI

LINES = 12


def main(port: str) -> int:
    http = httpx.Client(trust_env=False, timeout=30)
    client = OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="unused", http_client=http)
    bodies = [
        {"model": "lab", "messages": [{"role": "user", "content": str(number)}], "max_tokens": 8}
        for number in range(LINES)
    ]
    lines = [
        {"custom_id": f"q{number}", "method": "POST", "url": "/v1/chat/completions", "body": body}
        for number, body in enumerate(bodies)
    ]
    content = "\n".join(json.dumps(line) for line in lines).encode()
    file = client.files.create(file=("q.jsonl", content), purpose="batch")
    batch = client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
    for _ in range(60):
        batch = client.batches.retrieve(batch.id)
        if batch.status in ("completed", "failed"):
            break
        time.sleep(1)
    print(batch.status, batch.request_counts)
    return int(batch.request_counts is None or batch.request_counts.completed != LINES)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
