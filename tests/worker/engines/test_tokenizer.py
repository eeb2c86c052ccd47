"""Text to ids and back, and the chat template's part of OpenAI's messages."""

import pytest

from millstream.common.errors import BadRequest
from millstream.worker.engines.tokenizer import HuggingFaceTokenizer
from tests.worker.engines.conftest import EOS, byte_tokenizer


@pytest.fixture(scope="module")
def words() -> HuggingFaceTokenizer:
    return HuggingFaceTokenizer(byte_tokenizer(), frozenset({3}))


def chat(words: HuggingFaceTokenizer, *messages: dict[str, object], go_on: bool = False, **kwargs: object) -> str:
    return words.decode(words.chat(list(messages), [], go_on=go_on, kwargs=kwargs))


def test_ids_and_bytes(words: HuggingFaceTokenizer) -> None:
    text = "né 🦀"
    ids = words.encode(text)
    assert words.decode(ids) == text
    assert b"".join(words.token_bytes(i) for i in ids) == text.encode()
    assert words.decode(ids[:2]).endswith("\ufffd")  # half a character
    assert words.token_bytes(EOS) == b"<end>"
    assert words.eos_ids == {3, EOS}


def test_the_template_gets_the_messages(words: HuggingFaceTokenizer) -> None:
    rendered = chat(words, {"role": "developer", "content": "Be kind."}, {"role": "user", "content": "Hi"})
    assert rendered == "<system>Be kind.\n<user>Hi\n<assistant>"


def test_null_content_is_empty(words: HuggingFaceTokenizer) -> None:
    called = {"id": "1", "type": "function", "function": {"name": "now", "arguments": "{}"}}
    rendered = chat(
        words, {"role": "assistant", "content": None, "tool_calls": [called]}, {"role": "tool", "content": "9"}
    )
    assert rendered == "<assistant>\n<tool>9\n<assistant>"


def test_the_last_message_can_be_gone_on_with(words: HuggingFaceTokenizer) -> None:
    rendered = chat(
        words, {"role": "user", "content": "Count"}, {"role": "assistant", "content": "One, two"}, go_on=True
    )
    assert rendered == "<user>Count\n<assistant>One, two"


def test_tools_and_template_variables_arrive(words: HuggingFaceTokenizer) -> None:
    tools = [{"type": "function", "function": {"name": "now"}}]
    ids = words.chat([{"role": "user", "content": "?"}], tools, go_on=False, kwargs={"mood": "calm"})
    assert words.decode(ids) == "<user>?\ntools:now\nmood:calm\n<assistant>"


def test_a_variable_cannot_change_the_call(words: HuggingFaceTokenizer) -> None:
    with pytest.raises(BadRequest, match="tokenize") as refused:
        chat(words, {"role": "user", "content": "?"}, tokenize=True)
    assert refused.value.param == "chat_template_kwargs"


def test_a_template_of_its_own_and_its_refusals() -> None:
    template = "{% if messages[0].role != 'user' %}{{ raise_exception('start with user') }}{% endif %}ok"
    words = HuggingFaceTokenizer(byte_tokenizer(), frozenset(), template)
    assert chat(words, {"role": "user", "content": "?"}) == "ok"
    with pytest.raises(BadRequest, match="start with user") as refused:
        chat(words, {"role": "system", "content": "?"})
    assert refused.value.param == "messages"


def test_a_model_without_a_template_says_what_to_do() -> None:
    inner = byte_tokenizer()
    inner.chat_template = None
    with pytest.raises(BadRequest, match="/v1/completions"):
        chat(HuggingFaceTokenizer(inner, frozenset()), {"role": "user", "content": "?"})
