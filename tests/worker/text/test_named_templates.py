"""Chat templates by name: the texts that the models were trained on."""

# ruff: noqa: RUF001

from pathlib import Path
from typing import Any

import pytest

from millstream.bench.lab.random_model import byte_tokenizer
from millstream.worker.engines.base import LoadFailed, TemplateRefused
from millstream.worker.engines.model_files.named_templates import TEMPLATES, template_of, with_template
from millstream.worker.engines.tokenizer import HuggingFaceTokenizer
from millstream.worker.settings import WorkerSettings

TURNS = [("user", "Hi"), ("assistant", "Hello"), ("user", "Why?")]
A_CHAT = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, detailed, "
    "and polite answers to the user's questions."
)
A_TASK = "Below is an instruction that describes a task. Write a response that appropriately completes the request."
PLAIN = {
    "alpaca": A_TASK
    + "\n\n### Instruction:\nHi\n\n### Response:\nHello<end>\n\n### Instruction:\nWhy?\n\n### Response:\n",
    "baichuan": "<reserved_102>Hi<reserved_103>Hello<end><reserved_102>Why?<reserved_103>",
    "baichuan2": "<reserved_106>Hi<reserved_107>Hello<end><reserved_106>Why?<reserved_107>",
    "chatglm": "[Round 0]\n问：Hi\n答：Hello\n[Round 1]\n问：Why?\n答：",
    "chatglm2": "[Round 1]\n\n问：Hi\n\n答：Hello\n\n[Round 2]\n\n问：Why?\n\n答：",
    "chatglm3": "<|user|>\n Hi<|assistant|>\n Hello<|user|>\n Why?<|assistant|>\n ",
    "chatml": "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello<|im_end|>\n"
    "<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n",
    "llama-2": "[INST] Hi [/INST] Hello <end>[INST] Why? [/INST]",
    "vicuna": A_CHAT + " USER: Hi ASSISTANT: Hello<end> USER: Why? ASSISTANT:",
    "zephyr": "<|user|>\nHi<end>\n<|assistant|>\nHello<end>\n<|user|>\nWhy?<end>\n<|assistant|>\n",
}
WITH_SYSTEM = {
    "alpaca": "Be brief.\n\n### Instruction:\nHi\n\n### Response:\n",
    "baichuan": "Be brief.\n\n<reserved_102>Hi<reserved_103>",
    "chatglm2": "[Round 1]\n\n问：Be brief.\n\nHi\n\n答：",
    "chatglm3": "<|system|>\n Be brief.<|user|>\n Hi<|assistant|>\n ",
    "llama-2": "[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\nHi [/INST]",
    "vicuna": "Be brief. USER: Hi ASSISTANT:",
    "zephyr": "<|system|>\nBe brief.<end>\n<|user|>\nHi<end>\n<|assistant|>\n",
}


def named(name: str, *tokens: str) -> HuggingFaceTokenizer:
    inner = byte_tokenizer("")
    inner.add_special_tokens({"additional_special_tokens": list(tokens)})
    return with_template(inner, frozenset(), Path(name))


def rendered(tokenizer: HuggingFaceTokenizer, *turns: tuple[str, str], go_on: bool = False) -> str:
    messages: list[dict[str, Any]] = [{"role": role, "content": content} for role, content in turns]
    return tokenizer.decode(tokenizer.chat(messages, [], go_on=go_on, kwargs={}), skip_special=False)


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_conversation_is_written_as_it_was_trained_on(name: str) -> None:
    assert rendered(named(name), *TURNS) == PLAIN[name]


@pytest.mark.parametrize("name", WITH_SYSTEM)
def test_a_system_message_has_its_place(name: str) -> None:
    assert rendered(named(name), ("system", "Be brief."), ("user", "Hi")) == WITH_SYSTEM[name]


@pytest.mark.parametrize("name", ["vicuna", "alpaca", "llama-2", "chatglm"])
def test_roles_that_do_not_alternate_are_said_otherwise(name: str) -> None:
    """The worker then joins messages until the template takes them."""
    with pytest.raises(TemplateRefused):
        rendered(named(name), ("user", "Hi"), ("user", "Why?"))


@pytest.mark.parametrize("name", ["chatml", "vicuna"])
def test_an_answer_that_has_begun_goes_on(name: str) -> None:
    assert rendered(named(name), ("user", "Hi"), ("assistant", "Hel"), go_on=True).endswith("Hel")


def test_what_ends_a_turn_is_an_end_token_or_a_stop_string() -> None:
    assert named("chatml").stops == ("<|im_end|>",)
    known = named("chatml", "<|im_end|>")
    assert known.stops == () and known.inner.convert_tokens_to_ids("<|im_end|>") in known.eos_ids
    assert named("alpaca").stops == ("### Instruction:",)


def test_what_is_neither_a_file_nor_a_name_is_told(tmp_path: Path) -> None:
    with pytest.raises(LoadFailed, match="Its names are: alpaca, baichuan"):
        template_of(tmp_path / "vicunna")
    (tmp_path / "own.jinja").write_text("{{ messages }}")
    assert template_of(tmp_path / "own.jinja").text == "{{ messages }}"


def test_the_flag_tells_all_names() -> None:
    told = WorkerSettings.model_fields["chat_template"].description or ""
    assert ", ".join(TEMPLATES) in told
