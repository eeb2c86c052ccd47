"""A key given as a flag is not among the arguments of the process that goes on."""

import pytest

from millstream.cli.secret_flags import secrets_apart


@pytest.mark.parametrize(
    ("words", "kept", "hidden"),
    [
        (["up", "--upstream-key", "sk-1", "--port", "1"], ["up", "--port", "1"], {"upstream_key": "sk-1"}),
        (["worker", "--upstream-key=sk-1"], ["worker"], {"upstream_key": "sk-1"}),
        (["worker", "--upstream-key-file", "f"], ["worker", "--upstream-key-file", "f"], {}),
        (["worker", "--upstream-key"], ["worker", "--upstream-key"], {}),
    ],
)
def test_secrets_leave_the_arguments(words: list[str], kept: list[str], hidden: dict[str, str]) -> None:
    assert secrets_apart(words) == (kept, hidden)
