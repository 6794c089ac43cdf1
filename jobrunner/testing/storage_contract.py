"""The storage contract as facts: one suite, run against every storage.

Write a subclass whose `opened` fixture gives a function that opens one more handle on one and the same
storage, as another process would:

    class TestMyStorage(StorageContract):
        @pytest.fixture
        def opened(self, tmp_path): ...
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ..storage import Storage
from .claims_facts import ClaimFacts
from .desk import Desk, Opener
from .edges_facts import EdgeFacts
from .lease_facts import LeaseFacts
from .limits_facts import LimitFacts
from .owners_facts import OwnerFacts
from .records_facts import RecordFacts
from .settles_facts import SettleFacts


class StorageContract(RecordFacts, ClaimFacts, SettleFacts, EdgeFacts, LimitFacts, OwnerFacts):
    """Every sentence of the contract that can be tested on any storage."""

    @pytest.fixture
    def opened(self) -> Iterator[Opener]:
        """Opens one more handle on the same storage; closes them all afterwards."""
        raise NotImplementedError

    @pytest.fixture
    def storage(self, opened: Opener) -> Storage:
        """A client."""
        return opened()

    @pytest.fixture
    def desk(self, storage: Storage) -> Desk:
        """A supervisor."""
        return Desk(storage)


class LeasedStorageContract(StorageContract, LeaseFacts):
    """The same, and what holds where leases tell which supervisor lives."""
