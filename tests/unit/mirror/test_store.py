import hashlib
import os
from pathlib import Path

import pytest

from ollama_fleet.mirror.errors import NoRoomError, TooLargeError, UnavailableError
from ollama_fleet.mirror.store import Store

A, B, C = (f"sha256:{hashlib.sha256(name).hexdigest()}" for name in (b"a", b"b", b"c"))


def put(store: Store, digest: str, size: int) -> None:
    with store.writing(digest) as partial:
        partial.expect(size)
        partial.file.write(b"x" * size)
        partial.sync()
        partial.keep()


def test_what_was_longest_unused_goes_first(tmp_path: Path) -> None:
    evicted: list[int] = []
    store = Store(tmp_path, 100, lambda: evicted.append(1))
    put(store, A, 40)
    put(store, B, 40)
    with store.reading(A):
        pass
    put(store, C, 40)
    assert [store.size(each) for each in (A, B, C)] == [40, None, 40]
    assert store.used == 80
    assert len(evicted) == 1
    assert len(list((tmp_path / "blobs").iterdir())) == 2


def test_what_is_in_use_stays(tmp_path: Path) -> None:
    store = Store(tmp_path, 100)
    put(store, A, 60)
    with store.reading(A), pytest.raises(NoRoomError, match="in use"):
        put(store, B, 60)
    put(store, B, 60)
    assert store.size(A) is None


def test_what_can_never_fit_is_refused_and_costs_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path, 100)
    put(store, A, 60)
    with pytest.raises(TooLargeError, match="give it a larger size"):
        put(store, B, 101)
    assert store.size(A) == 60


def test_a_reader_follows_a_blob_to_its_name(tmp_path: Path) -> None:
    store = Store(tmp_path, 100)
    with store.writing(A) as partial:
        partial.expect(60)
        partial.file.write(b"x" * 60)
        with store.reading(A) as file:
            partial.sync()
            partial.keep()
            assert file.read() == b"x" * 60
            with pytest.raises(NoRoomError):
                put(store, B, 60)
    put(store, B, 60)
    assert store.size(A) is None


def test_unfinished_blobs_stay_until_their_room_is_needed(tmp_path: Path) -> None:
    store = Store(tmp_path, 100)
    with store.writing(A) as partial:
        partial.expect(90)
        partial.file.write(b"x" * 30)
    assert store.used == 30
    assert store.size(A) is None
    put(store, B, 60)
    with store.writing(A) as partial:
        assert partial.file.read() == b"x" * 30
    put(store, C, 40)
    assert store.used == 40 + 30
    with store.writing(A) as partial:
        partial.drop()
    assert store.used == 40
    with pytest.raises(UnavailableError), store.reading(A):
        pass


def test_it_counts_on_no_more_than_its_disk(tmp_path: Path) -> None:
    assert Store(tmp_path, 2**60).limit < 2**60


def test_a_new_start_finds_what_there_is_in_its_order(tmp_path: Path) -> None:
    store = Store(tmp_path, 100)
    for age, digest in enumerate((C, B, A)):
        put(store, digest, 30)
        os.utime(tmp_path / "blobs" / digest.replace(":", "-"), (1000 - age, 1000 - age))
    again = Store(tmp_path, 60)
    assert [again.size(each) for each in (A, B, C)] == [None, 30, 30]
