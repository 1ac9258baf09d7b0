"""A few of the world's faults; `make test-world` tries them all."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.world.faults import FAULTS
from tests.world.ground import World, world
from tests.world.measure import Fault, measure

SAMPLE = ("etcd compacted", "children deleted, no operator")


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A living fleet."""
    with world(tmp_path_factory.mktemp("world")) as made:
        yield made


@pytest.mark.parametrize("fault", [one for one in FAULTS if one.name in SAMPLE], ids=str)
def test_the_fleet_comes_through(there: World, fault: Fault) -> None:
    result = measure(there, fault)
    assert not result.wrong, "\n".join([*result.wrong, *result.said, *result.reasons])


def test_the_sample_is_one_of_faults() -> None:
    assert {one.name for one in FAULTS} >= set(SAMPLE)
