"""Chat completions that are stored when they are complete, whichever process dies meanwhile.

Before the client hears of its answer, a draft has all that the chunk log lacks. The gateway that writes the answer
stores it; if it cannot, a background process does, or the next look at the completion.
"""

from functools import partial
from typing import Any

import msgspec
import structlog

from millstream.common.broker.records.unfinished import UnfinishedAnswer, UnfinishedAnswers
from millstream.common.errors import MillstreamError, QuotaExceeded, Unavailable
from millstream.common.job import ModelName, Tier
from millstream.common.request_id import parse_request_id
from millstream.gateway.apis.chat.read import form_of
from millstream.gateway.apis.chat.shape import ChatRequest
from millstream.gateway.apis.chat.write import ChatForm, chat_body
from millstream.gateway.queue.client import QueueClient
from millstream.gateway.records.completions import StoredCompletion, StoredCompletions
from millstream.gateway.records.store import Record, RecordStore
from millstream.gateway.requests.accumulator import Accumulator
from millstream.gateway.requests.admitted import AdmittedRequest
from millstream.gateway.requests.handler import Writers
from millstream.gateway.requests.presenter import RememberedStream
from millstream.gateway.requests.response_meta import ResponseMeta
from millstream.gateway.services.background_tasks import BackgroundTasks

log = structlog.stdlib.get_logger(part="chat")


class CompletionDraft(msgspec.Struct):
    """The part of a completion that is to be stored which its chunk logs do not have."""

    model: str
    tier: Tier
    messages: list[dict[str, Any]]
    metadata: dict[str, str]
    logprobs: bool
    form: ChatForm


def draft_of(body: ChatRequest, model: ModelName, tier: Tier) -> CompletionDraft:
    """Returns the draft for a body."""
    messages = [message.model_dump(exclude_none=True) for message in body.messages]
    return CompletionDraft(model, tier, messages, body.metadata or {}, bool(body.logprobs), form_of(body))


class PromisedCompletions:
    """A tenant's completions that are to be stored: drafts, until they are."""

    def __init__(
        self, store: RecordStore, unfinished: UnfinishedAnswers | None, completions: StoredCompletions, tenant: str
    ) -> None:
        self._store = store
        self._unfinished = unfinished
        self._completions = completions
        self._tenant = tenant

    async def promise(self, identity: str, draft: CompletionDraft, seconds: float) -> None:
        """Writes the draft of an answer that is to come within `seconds`, its log's retention included. Raises
        `Unavailable`."""
        record = Record(identity, parse_request_id(identity).created, msgspec.json.encode(draft))
        await self._store.put(self._tenant, "draft", record, seconds)
        if self._unfinished is not None:
            await self._unfinished.note(self._note(identity, draft), seconds)

    async def keep(self, identity: str, draft: CompletionDraft, completion: dict[str, Any]) -> None:
        """Stores the completion, and the draft goes. Raises `Unavailable`."""
        try:
            await self._completions.put(StoredCompletion(completion | {"metadata": draft.metadata}, draft.messages))
        except QuotaExceeded as error:  # others of the tenant took the room meanwhile; the answer itself is good
            log.warning("completion_not_stored", completion=identity, error=error.message)
        await self._drop(identity, draft)

    async def finish(self, queue: QueueClient, identity: str) -> bool:
        """Stores a completion from its log, if there is a draft and all its jobs are over. Tells whether there is
        nothing more to do: it is stored, failed, or was nobody's. Raises `Unavailable`."""
        found = await self._store.get(self._tenant, "draft", identity)
        if found is None:
            return True
        draft = msgspec.json.decode(found.body, type=CompletionDraft)
        try:
            accumulators = await self._logged(queue, identity, draft)
        except Unavailable:
            raise
        except MillstreamError as error:  # its job failed or was stopped, or nothing is left of it
            log.info("completion_failed", completion=identity, code=error.code, error=error.message)
            await self._drop(identity, draft)
            return True
        if not all(accumulator.finish for accumulator in accumulators):
            return False
        head = ResponseMeta(identity, parse_request_id(identity).created, ModelName(draft.model), draft.tier)
        completion = chat_body(head, accumulators, logprobs=draft.logprobs, form=draft.form)
        await self.keep(identity, draft, completion)
        log.info("completion_stored_from_log", completion=identity)
        return True

    async def _logged(self, queue: QueueClient, identity: str, draft: CompletionDraft) -> list[Accumulator]:
        accumulators: list[Accumulator] = []
        for job in parse_request_id(identity).jobs():
            accumulators.append(Accumulator())
            for _, chunk in await queue.logged(ModelName(draft.model), job, tenant=self._tenant):
                accumulators[-1].add(chunk)
        return accumulators

    async def _drop(self, identity: str, draft: CompletionDraft) -> None:
        await self._store.delete(self._tenant, "draft", identity)
        if self._unfinished is not None:
            await self._unfinished.remove(self._note(identity, draft))

    def _note(self, identity: str, draft: CompletionDraft) -> UnfinishedAnswer:
        return UnfinishedAnswer("completion", identity, self._tenant, draft.model)


class Keeping:
    """An answer that is stored when it is complete, from what this gateway has itself: Redis may have died meanwhile,
    and have forgotten the end that the client has seen."""

    def __init__(
        self, draft: CompletionDraft, answer: Writers, promised: PromisedCompletions, background_tasks: BackgroundTasks
    ) -> None:
        self._draft = draft
        self._answer = answer
        self._promised = promised
        self._background_tasks = background_tasks
        self._stream: RememberedStream | None = None
        self._written: dict[str, Any] | None = None

    def answer(self) -> Writers:
        """Returns the same answer, and keeps it."""
        return Writers(whole=self._whole, stream=self._streamed, ended=self._ended)

    def _streamed(self, head: ResponseMeta) -> RememberedStream:
        assert self._answer.stream is not None
        self._stream = RememberedStream(self._answer.stream(head))
        return self._stream

    def _whole(self, head: ResponseMeta, accumulators: list[Accumulator]) -> dict[str, Any]:
        self._written = self._answer.whole(head, accumulators)
        return self._written

    async def _ended(self, admitted: AdmittedRequest, complete: bool) -> None:
        """An answer that is not complete may still become so: its draft stays until its jobs are over."""
        if not complete:
            return
        if self._written is None and self._stream is not None:
            said = [self._stream.said[choice] for choice in range(len(admitted.jobs))]
            self._written = self._answer.whole(admitted.head(), said)
        assert self._written is not None
        keep = partial(self._promised.keep, admitted.id.text, self._draft, self._written)
        await self._background_tasks.promise(keep, f"store {admitted.id.text}")
