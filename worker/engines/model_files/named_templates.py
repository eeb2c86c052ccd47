"""Chat templates of checkpoints that ship none, chosen by name: `--chat-template vicuna`. The forms are those that the
models were trained on, as FastChat's conversation templates list them."""

# ruff: noqa: RUF001
# (ChatGLM writes its roles in Chinese)

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from millstream.worker.engines.base import LoadFailed
from millstream.worker.engines.tokenizer import HuggingFaceTokenizer


@dataclass(frozen=True, slots=True)
class NamedTemplate:
    """A template and what belongs to it. `stops` end an answer, beside the model's own end token. `special`: the
    tokenizer adds its special tokens around the whole prompt."""

    text: str
    stops: tuple[str, ...] = ()
    special: bool = False


# A model without a place for a system message reads it at the beginning of the first turn.
_SYSTEM_FIRST = """{%- if messages[0].role == 'system' -%}
{%- set system = messages[0].content + '\n\n' -%}{%- set turns = messages[1:] -%}
{%- else -%}{%- set system = '' -%}{%- set turns = messages -%}{%- endif -%}"""
_ALTERNATE = """{%- if (m.role == 'user') != (loop.index0 % 2 == 0) -%}
{{- raise_exception('The roles must alternate: user, assistant, user, ...') -}}{%- endif -%}"""

_CHATML = """{%- for m in messages -%}
{{- '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' -}}
{%- endfor -%}{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\n' -}}{%- endif -%}"""

_ZEPHYR = """{%- for m in messages -%}
{{- '<|' + m.role + '|>\n' + m.content + eos_token + '\n' -}}
{%- endfor -%}{%- if add_generation_prompt -%}{{- '<|assistant|>\n' -}}{%- endif -%}"""

_VICUNA = (
    """{%- if messages[0].role == 'system' -%}
{%- set system = messages[0].content -%}{%- set turns = messages[1:] -%}{%- else -%}
{%- set system = 'A chat between a curious user and an artificial intelligence assistant. The assistant gives """
    """helpful, detailed, and polite answers to the user\\'s questions.' -%}{%- set turns = messages -%}{%- endif -%}
{{- bos_token | default('') + system -}}{%- for m in turns -%}"""
    + _ALTERNATE
    + """{%- if m.role == 'user' -%}{{- ' USER: ' + m.content -}}
{%- else -%}{{- ' ASSISTANT: ' + m.content + eos_token -}}{%- endif -%}
{%- endfor -%}{%- if add_generation_prompt -%}{{- ' ASSISTANT:' -}}{%- endif -%}"""
)

_ALPACA = (
    """{%- if messages[0].role == 'system' -%}
{%- set system = messages[0].content -%}{%- set turns = messages[1:] -%}{%- else -%}
{%- set system = 'Below is an instruction that describes a task. Write a response that appropriately completes the """
    """request.' -%}{%- set turns = messages -%}{%- endif -%}
{{- bos_token | default('') + system + '\n\n' -}}{%- for m in turns -%}"""
    + _ALTERNATE
    + """{%- if m.role == 'user' -%}{{- '### Instruction:\n' + m.content + '\n\n' -}}
{%- else -%}{{- '### Response:\n' + m.content + eos_token + '\n\n' -}}{%- endif -%}
{%- endfor -%}{%- if add_generation_prompt -%}{{- '### Response:\n' -}}{%- endif -%}"""
)

_LLAMA_2 = (
    """{%- if messages[0].role == 'system' -%}
{%- set system = '<<SYS>>\n' + messages[0].content + '\n<</SYS>>\n\n' -%}{%- set turns = messages[1:] -%}
{%- else -%}{%- set system = '' -%}{%- set turns = messages -%}{%- endif -%}{%- for m in turns -%}"""
    + _ALTERNATE
    + """{%- if m.role == 'user' -%}
{{- bos_token | default('') + '[INST] ' + (system if loop.first else '') + m.content + ' [/INST]' -}}
{%- else -%}{{- ' ' + m.content + ' ' + eos_token -}}{%- endif -%}{%- endfor -%}"""
)


def _baichuan(user: int, assistant: int) -> str:
    return (
        _SYSTEM_FIRST
        + "{{- system -}}{%- for m in turns -%}"
        + f"{{{{- ('<reserved_{user}>' if m.role == 'user' else '<reserved_{assistant}>') + m.content -}}}}"
        + "{%- if m.role != 'user' -%}{{- eos_token -}}{%- endif -%}{%- endfor -%}"
        + f"{{%- if add_generation_prompt -%}}{{{{- '<reserved_{assistant}>' -}}}}{{%- endif -%}}"
    )


def _rounds(first: int, gap: str) -> str:
    """Returns the rounds of ChatGLM and ChatGLM2, which count from another number and leave other gaps."""
    return (
        _SYSTEM_FIRST
        + "{%- for m in turns -%}"
        + _ALTERNATE
        + "{%- if m.role == 'user' -%}{{- '[Round ' ~ (loop.index0 // 2 + "
        + f"{first}) ~ ']{gap}问：' + (system if loop.first else '') + m.content + '{gap}答：' -}}}}"
        + f"{{%- else -%}}{{{{- m.content + '{gap}' -}}}}{{%- endif -%}}{{%- endfor -%}}"
    )


_CHATGLM_3 = """{%- for m in messages -%}{{- '<|' + m.role + '|>\n ' + m.content -}}
{%- endfor -%}{%- if add_generation_prompt -%}{{- '<|assistant|>\n ' -}}{%- endif -%}"""

TEMPLATES: Mapping[str, NamedTemplate] = {
    "alpaca": NamedTemplate(_ALPACA, ("### Instruction:",)),
    "baichuan": NamedTemplate(_baichuan(102, 103)),
    "baichuan2": NamedTemplate(_baichuan(106, 107)),
    "chatglm": NamedTemplate(_rounds(0, "\\n"), special=True),
    "chatglm2": NamedTemplate(_rounds(1, "\\n\\n"), special=True),
    "chatglm3": NamedTemplate(_CHATGLM_3, ("<|user|>", "<|observation|>"), special=True),
    "chatml": NamedTemplate(_CHATML, ("<|im_end|>",)),
    "llama-2": NamedTemplate(_LLAMA_2),
    "vicuna": NamedTemplate(_VICUNA),
    "zephyr": NamedTemplate(_ZEPHYR),
}


def with_template(inner: PreTrainedTokenizerBase, ends: frozenset[int], given: Path | None) -> HuggingFaceTokenizer:
    """Returns a model's tokenizer with its own chat template, or with the one that `--chat-template` means. Stop
    strings that are one token of the vocabulary become ends. Raises `LoadFailed`."""
    if given is None:
        return HuggingFaceTokenizer(inner, ends)
    chosen = template_of(given)
    known = {stop: inner.get_vocab()[stop] for stop in chosen.stops if stop in inner.get_vocab()}
    stops = tuple(stop for stop in chosen.stops if stop not in known)
    return HuggingFaceTokenizer(inner, ends | set(known.values()), chosen.text, stops=stops, special=chosen.special)


def template_of(given: Path) -> NamedTemplate:
    """Returns the template that `--chat-template` means: a file's, or one of these. Raises `LoadFailed`."""
    named = TEMPLATES.get(str(given))
    if named is not None and not given.is_file():
        return named
    try:
        return NamedTemplate(given.expanduser().read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        message = f"Cannot read the file of --chat-template: {error}. Its names are: {', '.join(TEMPLATES)}."
        raise LoadFailed(message, param="chat_template") from error
