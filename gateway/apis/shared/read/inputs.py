"""Lists of inputs of which nothing is generated: texts or token ids, bounded and cut into batches."""

from collections.abc import Sequence

from millstream.common.errors import BadRequest

BATCH = 128  # inputs per job: enough to fill an engine, few enough for a chunk of moderate size
MOST_INPUTS = 2048  # OpenAI's limit

Given = str | Sequence[str] | Sequence[int] | Sequence[list[int]]


def entries(given: Given) -> list[str | list[int]]:
    """Returns one entry per input: a text or token ids. Raises `BadRequest` naming the input at fault."""
    match given:
        case str(text):
            found: list[str | list[int]] = [text]
        case []:
            raise BadRequest("Invalid 'input': empty array. Expected at least one input.", param="input")
        case [int(), *_]:
            found = [[entry for entry in given if isinstance(entry, int)]]
        case many:
            found = [entry for entry in many if not isinstance(entry, int)]
    for index, entry in enumerate(found):
        if not entry:
            raise BadRequest(f"Invalid 'input[{index}]': the input is empty.", param=f"input[{index}]")
    if len(found) > MOST_INPUTS:
        raise BadRequest(
            f"Invalid 'input': {len(found)} entries. At most {MOST_INPUTS} are taken at once.", param="input"
        )
    return found


def batches(inputs: list[str | list[int]], most: int = BATCH) -> list[list[str | list[int]]]:
    """Returns the inputs in their order, `most` of them in each batch."""
    return [inputs[at : at + most] for at in range(0, len(inputs), most)]
