"""Other names of models: much software has another model's name built in."""

from dataclasses import dataclass

from millstream.common.errors import BadRequest
from millstream.common.job import ModelName

CATCH_ALL = "*"


@dataclass(frozen=True, slots=True)
class Aliases:
    """`names` maps an alias to a model; `catch_all` is the model for every name nobody serves."""

    names: dict[str, ModelName]
    catch_all: ModelName | None = None

    def resolve(self, asked: str, known: frozenset[ModelName]) -> ModelName:
        """Returns the model meant by `asked`. A served model's own name wins over the catch-all, an alias over both.
        Raises `BadRequest` for what cannot be a name."""
        if asked != asked.encode("utf-8", "replace").decode():
            raise BadRequest("Invalid 'model': the name is not valid Unicode.", param="model")
        if asked in self.names:
            return self.names[asked]
        model = ModelName(asked)
        return self.catch_all if self.catch_all is not None and model not in known else model


def parse_aliases(entries: list[str]) -> Aliases:
    """Reads the aliases, `alias=model` each. Raises `ValueError` naming the entry that is not."""
    names: dict[str, ModelName] = {}
    for entry in entries:
        alias, equals, model = (part.strip() for part in entry.partition("="))
        if not (alias and equals and model):
            raise ValueError(f"alias '{entry}': expected `alias=model`, or `*=model` for every unknown name")
        names[alias] = ModelName(model)
    catch_all = names.pop(CATCH_ALL, None)
    return Aliases(names, catch_all)
