"""Captured output: what was written is what is read, in order; what was dropped is counted and marked."""

from __future__ import annotations

import json
import os
import random
import re
import stat
from pathlib import Path

import pytest

from jobrunner.output import (
    SHARES,
    OutputFile,
    OutputReader,
    Record,
    Stream,
    output_path,
    read_output,
    remove,
    sweep,
    tail,
)

Written = list[tuple[Stream, bytes]]
MAX = 64 * 1024


@pytest.fixture
def root(tmp_path: Path) -> str:
    return str(tmp_path / "output")


def write(root: str, *chunks: tuple[Stream, bytes], run_id: str = "run-1", max_size: int = MAX) -> str | None:
    file = OutputFile(root, run_id, 1, max_size=max_size)
    for stream, data in chunks:
        file.write(stream, data)
    return file.close()


def out(text: str) -> tuple[Stream, bytes]:
    return Stream.STDOUT, text.encode()


def err(text: str) -> tuple[Stream, bytes]:
    return Stream.STDERR, text.encode()


def gap_of(record: Record) -> int:
    """How many bytes a mark says were dropped."""
    found = re.fullmatch(rb"\n\[\.\.\. ([0-9,]+) bytes dropped \.\.\.\]\n", record.data)
    assert found is not None, record
    return int(found[1].replace(b",", b""))


def test_records_come_back_in_the_order_in_which_they_arrived(root: str) -> None:
    chunks = [out("one\n"), err("two\n"), out("three"), err(""), out("\n")]
    assert write(root, *chunks) == '{"stdout":10,"stderr":4,"dropped":0}'
    assert list(read_output(root, "run-1", 1)) == [Record(*chunk) for chunk in chunks if chunk[1]]


def test_bytes_are_kept_exactly(root: str) -> None:
    everything = bytes(range(256)) * 3 + b"\xff\x00\x1b[2J\r"
    write(root, (Stream.STDERR, everything))
    assert list(read_output(root, "run-1", 1)) == [Record(Stream.STDERR, everything)]


def test_an_attempt_that_writes_nothing_makes_no_file(root: str) -> None:
    assert write(root) is None
    assert not os.path.exists(root)
    assert list(read_output(root, "run-1", 1)) == []
    assert tail(root, "run-1", 1, 100) == b""


def test_attempts_do_not_meet(root: str) -> None:
    for attempt in (1, 2):
        file = OutputFile(root, "run-1", attempt, max_size=MAX)
        file.write(*out(f"attempt {attempt}"))
        file.close()
    assert tail(root, "run-1", 1, 100) == b"attempt 1"
    assert tail(root, "run-1", 2, 100) == b"attempt 2"


def test_an_attempt_made_again_replaces_its_output(root: str) -> None:
    write(root, out("a longer text"))
    write(root, out("short"))
    assert tail(root, "run-1", 1, 100) == b"short"


# --- the cap --------------------------------------------------------------------------------------------


def test_beyond_the_cap_head_and_tail_are_kept_with_a_mark_between(root: str) -> None:
    lines = [f"line {number:06}\n" for number in range(10_000)]
    whole = "".join(lines).encode()
    answer = json.loads(write(root, *map(out, lines)) or "")
    records = list(read_output(root, "run-1", 1))
    [at] = [index for index, record in enumerate(records) if record.stream is Stream.GAP]
    head = b"".join(record.data for record in records[:at])
    end = b"".join(record.data for record in records[at + 1 :])
    dropped = gap_of(records[at])
    assert whole.startswith(head)
    assert whole.endswith(end)
    assert len(head) + dropped + len(end) == len(whole)
    assert answer == {"stdout": len(whole), "stderr": 0, "dropped": dropped}
    assert min(len(head), len(end)) > MAX // 2 // 3  # lines so short that half goes into frames
    assert os.path.getsize(output_path(root, "run-1", 1)) <= MAX + 1024


def test_a_gigabyte_costs_the_cap_on_disk(root: str) -> None:
    file = OutputFile(root, "run-1", 1, max_size=MAX)
    megabyte = bytes(1024 * 1024)
    for _ in range(64):
        file.write(Stream.STDOUT, megabyte)
    file.write(Stream.STDOUT, b"the end")
    file.close()
    assert os.path.getsize(output_path(root, "run-1", 1)) <= MAX + 1024
    assert tail(root, "run-1", 1, 7) == b"the end"


