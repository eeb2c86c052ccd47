"""The models that the library's continuous batching can run: known before any weights are read."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportPrivateUsage=false
# (transformers publishes partly unknown types, and says only privately what a model's attention can do)

from transformers import PreTrainedModel

from millstream.worker.engines.base import LoadFailed

_PAGED = frozenset(("full_attention", "sliding_attention"))


def check_supported(sketch: PreTrainedModel) -> None:
    """Refuses a model that the library would refuse late, or run wrongly without a word. `sketch`: the model without
    weights. Raises `LoadFailed`."""
    text = sketch.config.get_text_config()
    other = set(getattr(text, "layer_types", None) or ()) - _PAGED
    if other or not getattr(text, "num_attention_heads", None):
        kinds = ", ".join(sorted(other)) or "no attention"
        raise unsupported(sketch, f"has layers ({kinds}) that keep other state than paged keys and values")
    if not sketch._can_set_attn_implementation():
        raise unsupported(sketch, "computes its attention by itself, past the paged cache")


def unsupported(model: PreTrainedModel, why: str) -> LoadFailed:
    """Returns the error that names the architecture and what is wrong with it."""
    return LoadFailed(
        f"The continuous batching of transformers cannot run {type(model).__name__}: it {why}. "
        "Use a model of another architecture.",
        param="model",
    )
