"""The rules of the chat templates of the most used model families, each written down in a template of our own.

What is stated is what matters to a conversation's order: which roles there are and where they may stand, what is
refused and in which words, what is left out in silence, and how calls are spelt. The wordings of the families' own
prompts are not here.
"""

_TURN = "<{{ m.role }}>{{ m.content }}\n"
_END = "{% if add_generation_prompt %}<assistant>{% endif %}"
_TOOLS = "{% if tools %}<tools>{{ tools | tojson }}\n{% endif %}"
_SYSTEM = (
    "{% if messages[0].role == 'system' %}{% set system = messages[0].content %}{% set loop_messages = messages[1:] %}"
    "{% else %}{% set system = '' %}{% set loop_messages = messages %}{% endif %}"
)
_JSON_CALLS = "{% for c in m.tool_calls %}<call>{{ c.function.name }} {{ c.function.arguments | tojson }}\n{% endfor %}"
_ITEM_CALLS = (
    "{% for c in m.tool_calls %}<call>{{ c.function.name }}{% for key, value in c.function.arguments | items %}"
    "<{{ key }}>{{ value }}{% endfor %}\n{% endfor %}"
)
_TEXT_CALLS = "{% for c in m.tool_calls %}<call>{{ c.function.name + '\n' + c.function.arguments }}\n{% endfor %}"


def _refuse(why: str) -> str:
    return "{{ raise_exception('" + why + "') }}"


def _loop(body: str, over: str = "messages") -> str:
    return "{% for m in " + over + " %}" + body + "{% endfor %}" + _END


_ALTERNATING = "{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}" + _refuse("roles must alternate") + "{% endif %}"
_ALTERNATING_BUT_CALLS = (
    "{% set ns = namespace(at=0) %}{% for m in loop_messages %}"
    "{% if not (m.role == 'tool' or m.tool_calls is defined) %}"
    "{% if (m.role == 'user') != (ns.at % 2 == 0) %}"
    + _refuse("After the optional system message, conversation roles must alternate")
    + "{% endif %}{% set ns.at = ns.at + 1 %}{% endif %}{% endfor %}"
)
_NINE = (
    "{% if ID | length != 9 %}" + _refuse("Tool call IDs should be alphanumeric strings with length 9!") + "{% endif %}"
)
_NINE_CALLS = (
    "{% for c in m.tool_calls %}[TOOL_CALLS]{{ c.function | tojson }}"
    + _NINE.replace("ID", "c.id")
    + "{{ c.id }}\n{% endfor %}"
)
_MISTRAL_TURNS = (
    "{% if m.role == 'user' %}[INST]{{ m.content }}[/INST]\n"
    "{% elif m.tool_calls is defined %}" + _NINE_CALLS + "{% elif m.role == 'assistant' %}{{ m.content }}\n"
    "{% elif m.role == 'tool' %}[TOOL_RESULTS]{{ m.content }}" + _NINE.replace("ID", "m.tool_call_id") + "\n"
    "{% else %}" + _refuse("Only user and assistant roles are supported, with an initial optional system message!")
)
_MISTRAL = (
    _SYSTEM + _ALTERNATING_BUT_CALLS + "{{ system }}" + _TOOLS + _loop(_MISTRAL_TURNS + "{% endif %}", "loop_messages")
)
_ANY_ROLE = _loop(_TURN)
_QWEN = _TOOLS + _loop("<{{ m.role }}>{{ m.content }}\n{% if m.tool_calls %}" + _JSON_CALLS + "{% endif %}")
_LLAMA_3 = (
    _SYSTEM
    + "{{ system }}"
    + _TOOLS
    + _loop(
        "{% if 'tool_calls' in m %}{% if m.tool_calls | length != 1 %}"
        + _refuse("This model only supports single tool-calls at once!")
        + "{% endif %}"
        + _JSON_CALLS
        + "{% else %}"
        + _TURN
        + "{% endif %}",
        "loop_messages",
    )
)
_STRICT = _SYSTEM + "{{ system }}" + _loop(_ALTERNATING + _TURN, "loop_messages")
_THREE_ROLES = _loop("{% if m.role in ('system', 'user', 'assistant') %}" + _TURN + "{% endif %}")
_ONE_SYSTEM = (
    _SYSTEM
    + "{{ system }}"
    + _loop("{% if m.role in ('user', 'assistant') %}" + _TURN + "{% endif %}", "loop_messages")
)

