"""The models that the library's continuous batching can run: known before any weights are read."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportPrivateUsage=false
# (transformers publishes partly unknown types, and says only privately what a model's attention can do)

from transformers import PreTrainedModel

from millstream.worker.engines.base import LoadFailed

_PAGED = frozenset(("full_attention", "sliding_attention"))


def why_not_batched(sketch: PreTrainedModel) -> str | None:
    """Returns why the library would refuse a model late, or run it wrongly without a word; None if it runs it.
    `sketch`: the model without weights."""
    text = sketch.config.get_text_config()
    other = set(getattr(text, "layer_types", None) or ()) - _PAGED
    if other or not getattr(text, "num_attention_heads", None):
        kinds = ", ".join(sorted(other)) or "no attention"
        return f"has layers ({kinds}) that keep other state than paged keys and values"
    if not sketch._can_set_attn_implementation():
        return "computes its attention by itself, past the paged cache"
    return None


class NotBatched(LoadFailed):
    """The library's batching cannot run a model that can be run by itself; `why` says the reason."""

    def __init__(self, architecture: str, why: str) -> None:
        super().__init__(
            f"The continuous batching of transformers cannot run {architecture}: it {why}. Leave --batching at "
            "`auto`, and it is run a sequence at a time.",
            param="batching",
        )
        self.why = why
