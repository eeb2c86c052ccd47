"""The text of a script has what it uses of its libraries, and makes what it rarely needs when that is first called."""

from collections.abc import Awaitable
from typing import cast

import pytest

from millstream.common.broker.connection.broker import Broker
from millstream.common.broker.scripts import source

FILES = {
    "lib/base": """-- Comment, with a word: unused
local CALLS = redis.call('INCR', 'base')
local function unused() return missing() end
local NAMED = {
  one = 1,
}
local function common(by) return NAMED.one + by end
""",
    "lib/rare": """-- with base
local COUNT, STEP = tonumber(redis.call('INCR', 'rare')), 10
local function tens() return COUNT * STEP end

-- Functions that are rarely needed may call each other.
local function seldom(by)
  return common(by) + tens()
end

local function down(n)
  if n == 0 then return seldom(0) end
  return n
end
""",
    "job/some": """-- with base, rare
-- rarely seldom, down
-- argv: often:number
local sum = common(0)
for i = 1, often do sum = sum + seldom(i) + down(0) end
return sum
""",
    "job/none": """-- with base, rare
return 7
""",
}


@pytest.fixture(autouse=True)
def files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "file_text", FILES.__getitem__)
    source.script_text.cache_clear()


async def run(broker: Broker, name: str, *arguments: int) -> int:
    text = source.script_text(name)
    return await cast(Awaitable[int], broker.redis.eval(text, 1, "key", *map(str, arguments)))


async def counted(broker: Broker, key: str) -> int:
    return int(await broker.redis.get(key) or 0)


async def test_what_is_rarely_needed_is_made_once_when_it_is_called(broker: Broker) -> None:
    assert await run(broker, "job/some", 0) == 1
    assert await counted(broker, "rare") == 0
    assert await run(broker, "job/some", 2) == 1 + (2 + 10) + (1 + 10) + (3 + 10) + (1 + 10)
    assert await counted(broker, "rare") == 1


async def test_what_a_script_does_not_use_is_not_in_it(broker: Broker) -> None:
    assert await run(broker, "job/none") == 7
    assert await counted(broker, "base") == await counted(broker, "rare") == 0
    text = source.script_text("job/some")
    assert "unused" not in text and "NAMED" in text and "CALLS" not in text
