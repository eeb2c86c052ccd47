"""A sequence's life in the engine: ended, aborted, refused, failed; and an engine that breaks."""

import asyncio
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace

import pytest
from transformers import LlamaForCausalLM

from millstream.common.errors import BadGrammar, BadRequest, ContextLengthExceeded, EngineError, Unavailable
from millstream.common.job import Guide, JobRequest, Sampling, TextPrompt
from millstream.worker.engines.base import SequenceKey
from millstream.worker.engines.transformers.settings import EngineSettings
from millstream.worker.jobs.prepare import begin_sequence
from tests.worker.engines.conftest import EOS
from tests.worker.engines.exactness.test_exact_arithmetic import generated
from tests.worker.engines.rig import Rig

PROMPT = [10, 20, 30]


def test_the_end_token_ends_and_is_told(tiny: Rig) -> None:
    (outputs,) = tiny.run(tiny.spec(PROMPT, 20, ignore_eos=False, logit_bias={str(EOS): 60.0}))
    assert [(o.token, o.finish) for o in outputs] == [(EOS, "stop")]


def test_an_echo_shows_special_tokens_as_they_were_sent(tiny: Rig) -> None:
    tokenizer = tiny.engine.tokenizer
    special = tokenizer.decode([EOS], skip_special=False)
    request = JobRequest(TextPrompt(f"{special}hi"), Sampling(max_tokens=1), echo=True)
    begun = begin_sequence(tiny.engine, tiny.card, request, SequenceKey("echo#1"), [])
    assert begun.spec.prompt[0] == EOS and tokenizer.decode(begun.spec.prompt) == "hi"
    assert begun.start.echo == f"{special}hi"


def test_ignore_eos_goes_on(tiny: Rig) -> None:
    (outputs,) = tiny.run(tiny.spec(PROMPT, 5, ignore_eos=True, logit_bias={str(EOS): 60.0}))
    assert [o.token for o in outputs] == [EOS] * 5
    assert outputs[-1].finish == "length"


def test_stop_token_ids_end_it(tiny: Rig) -> None:
    plain = tiny.one(PROMPT, 20)
    stop = plain[6]
    (outputs,) = tiny.run(tiny.spec(PROMPT, 20, stop_token_ids=[stop]))
    assert [o.token for o in outputs] == plain[: plain.index(stop) + 1]
    assert outputs[-1].finish == "stop"


def test_max_tokens_counts_earlier_leases(tiny: Rig) -> None:
    whole = tiny.one(PROMPT, 12)
    (outputs,) = tiny.run(tiny.spec(PROMPT, 12, generated=whole[:9]))
    assert [o.token for o in outputs] == whole[9:]
    assert outputs[-1].finish == "length"


def test_a_step_is_one_call_of_the_sink(tiny: Rig) -> None:
    start = len(tiny.steps)
    tiny.run(*(tiny.spec([i, i + 1], 10) for i in range(6)))
    assert max(len(step) for step in tiny.steps[start:]) == 6
    assert all(len({o.key for o in step}) == len(step) for step in tiny.steps[start:])


def test_an_aborted_sequence_says_nothing_more_and_the_others_go_on(tiny: Rig) -> None:
    doomed, other = tiny.spec(PROMPT, 400), tiny.spec([7, 7, 7], 60)

    async def abort_after_three() -> int:
        tiny.engine.add(doomed)
        start = len(tiny.steps)
        while sum(o.key == doomed.key for step in tiny.steps[start:] for o in step) < 3:
            await tiny.news()
        tiny.engine.abort(doomed.key)
        tiny.engine.abort(doomed.key)  # unknown by now, and fine
        return len(tiny.steps)

    at = tiny.drive(abort_after_three())
    assert len(tiny.tokens(other)[0]) == 60
    assert not [o for step in tiny.steps[at:] for o in step if o.key == doomed.key]
    assert tiny.engine.stats().running == 0


def test_a_scoring_aborted_in_the_middle_never_generates(tiny: Rig) -> None:
    doomed = tiny.spec([(i * 3) % 250 for i in range(400)], 50, prompt_logprobs=1)

    async def add_and_abort() -> None:
        tiny.engine.add(doomed)
        tiny.engine.abort(doomed.key)

    start = len(tiny.steps)
    tiny.drive(add_and_abort())
    tiny.one(PROMPT, 20)
    assert not [o for step in tiny.steps[start:] for o in step if o.key == doomed.key]
    assert max(len(step) for step in tiny.steps[start:]) == 1


