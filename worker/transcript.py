"""One job's text: what becomes readable as its tokens come. (First form: plain text only.)"""

from collections.abc import Sequence

from common.chunk import Chunk, FinishReason, TokenLogprob, Usage
from common.job import JobRequest
from worker.engines.base import RawLogprob, Tokenizer


class Transcript:
    stopped = False

    def __init__(self, tokenizer: Tokenizer, request: JobRequest, prompt: Sequence[int]) -> None:
        self._tokenizer = tokenizer
        self._prompt = prompt
        self._ids: list[int] = []
        self._shown = 0

    def refeed(self, ids: Sequence[int]) -> None:
        for token in ids:
            self.feed(token, None, None)

    def feed(self, token: int, logprob: RawLogprob | None, finish: str | None) -> Chunk:
        self._ids.append(token)
        text = self._tokenizer.decode(self._ids)
        if text.endswith("�"):
            return Chunk(ids=[token])
        new, self._shown = text[self._shown :], len(text)
        return Chunk(ids=[token], text=new)

    def end(self, reason: FinishReason, cached: int) -> list[Chunk]:
        return [Chunk(finish=reason, usage=Usage(len(self._prompt), len(self._ids), cached))]

    def prompt_logprobs(self, raw: Sequence[RawLogprob]) -> list[TokenLogprob]:
        return []


def merge(chunks: Sequence[Chunk]) -> Chunk:
    ids = [i for c in chunks for i in c.ids]
    return Chunk(ids=ids, text="".join(c.text for c in chunks))
