"""For the tests of those who write a storage: the contract, as a suite."""

from .desk import Desk
from .storage_contract import StorageContract

__all__ = ["Desk", "StorageContract"]
