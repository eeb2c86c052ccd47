"""Reads weights, and refuses a model of which some are not in its checkpoint: the library would make them up."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (transformers publishes partly unknown types)

from typing import Any, cast

from transformers import PreTrainedModel

from millstream.worker.engines.base import LoadFailed

_NAMED = 5  # weights that the error names


def trained(kind: Any, path: str, *, spare: tuple[str, ...] = (), **options: Any) -> PreTrainedModel:
    """Returns what `kind.from_pretrained` reads. `spare`: beginnings of names of weights that are never used. Raises
    `LoadFailed` for weights that the checkpoint lacks, or holds in another shape."""
    model, told = kind.from_pretrained(path, output_loading_info=True, **options)
    missing = sorted(name for name in map(str, told["missing_keys"]) if not name.startswith(spare or ("\0",)))
    other = sorted(str(entry[0] if isinstance(entry, tuple) else entry) for entry in told["mismatched_keys"])
    if missing or other:
        raise LoadFailed(_sentence(type(model).__name__, missing, other), param="model")
    return cast(PreTrainedModel, model)


def _sentence(architecture: str, missing: list[str], other: list[str]) -> str:
    lacking, why = (missing, "are not in it") if missing else (other, "have another shape")
    named = ", ".join(lacking[:_NAMED]) + (f" and {len(lacking) - _NAMED} more" if len(lacking) > _NAMED else "")
    return (
        f"The checkpoint is no whole {architecture}: of its weights {len(lacking)} {why} ({named}), and made up ones "
        "would answer noise. Give the checkpoint that was trained for this, or mend `architectures` in its config.json."
    )
