"""A vocabulary of one token for each byte."""

import pytest

from millstream.worker.engines.grammar.compiling import Vocabulary
from tests.worker.engines.conftest import EOS, byte_tokenizer


@pytest.fixture(scope="session")
def vocabulary() -> Vocabulary:
    return Vocabulary(byte_tokenizer().backend_tokenizer.to_str(), 260, [EOS])
