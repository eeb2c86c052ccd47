"""The faults that `millstream chaos` knows, and those that may strike in the same moment."""

from itertools import product

import pytest
from pydantic import ValidationError

from millstream.bench.chaos.faults import may_meet
from millstream.bench.chaos.settings import FAULTS, ChaosSettings, Fault


def test_each_topology_has_its_own_faults() -> None:
    single, sentinel = ChaosSettings(), ChaosSettings(topology="sentinel")
    assert set(single.striking) | set(sentinel.striking) == set(FAULTS)
    assert "redis-failover" in sentinel.striking
    assert "redis-failover" not in single.striking
    assert ChaosSettings(faults=["worker-kill"]).striking == ["worker-kill"]


def test_a_fault_that_the_topology_does_not_know_is_refused_by_name() -> None:
    with pytest.raises(ValidationError, match=r"no redis-failover .* single"):
        ChaosSettings(faults=["worker-kill", "redis-failover"])


@pytest.mark.parametrize("settings", [ChaosSettings(), ChaosSettings(topology="sentinel")])
def test_a_gateway_does_not_die_in_the_moment_in_which_redis_forgets(settings: ChaosSettings) -> None:
    kinds = settings.striking
    apart = [pair for pair in product(kinds, kinds) if not may_meet(*pair, settings.forgetful)]
    assert all(("gateway-kill", fault) in apart for fault in settings.forgetful)
    wanted: tuple[Fault, Fault] = ("worker-kill", "gateway-freeze")
    assert wanted not in apart
    assert all(
        one == other or {one, other} & settings.forgetful for one, other in apart if "gateway-kill" in (one, other)
    )
