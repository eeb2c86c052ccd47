"""The guide that forces a tool call, in the notation the transcript will read it in."""

from common.job import ChatPrompt, Guide, JobRequest
from worker.engines.tool_guides import tool_guide
from worker.parsers.formats import parser_for


def forced_guide(chat_template: str, request: JobRequest, name: str | None = None) -> Guide | None:
    """For `required` and `named` tool choices; None where the model is free. Raises `BadGrammar` for a function that
    is not among the tools."""
    use, chat = request.tool_use, request.input
    if use is None or use.choice == "auto" or not isinstance(chat, ChatPrompt):
        return None
    return tool_guide(parser_for(chat_template, name).syntax, chat.tools, use)