@pytest.mark.parametrize("cap", [0, 1, 13])
def test_a_cap_that_holds_nothing_keeps_nothing(root: str, cap: int) -> None:
    assert write(root, out("text"), max_size=cap) == '{"stdout":4,"stderr":0,"dropped":4}'
    assert list(read_output(root, "run-1", 1)) == []


def test_a_small_cap_keeps_the_head(root: str) -> None:
    write(root, out("x" * 500), err("y" * 500), out("z" * 500), max_size=700)
    first, second, gap = read_output(root, "run-1", 1)
    assert first == Record(Stream.STDOUT, b"x" * 500)
    assert (second.stream, set(second.data)) == (Stream.STDERR, {ord("y")})
    assert 500 + len(second.data) + gap_of(gap) == 1500


# --- readers --------------------------------------------------------------------------------------------


def test_a_reader_follows_a_file_that_grows(root: str) -> None:
    file = OutputFile(root, "run-1", 1, max_size=MAX)
    with OutputReader(root, "run-1", 1) as reader:
        assert reader.read() == []
        file.write(*out("one"))
        assert reader.read() == [Record(Stream.STDOUT, b"one")]
        assert reader.read() == []
        file.write(*err("two"))
        file.write(*out("three"))
        assert reader.read() == [Record(Stream.STDERR, b"two"), Record(Stream.STDOUT, b"three")]
        file.close()
        assert reader.read() == []


def test_a_reader_that_keeps_up_misses_nothing_whatever_the_cap(root: str) -> None:
    file = OutputFile(root, "run-1", 1, max_size=8 * 1024)
    seen = b""
    with OutputReader(root, "run-1", 1) as reader:
        for number in range(1000):
            file.write(*out(f"line {number}\n"))
            seen += b"".join(record.data for record in reader.read())
        file.close()
        seen += b"".join(record.data for record in reader.read())
    assert seen == b"".join(b"line %d\n" % number for number in range(1000))


def test_any_mixture_of_writing_and_reading_accounts_for_every_byte(root: str) -> None:
    for seed in [random.randrange(2**32) for _ in range(20)]:
        print(f"seed {seed}")
        chance = random.Random(seed)
        cap = chance.choice([300, 4096, 5000, 20_000, 200_000])
        file = OutputFile(root, f"run-{seed}", 1, max_size=cap)
        reader = OutputReader(root, f"run-{seed}", 1)
        chunks: Written = []
        live: list[Record] = []
        for _ in range(chance.randrange(80)):
            stream = chance.choice([Stream.STDOUT, Stream.STDERR])
            chunks.append((stream, chance.randbytes(chance.choice([1, 10, 300, 5_000, 70_000]))))
            file.write(*chunks[-1])
            if chance.random() < 0.3:
                live += reader.read(chance.choice([1, 1000, 1_000_000]))
        file.close()
        while records := reader.read():
            live += records
        reader.close()
        assert_accounted(chunks, live)
        assert_accounted(chunks, list(read_output(root, f"run-{seed}", 1)))


def assert_accounted(chunks: Written, records: list[Record]) -> None:
    """Every byte is there, in its stream and its place, or within a gap."""
    data = b"".join(data for _, data in chunks)
    streams = b"".join(stream.value[3:4].encode() * len(data) for stream, data in chunks)
    at = 0
    for record in records:
        if record.stream is Stream.GAP:
            at += gap_of(record)
            continue
        assert data[at : at + len(record.data)] == record.data
        assert set(streams[at : at + len(record.data)].decode()) == {record.stream.value[3]}
        at += len(record.data)
    assert at == len(data)


def test_a_damaged_file_gives_what_is_whole(root: str) -> None:
    write(root, out("first"), out("second"))
    path = Path(output_path(root, "run-1", 1))
    whole = path.read_bytes()
    for cut in (0, 5, 30, 60, len(whole) - 3):
        path.write_bytes(whole[:cut])
        assert all(record.stream is not Stream.STDERR for record in read_output(root, "run-1", 1))
    chance = random.Random(1)
    for _ in range(200):
        at = chance.randrange(len(whole))
        path.write_bytes(whole[:at] + chance.randbytes(4) + whole[at + 4 :])
        list(read_output(root, "run-1", 1))


