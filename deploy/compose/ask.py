"""Ask for streams of the simulated model at once, and print a line for each: number, end, hash, longest silence.

ask.py PORT STREAMS [KEY]
"""

import asyncio
import hashlib
import sys
import time

import httpx
from httpx_sse import aconnect_sse

PATIENCE = 90.0  # seconds without a byte
Told = tuple[str, str, float]


async def ask(http: httpx.AsyncClient, number: int) -> Told:
    """Returns how a stream ended, what its text was, and its longest silence in seconds."""
    question = [{"role": "user", "content": f"say {number}"}]
    body = {"model": "lab", "stream": True, "max_tokens": 150, "seed": number, "temperature": 0, "messages": question}
    text, silence, last, end = "", 0.0, time.monotonic(), "cut"
    try:
        async with aconnect_sse(http, "POST", "/v1/chat/completions", json=body) as source:
            async for event in source.aiter_sse():
                now = time.monotonic()
                silence, last = max(silence, now - last), now
                if event.data == "[DONE]":
                    end = "whole"
                    break
                text += "".join(choice["delta"].get("content") or "" for choice in event.json().get("choices", []))
    except (httpx.HTTPError, ValueError, KeyError) as error:
        end = type(error).__name__
    return end, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()[:12], round(silence, 1)


async def main(port: str, streams: str, key: str = "unused") -> None:
    headers = {"Authorization": f"Bearer {key}"}
    address = f"http://127.0.0.1:{port}"
    async with httpx.AsyncClient(base_url=address, headers=headers, timeout=PATIENCE, trust_env=False) as http:
        told = await asyncio.gather(*(ask(http, number) for number in range(int(streams))))
    for number, (end, text, silence) in enumerate(told):
        print(number, end, text, silence)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
