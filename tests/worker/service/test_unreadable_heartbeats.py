"""A heartbeat that cannot be read costs its worker, not the list of models."""

import pytest

from millstream.common.broker import keys
from millstream.common.broker.models.directory import census, other_names
from tests.harness.queue_site import MODEL, Site


@pytest.mark.parametrize(
    ("field", "value"),
    [("started", "1795324430.5"), ("slots", "many"), ("context_length", "4k"), ("speed", "fast"), ("names", "{")],
)
async def test_it_counts_as_dead_and_its_neighbour_is_listed(site: Site, field: str, value: str) -> None:
    broken, good = await site.beat("broken", slots="2"), await site.beat("good", slots="2")
    await site.broker.redis.hset(keys.worker(MODEL, broken), field, value)
    await site.broker.redis.hset(keys.NAMES, "alias", MODEL)
    (info,) = [each for each in await census(site.broker) if each.name == MODEL]
    assert {worker.id: worker.alive for worker in info.workers} == {broken: False, good: True}
    assert info.live == 1
    await other_names(site.broker)  # reads the names that workers announce