def test_the_tail_is_the_end_of_both_streams(root: str) -> None:
    write(root, out("one "), err("two "), out("three"))
    assert tail(root, "run-1", 1, 7) == b"o three"
    assert tail(root, "run-1", 1, 1000) == b"one two three"


# --- places ---------------------------------------------------------------------------------------------


def test_files_and_folders_are_for_their_owner_only(root: str) -> None:
    before = os.umask(0)
    try:
        write(root, out("secret"))
    finally:
        os.umask(before)
    path = Path(output_path(root, "run-1", 1))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    folders = [path.parent, path.parent.parent, Path(root)]
    assert [stat.S_IMODE(folder.stat().st_mode) for folder in folders] == [0o700] * 3


EVIL = (
    "../../etc",
    "/etc/passwd",
    "a/b",
    ".",
    "..",
    "",
    "a\0b",
    "x" * 300,
    "ä",
    "\udcff",
    "a b",
    "=x",
    "-rf",
    "a\n",
)


@pytest.mark.parametrize("run_id", EVIL)
def test_no_id_names_a_place_outside_the_root(root: str, run_id: str) -> None:
    write(root, out("text"), run_id=run_id)
    path = output_path(root, run_id, 1)
    parts = os.path.relpath(path, root).split(os.sep)
    assert len(parts) == 3
    assert not {"", ".", ".."} & set(parts)
    assert tail(root, run_id, 1, 10) == b"text"


def test_different_ids_have_different_places(root: str) -> None:
    assert len({output_path(root, run_id, attempt) for run_id in EVIL for attempt in (1, 2)}) == 2 * len(EVIL)


def test_a_link_in_the_place_of_a_file_is_not_followed(root: str, tmp_path: Path) -> None:
    path = Path(output_path(root, "run-1", 1))
    path.parent.mkdir(parents=True)
    target = tmp_path / "precious"
    target.write_text("precious")
    path.symlink_to(target)
    assert json.loads(write(root, out("text")) or "")["dropped"] == 4
    assert target.read_text() == "precious"


def test_removing_runs_takes_all_their_attempts_and_nothing_else(root: str) -> None:
    for run_id in ("gone", "stays"):
        write(root, out(run_id), run_id=run_id)
    remove(root, ["gone", "never-there", "../stays"])
    assert tail(root, "gone", 1, 10) == b""
    assert tail(root, "stays", 1, 10) == b"stays"


# --- trouble --------------------------------------------------------------------------------------------


def test_a_place_that_cannot_be_written_loses_output_and_counts_it(tmp_path: Path) -> None:
    root = tmp_path / "a-file"
    root.write_text("in the way")
    assert write(str(root), out("text")) == '{"stdout":4,"stderr":0,"dropped":4}'


def test_what_a_full_disk_took_is_a_gap_and_later_bytes_are_kept(
    root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = OutputFile(root, "run-1", 1, max_size=MAX)
    file.write(*out("before "))
    real = os.pwrite
    with monkeypatch.context() as full:
        full.setattr(os, "pwrite", lambda fd, data, offset: real(fd, data[:3], offset))
        file.write(*out("lost"))
    with monkeypatch.context() as full:
        full.setattr(os, "pwrite", _refuse)
        file.write(*err("lost too"))
    file.write(*out("after"))
    assert file.close() == '{"stdout":16,"stderr":8,"dropped":12}'
    before, gap, after = read_output(root, "run-1", 1)
    assert (before.data, gap_of(gap), after.data) == (b"before ", 12, b"after")


def _refuse(*_: object) -> int:
    raise OSError(28, "No space left on device")


def test_a_sweep_removes_what_was_written_before_the_limit_of_its_run(root: str) -> None:
    for run_id in ("old", "kept", "new"):
        write(root, out(run_id), run_id=run_id)
    for run_id, written in (("old", 100), ("kept", 100), ("new", 200)):
        os.utime(output_path(root, run_id, 1), (written, written))
    limits = {"old": 150_000_000, "kept": 50_000_000}
    removed = [sweep(root, share, 150_000_000, limits.__getitem__) for share in range(SHARES)]
    assert sum(removed) == 1
    assert [run for run in ("old", "kept", "new") if list(read_output(root, run, 1))] == ["kept", "new"]


def test_a_sweep_of_what_is_not_there_removes_nothing(root: str) -> None:
    assert sweep(root, 7, 10**18, lambda _run: 10**18) == 0
