"""The languages that a client may name, by their codes or English names."""

from collections.abc import Mapping

from transformers.models.whisper.tokenization_whisper import TO_LANGUAGE_CODE

from millstream.common.errors import BadRequest

_ONLY = "en"  # of a model that is told no language


def code_of(named: str, known: Mapping[str, int]) -> str:
    """Returns the code of a language that a client named; empty if it named none. Raises `BadRequest` for one that the
    model does not know."""
    if not named:
        return ""
    word = named.strip().lower()
    code = TO_LANGUAGE_CODE.get(word, word)
    if code in known or (not known and code == _ONLY):
        return code
    codes = ", ".join(sorted(known)) or _ONLY
    raise BadRequest(f"Invalid 'language': {named[:40]!r}. This model knows: {codes}.", param="language")
