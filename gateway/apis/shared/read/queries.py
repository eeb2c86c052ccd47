"""Reads what lists are asked for by their address."""

from collections.abc import Mapping


def metadata_filter(query: Mapping[str, str]) -> dict[str, str]:
    """Returns the metadata that a record must have, from parameters such as `metadata[project]=mill`."""
    return {
        name.removeprefix("metadata[").removesuffix("]"): value
        for name, value in query.items()
        if name.startswith("metadata[") and name.endswith("]")
    }
