"""On a tiny random model the engine does what `transformers.generate` does, number for number."""

import statistics
from contextlib import closing
from dataclasses import replace

import pytest
import torch
from transformers import LlamaForCausalLM

from millstream.worker.engines.transformers.settings import EngineSettings
from tests.worker.engines.conftest import EOS
from tests.worker.engines.rig import Rig

PROMPTS = [[5, 9, 200], list(range(40, 75)), [17] * 20, [255, 3, 3, 90, 14, 61]]


def generated(model: LlamaForCausalLM, prompt: list[int], new: int, **options: object) -> list[int]:
    ids = torch.tensor([prompt])
    options = {"eos_token_id": None, "pad_token_id": EOS} | options
    out = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=new, do_sample=False, **options)
    return out[0, len(prompt) :].tolist()


def test_greedy_equals_generate_token_for_token_in_one_batch(tiny: Rig, reference: LlamaForCausalLM) -> None:
    ours = tiny.tokens(*(tiny.spec(prompt, 40) for prompt in PROMPTS))
    assert ours == [generated(reference, prompt, 40) for prompt in PROMPTS]


@pytest.mark.parametrize("penalty", [0.7, 1.4])
def test_repetition_penalty_counts_prompt_and_completion(
    tiny: Rig, reference: LlamaForCausalLM, penalty: float
) -> None:
    ours = tiny.tokens(*(tiny.spec(prompt, 30, repetition_penalty=penalty) for prompt in PROMPTS))
    assert ours == [generated(reference, prompt, 30, repetition_penalty=penalty) for prompt in PROMPTS]


def test_logit_bias_is_added_to_the_logits(tiny: Rig, reference: LlamaForCausalLM) -> None:
    plain = tiny.one(PROMPTS[0], 20)
    bias = {plain[0]: -4.0, 33: 3.5}
    ours = tiny.one(PROMPTS[0], 20, logit_bias={str(t): v for t, v in bias.items()})
    assert ours == generated(reference, PROMPTS[0], 20, sequence_bias={(t,): v for t, v in bias.items()})
    assert ours != plain


def test_min_tokens_holds_the_end_back(tiny: Rig, reference: LlamaForCausalLM) -> None:
    longing = {str(EOS): 60.0}
    assert tiny.one(PROMPTS[1], 20, ignore_eos=False, logit_bias=longing) == [EOS]
    ours = tiny.one(PROMPTS[1], 20, ignore_eos=False, logit_bias=longing, min_tokens=7)
    theirs = generated(reference, PROMPTS[1], 20, eos_token_id=EOS, min_new_tokens=7, sequence_bias={(EOS,): 60.0})
    assert ours == theirs
    assert ours.index(EOS) == 7


def test_presence_and_frequency_count_the_completion_alone(tiny: Rig, reference: LlamaForCausalLM) -> None:
    presence, frequency = 1.1, 0.7
    tokens: list[int] = []
    for _ in range(20):
        logits = reference(torch.tensor([PROMPTS[2] + tokens])).logits[0, -1].detach()
        for token in set(tokens):
            logits[token] -= presence + frequency * tokens.count(token)
        tokens.append(int(logits.argmax()))
    assert tiny.one(PROMPTS[2], 20, presence_penalty=presence, frequency_penalty=frequency) == tokens


def test_logprobs_are_the_log_softmax_of_the_raw_logits(tiny: Rig, reference: LlamaForCausalLM) -> None:
    spec = tiny.spec(PROMPTS[3], 12, logprobs=5, temperature=0.8, seed=4, top_k=9, frequency_penalty=0.5)
    (outputs,) = tiny.run(spec)
    tokens = PROMPTS[3] + [o.token for o in outputs]
    expected = reference(torch.tensor([tokens])).logits[0].log_softmax(-1)
    for i, output in enumerate(outputs, len(PROMPTS[3]) - 1):
        assert output.logprob is not None
        assert output.logprob.logprob == pytest.approx(float(expected[i, output.token]), abs=1e-4)
        best = expected[i].topk(5)
        assert [t for t, _ in output.logprob.top] == best.indices.tolist()
        assert [v for _, v in output.logprob.top] == pytest.approx(best.values.tolist(), abs=1e-4)


def test_prompt_logprobs_without_generating(tiny: Rig, reference: LlamaForCausalLM) -> None:
    prompt = [(i * 37) % 250 for i in range(300)]  # longer than one scoring piece
    (outputs,) = tiny.run(tiny.spec(prompt, 0, prompt_logprobs=2))
    assert [o.finish for o in outputs] == ["length"]
    told = outputs[0].prompt_logprobs
    assert told is not None
    assert len(told) == len(prompt)
    assert told[0].logprob is None
    expected = reference(torch.tensor([prompt])).logits[0].log_softmax(-1)
    theirs = [float(expected[i - 1, prompt[i]]) for i in range(1, len(prompt))]
    assert [t.logprob for t in told[1:]] == pytest.approx(theirs, abs=1e-3)
    assert [t.top[0][0] for t in told[1:]] == expected[:-1].argmax(-1).tolist()


def test_prompt_logprobs_come_with_the_first_token_when_generating(tiny: Rig) -> None:
    (outputs,) = tiny.run(tiny.spec(PROMPTS[0], 4, prompt_logprobs=0))
    assert [o.prompt_logprobs is not None for o in outputs] == [True, False, False, False]
    assert [o.token for o in outputs] == tiny.one(PROMPTS[0], 4)


def test_a_long_prompt_is_read_in_pieces_with_the_same_result(tiny: Rig, reference: LlamaForCausalLM) -> None:
    prompt = [(i * 31 + 7) % 250 for i in range(230)]  # step_tokens is 64
    assert tiny.one(prompt, 20) == generated(reference, prompt, 20)


def test_running_streams_flow_while_a_long_prompt_is_read(tiny: Rig) -> None:
    stream, long = tiny.spec([1, 2, 3], 60), tiny.spec([(i * 13) % 250 for i in range(400)], 2)
    start = len(tiny.steps)
    tiny.run(stream, long)
    steps = tiny.steps[start:]
    first_of_long = next(i for i, step in enumerate(steps) if any(o.key == long.key for o in step))
    assert sum(o.key == stream.key for step in steps[:first_of_long] for o in step) >= 5


def test_in_half_precision_it_stays_near(tiny_settings: EngineSettings, reference: LlamaForCausalLM) -> None:
    """Prompts in pieces, from shared pages and in one batch: a lost or foreign token would move all that follow."""
    long = [(i * 31 + 7) % 250 for i in range(230)]
    prompts = [*PROMPTS, long, long[:100], [9] * 40]
    with closing(Rig(replace(tiny_settings, dtype="bfloat16"))) as rig:
        for _ in range(2):  # the second time, the prompts' pages are there
            told = rig.run(*(rig.spec(prompt, 60, logprobs=0) for prompt in prompts))
    far: list[float] = []
    for prompt, outputs in zip(prompts, told, strict=True):
        assert (outputs[0].cached > 0) == (len(prompt) > 16)
        made = [o.token for o in outputs]
        expected = reference(torch.tensor([prompt + made])).logits[0].log_softmax(-1)
        for i, output in enumerate(outputs, len(prompt) - 1):
            assert output.logprob is not None
            assert output.logprob.logprob is not None
            far.append(abs(output.logprob.logprob - float(expected[i, output.token])))
    assert statistics.mean(far) < 0.1
    assert max(far) < 1
