"""One cluster for all of these tests."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.faults.grounds import Grounds, grounds


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def there(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Grounds]:
    """A cluster without an operator."""
    async with grounds(tmp_path_factory.mktemp("faults")) as made:
        yield made


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All share one event loop, as they share what lives in it."""
    for item in items:
        item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)
