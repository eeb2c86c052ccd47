"""Finds the text that fits a question by its embedding, and answers from it: python examples/retrieval.py [QUESTION]"""

import os
import sys

from openai import OpenAI

MODEL = os.environ.get("MODEL", "smollm2-135m-instruct")
EMBEDDING_MODEL = os.environ.get("EMBEDDING_MODEL", "all-minilm-l6-v2")
QUESTION = sys.argv[1] if len(sys.argv) > 1 else "What does an hour of parking cost?"
TEXTS = [
    "The swimming pool is open from May to September.",
    "The library opens at 9 am and closes at 8 pm.",
    "Parking in the old town costs two euros an hour.",
    "The museum shows watermills and how grain was ground.",
]

client = OpenAI(
    base_url=os.environ.get("OPENAI_BASE_URL", "http://127.0.0.1:8000/v1"),
    api_key=os.environ.get("OPENAI_API_KEY", "unused"),
)


def vectors(texts: list[str]) -> list[list[float]]:
    return [item.embedding for item in client.embeddings.create(model=EMBEDDING_MODEL, input=texts).data]


def likeness(one: list[float], other: list[float]) -> float:
    """The cosine; these vectors have the length 1."""
    return sum(a * b for a, b in zip(one, other, strict=True))


asked, *known = vectors([QUESTION, *TEXTS])
best = max(range(len(TEXTS)), key=lambda index: likeness(asked, known[index]))
print(f"[{TEXTS[best]}]", file=sys.stderr)
prompt = f"{TEXTS[best]}\n\nAnswer in one short sentence, from this text alone: {QUESTION}"
answer = client.chat.completions.create(
    model=MODEL, messages=[{"role": "user", "content": prompt}], temperature=0, max_tokens=60
)
print(answer.choices[0].message.content)
