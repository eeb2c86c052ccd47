"""Read three streams at once with OpenAI's own client, and print the length of each: `sdk.py PORT`."""

import sys
from concurrent.futures import ThreadPoolExecutor

import httpx
from openai import OpenAI


def main(port: str) -> None:
    # Without retries: an error in the middle of a stream must show.
    http = httpx.Client(trust_env=False, timeout=90)
    client = OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="unused", max_retries=0, http_client=http)

    def length(number: int) -> int:
        stream = client.chat.completions.create(
            model="lab",
            messages=[{"role": "user", "content": f"say {number}"}],
            max_tokens=150,
            seed=number,
            temperature=0,
            stream=True,
        )
        return sum(len(chunk.choices[0].delta.content or "") for chunk in stream if chunk.choices)

    with ThreadPoolExecutor() as pool:
        print(list(pool.map(length, range(3))))


if __name__ == "__main__":
    main(*sys.argv[1:])
