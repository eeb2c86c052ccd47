"""The check of what a job asks for, before it meets the model."""

from millstream.common.errors import BadRequest, ContextLengthExceeded
from millstream.worker.engines.base import SequenceSpec
from millstream.worker.engines.model_files.vocabulary import check_tokens


def check_spec(spec: SequenceSpec, limit: int, size: int) -> None:
    """Checks a job against a context length of `limit` tokens and a vocabulary of `size`. Raises `BadRequest` and
    `ContextLengthExceeded`."""
    if not spec.prompt:
        raise BadRequest("The prompt is empty: give at least one token.", param="prompt")
    if len(spec.prompt) + max(spec.max_tokens, len(spec.generated)) > limit:
        raise ContextLengthExceeded(
            f"This model's context length is {limit} tokens, but the prompt has {len(spec.prompt)} and "
            f"{spec.max_tokens} are asked for.",
            param="max_tokens",
        )
    sampling = spec.sampling
    told = {
        "prompt": spec.prompt,
        "logit_bias": map(int, sampling.logit_bias),
        "stop_token_ids": sampling.stop_token_ids,
        "allowed_token_ids": sampling.allowed_token_ids,
    }
    for param, tokens in told.items():
        check_tokens(tokens, size, param)