FAMILIES: dict[str, str | dict[str, str]] = {
    "ChatML (Yi 1, SmolLM 2, OpenHermes)": _ANY_ROLE,
    "Qwen 2.5": _QWEN,
    "Qwen 3": "{% for m in messages[::-1] %}{% if m.role == 'user' %}{% endif %}{% endfor %}" + _QWEN,
    "Qwen 3.5": (
        _TOOLS
        + "{% set ns = namespace(asked=false) %}{% for m in messages %}{% if m.role == 'user' %}"
        + "{% set ns.asked = true %}{% endif %}{% endfor %}{% if not ns.asked %}"
        + _refuse("No user query found in messages.")
        + "{% endif %}"
        + _loop(
            "{% if m.role == 'system' and not loop.first %}"
            + _refuse("System message must be at the beginning.")
            + "{% endif %}"
            + _TURN
            + "{% if m.tool_calls %}"
            + _ITEM_CALLS
            + "{% endif %}"
        )
    ),
    "Llama 2": _STRICT,
    "Llama 3": _LLAMA_3,
    "Llama 4": _LLAMA_3.replace("m.tool_calls | length != 1", "false"),
    "Mistral 7B v0.3, Nemo": _MISTRAL,
    "Ministral 3, Devstral": _MISTRAL.replace("{% for c in", "{{ m.content }}{% for c in").replace(
        "{% elif m.role == 'assistant' %}",
        "{% elif m.role == 'assistant' %}{% if not m.content %}"
        + _refuse("Assistant message must have content")
        + "{% endif %}",
    ),
    "Mistral Small 3": _loop(
        "{% if m.role not in ('user', 'system', 'assistant') %}"
        + _refuse("Only user, system and assistant roles are supported!")
        + "{% endif %}"
        + _TURN
    ),
    "Mixtral": _STRICT,
    "Gemma 2": "{% if messages[0].role == 'system' %}"
    + _refuse("System role not supported")
    + "{% endif %}"
    + _loop(_ALTERNATING + _TURN),
    "Gemma 3": _STRICT,
    "Phi 3": _THREE_ROLES,
    "Phi 4 mini": _loop("{% if m.role == 'system' and 'tools' in m %}{{ m.tools }}{% endif %}" + _TURN),
    "DeepSeek V3": (
        "{% set ns = namespace(system='') %}{% for m in messages %}{% if m.role == 'system' %}"
        "{% set ns.system = ns.system + m.content %}{% endif %}{% endfor %}{{ ns.system }}"
        + _loop(
            "{% if m.role == 'assistant' and m.content is none %}"
            + _TEXT_CALLS
            + "{% elif m.role != 'system' %}"
            + _TURN
            + "{% endif %}"
        )
    ),
    "DeepSeek R1": _loop(
        "{% if m.role == 'assistant' and 'tool_calls' in m %}" + _TEXT_CALLS + "{% else %}" + _TURN + "{% endif %}"
    ),
    "Kimi K2": _TOOLS
    + _loop(
        "{% if m.tool_calls %}{{ m.content }}<|tool_calls_section_begin|>{% for c in m.tool_calls %}"
        "<|tool_call_begin|>{{ c.id }}<|tool_call_argument_begin|>{{ c.function.arguments | tojson }}<|tool_call_end|>"
        "{% endfor %}<|tool_calls_section_end|>{% elif m.role == 'tool' %}"
        "<tool>## Return of {{ m.tool_call_id }}\n{{ m.content }}\n{% else %}" + _TURN + "{% endif %}"
    ),
    "GLM 4.5": _TOOLS + _loop(_TURN + "{% if m.tool_calls %}" + _ITEM_CALLS + "{% endif %}"),
    "Command R": {
        "default": _STRICT,
        "tool_use": _SYSTEM
        + "{{ system }}"
        + _TOOLS
        + _loop("{% if m.tool_calls %}" + _JSON_CALLS + "{% else %}" + _TURN + "{% endif %}", "loop_messages"),
    },
    "Hermes 3": {"default": _ANY_ROLE, "tool_use": _QWEN},
    "Granite 3": _TOOLS
    + _loop(
        "{% if m.tool_calls %}<call>{{ m.tool_calls | map(attribute='function') | list | tojson }}\n{% else %}"
        + _TURN
        + "{% endif %}"
    ),
    "SmolLM 3": "{% if xml_tools %}{{ xml_tools }}{% endif %}" + _ANY_ROLE,
    "gpt-oss": _SYSTEM.replace("== 'system'", "in ('system', 'developer')")
    + "{{ system }}"
    + _TOOLS
    + _loop(
        "{% if m.role == 'assistant' and m.tool_calls %}{% set c = m.tool_calls[0].function %}"
        "{% if m.thinking and m.content %}"
        + _refuse("Cannot pass both content and thinking in an assistant message with tool calls!")
        + "{% endif %}{{ m.content or m.thinking }}\n"
        "<call>{{ c.name }} {{ c.arguments | tojson }}\n"
        "{% elif m.role in ('user', 'assistant', 'tool') %}" + _TURN + "{% endif %}",
        "loop_messages",
    ),
    "Yi 1.5": _ONE_SYSTEM,
}
