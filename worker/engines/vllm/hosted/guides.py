"""Guides inside vLLM's process. They were tried out and accepted outside; here they are compiled once more, in a
thread, so that the batch goes on meanwhile."""

from collections.abc import Sequence
from threading import Thread

import msgspec
from llguidance import LLMatcher, LLTokenizer

from millstream.common.errors import BadGrammar
from millstream.common.job import Guide
from millstream.worker.engines.grammar.compiling import Vocabulary, compile_guide
from millstream.worker.engines.grammar.guides import Matcher
from millstream.worker.engines.grammar.kept import Kept

WAIT = 0.002  # seconds that a question may hold the batch up
KEPT = 256  # compiled grammars
KEPT_TEXT = 2 << 20  # characters of all of them


class HostedGuides:
    """Compiled guides of one model. `learn` and `begin` return at once."""

    def __init__(self) -> None:
        self._vocabulary: Vocabulary | None = None
        self._tokenizer: LLTokenizer | None = None
        self._compiled: Kept[LLMatcher] = Kept(KEPT, KEPT_TEXT)
        self._at_work: dict[Guide, Thread] = {}

    def learn(self, vocabulary: Vocabulary) -> None:
        """Takes the vocabulary that all guides are compiled for."""
        self._vocabulary = vocabulary

    def begin(self, guide: Guide) -> None:
        """Has a guide compiled in a thread, unless it is or will be."""
        if self._compiled.get(guide) is None and guide not in self._at_work:
            self._at_work[guide] = thread = Thread(target=self._compile, args=(guide,), daemon=True)
            thread.start()

    def ready(self, guide: Guide) -> bool:
        """Tells whether nothing more will happen to a guide."""
        thread = self._at_work.get(guide)
        if thread is None:
            return True
        thread.join(WAIT)
        if not thread.is_alive():
            del self._at_work[guide]
        return not thread.is_alive()

    def matcher(self, guide: Guide, generated: Sequence[int]) -> Matcher:
        """Returns a matcher that stands after `generated`; one that fails says so at its first mask."""
        compiled = self._compiled.get(guide)
        if compiled is None:
            compiled = self._compile(guide)
        matcher = Matcher(compiled.deep_copy())
        for token in generated:
            matcher.consume(token)
        return matcher

    def _compile(self, guide: Guide) -> LLMatcher:
        if self._vocabulary is None:
            raise BadGrammar("The vocabulary for grammars has not been told.")
        if self._tokenizer is None:
            self._tokenizer = self._vocabulary.load()
        compiled = compile_guide(self._tokenizer, guide)
        self._compiled.put(guide, compiled)
        return compiled


def guide_bytes(guide: Guide) -> bytes:
    """Returns a guide as bytes, which vLLM sends between its processes."""
    return msgspec.msgpack.encode(guide)


class GuideExtension:
    """Methods that vLLM adds to its workers (`worker_extension_cls`), called with `collective_rpc`."""

    model_runner: object

    def millstream_learn(self, tokenizer: str, size: int, ends: list[int]) -> None:
        """Takes the vocabulary, as `Vocabulary` has it."""
        if guides := self._millstream_guides():
            guides.learn(Vocabulary(tokenizer, size, ends))

    def millstream_begin(self, guide: bytes) -> None:
        """Has a guide compiled."""
        if guides := self._millstream_guides():
            guides.begin(msgspec.msgpack.decode(guide, type=Guide))

    def millstream_ready(self, guide: bytes) -> bool:
        """Tells whether a guide is compiled."""
        guides = self._millstream_guides()
        return guides is None or guides.ready(msgspec.msgpack.decode(guide, type=Guide))

    def _millstream_guides(self) -> HostedGuides | None:
        """Returns the guides of this process's sampling; None in a stage of a pipeline that samples nothing."""
        batch, sampler = getattr(self.model_runner, "input_batch", None), getattr(self.model_runner, "sampler", None)
        first = getattr(getattr(batch, "logitsprocs", None), "all", ())
        for processor in (*first, *getattr(sampler, "logits_processors", ())):
            if isinstance(found := getattr(processor, "guides", None), HostedGuides):
                return found
        return None
