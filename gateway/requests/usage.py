"""OpenAI's `usage` object."""

from millstream.common.chunk import Usage


def total(usages: list[Usage], per_prompt: int) -> Usage:
    """Returns the request's usage: completions of all jobs, each prompt once (the first of its `per_prompt` jobs
    tells)."""
    prompts = usages[::per_prompt]
    return Usage(
        prompt=sum(usage.prompt for usage in prompts),
        completion=sum(usage.completion for usage in usages),
        cached=sum(usage.cached for usage in prompts),
        reasoning=sum(usage.reasoning for usage in usages),
    )


def usage_object(usage: Usage) -> dict[str, object]:
    """Returns OpenAI's usage object with all its details; what cannot happen here is 0."""
    return {
        "prompt_tokens": usage.prompt,
        "completion_tokens": usage.completion,
        "total_tokens": usage.prompt + usage.completion,
        "prompt_tokens_details": {"cached_tokens": usage.cached, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": usage.reasoning,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }
