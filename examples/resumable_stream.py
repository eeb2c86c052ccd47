"""Reads an answer over connections that break, and loses no token: python examples/resumable_stream.py [QUESTION]"""

import json
import os
import sys
import time
import uuid

import httpx

URL = os.environ.get("OPENAI_BASE_URL", "http://127.0.0.1:8000/v1") + "/chat/completions"
QUESTION = sys.argv[1] if len(sys.argv) > 1 else "What is the capital of France?"
body = {"model": os.environ.get("MODEL", "smollm2-135m-instruct"), "stream": True, "temperature": 0, "max_tokens": 60}
body["messages"] = [{"role": "user", "content": QUESTION}]
# The key makes the first try safe as well: sent again, it finds the same answer. It also keeps the answer going
# while nobody is connected.
headers = {"Idempotency-Key": str(uuid.uuid4()), "Authorization": f"Bearer {os.environ.get('OPENAI_API_KEY', '-')}"}

finished = False
while not finished:
    try:
        with httpx.stream("POST", URL, json=body, headers=headers, timeout=60) as answer:
            answer.raise_for_status()
            events = 0
            for line in answer.iter_lines():
                if line.startswith("id: "):
                    event_id = line.removeprefix("id: ")
                elif line == "data: [DONE]":
                    finished = True
                elif line.startswith("data: "):
                    chunk = json.loads(line.removeprefix("data: "))
                    if "error" in chunk:
                        sys.exit(chunk["error"]["message"])
                    for choice in chunk["choices"]:
                        print(choice["delta"].get("content") or "", end="", flush=True)
                    headers["Last-Event-ID"] = event_id  # what has been read; the next connection begins after it
                    events += 1
                    if events == 3:
                        raise httpx.ReadError("cut on purpose")
    except httpx.TransportError as error:
        print(f"[{error}; going on after {headers.get('Last-Event-ID')}]", file=sys.stderr)
        time.sleep(0.1)
print()