@pytest.mark.usefixtures("tiny_settings")
def test_a_scoring_that_fails_is_that_job_s_own_trouble(tiny: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: object, **__: object) -> Iterator[None]:
        raise ValueError("no room for the logits")
        yield

    monkeypatch.setattr("millstream.worker.engines.transformers.engine.score_prompt", failing)
    told, other = tiny.run(tiny.spec(PROMPT, 0, prompt_logprobs=1), tiny.spec(PROMPT, 5))
    assert "no room for the logits" in str(told[-1].error)
    assert other[-1].finish == "length"


def test_a_shared_prefix_is_told_and_counted(tiny: Rig) -> None:
    prompt = [(i * 11 + 3) % 250 for i in range(100)]
    (first,) = tiny.run(tiny.spec(prompt, 3))
    (second,) = tiny.run(tiny.spec([*prompt, 1, 2], 3))
    assert first[0].cached == 0
    assert [o.cached for o in second] == [96, 0, 0]  # six whole pages of 16
    assert tiny.engine.stats().prefix_hit_rate > 0


def test_more_sequences_than_the_cache_holds_all_end_right(
    tiny_settings: EngineSettings, reference: LlamaForCausalLM
) -> None:
    """Some are put back and read again; none of it shows."""
    prompts = [[i, 2 * i, 99] for i in range(8)]
    with closing(Rig(replace(tiny_settings, max_model_len=160, kv_tokens=320))) as rig:
        ours = rig.tokens(*(rig.spec(prompt, 100) for prompt in prompts))
        warm = [rig.spec(prompt, 100, temperature=1.0, seed=i) for i, prompt in enumerate(prompts)]
        drawn = rig.tokens(*warm)
        assert drawn[5:] == [rig.one(prompts[i], 100, temperature=1.0, seed=i) for i in (5, 6, 7)]
    assert ours == [generated(reference, prompt, 100) for prompt in prompts]


def test_what_cannot_be_is_refused_at_once(tiny: Rig) -> None:
    refuse = tiny.engine.add
    with pytest.raises(ContextLengthExceeded, match="512"):
        refuse(tiny.spec([1] * 500, 20))
    with pytest.raises(BadRequest, match="vocabulary"):
        refuse(tiny.spec([1, 260], 2))
    for wrong in ({"stop_token_ids": [260], "min_tokens": 2}, {"logit_bias": {"260": 1.0}}):
        with pytest.raises(BadRequest, match="260 is not in this model's vocabulary") as refused:
            refuse(tiny.spec(PROMPT, 2, **wrong))
        assert refused.value.param == next(iter(wrong))
    with pytest.raises(BadRequest, match="empty"):
        refuse(tiny.spec([], 2))
    with pytest.raises(BadGrammar, match="unclosed group"):
        refuse(tiny.spec(PROMPT, 2, guide=Guide("regex", "(a")))
    assert tiny.engine.stats().running == 0


def test_steps_grow_with_work(tiny: Rig) -> None:
    before = tiny.engine.stats().steps
    tiny.one(PROMPT, 10)
    assert tiny.engine.stats().steps >= before + 10


def test_a_broken_engine_says_so_and_fails_everything(
    tiny_settings: EngineSettings, request: pytest.FixtureRequest
) -> None:
    if request.config.getoption("--graphs"):
        pytest.skip("a captured graph does not call the model")
    with closing(Rig(tiny_settings)) as rig:
        loaded = rig.engine._loaded
        assert loaded is not None

        def explode(*_: object, **__: object) -> None:
            raise RuntimeError("the device fell off the bus")

        loaded.model.forward = explode
        told = rig.run(rig.spec(PROMPT, 5), rig.spec(PROMPT, 5, temperature=1.0))
        assert [type(outputs[-1].error) for outputs in told] == [EngineError, EngineError]
        assert "fell off the bus" in str(rig.engine.broken)
        with pytest.raises(Unavailable, match="fell off the bus"):
            rig.engine.add(rig.spec(PROMPT, 5))


def test_closing_in_the_middle_is_quiet(tiny_settings: EngineSettings) -> None:
    with closing(Rig(tiny_settings)) as rig:

        async def start_and_leave() -> None:
            rig.engine.add(rig.spec(PROMPT, 400))
            await rig.news()
            await asyncio.to_thread(rig.engine.close)
            await asyncio.sleep(0)

        rig.drive(start_and_leave())
        assert not [o for step in rig.steps for o in step if o.error]
        assert rig.engine.broken is None
