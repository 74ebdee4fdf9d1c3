import asyncio
import contextlib
import logging
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import settings, strategies
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from bot import store as module
from bot.store import GuildMemory, GuildSettings, PanelPlace, Playing, Store, StoreError
from generator.moods import MOODS
from generator.protocol import Controls
from tests.discord_server import REPOSITORY

ids = strategies.integers(1, 2**63 - 1)
guilds = strategies.integers(2**63 - 3, 2**63 - 1)
moments = strategies.datetimes(timezones=strategies.just(UTC), min_value=datetime(2020, 1, 1))
moods = strategies.sampled_from(MOODS)
memories = strategies.builds(
    GuildMemory,
    strategies.builds(
        GuildSettings,
        strategies.none() | ids,
        strategies.none() | strategies.integers(0, 100),
        strategies.none() | strategies.floats(0, 86_400),
        strategies.none() | strategies.floats(0, 86_400),
        strategies.none() | strategies.text(strategies.characters(exclude_categories=["Cs"]), max_size=8),
    ),
    strategies.none() | strategies.builds(PanelPlace, ids, ids),
    strategies.none()
    | strategies.builds(
        Playing,
        ids,
        strategies.builds(Controls, moods, strategies.integers(1, 5), strategies.none() | moods),
        moments,
        strategies.booleans(),
    ),
)

FIGHT: Final = GuildMemory(
    GuildSettings(gm_role=7, volume=0, language="de"),
    PanelPlace(3, 4),
    Playing(5, Controls(MOODS[2], 5, MOODS[3]), datetime(2026, 11, 22, 20, 15, tzinfo=UTC), paused=True),
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "bardcast.sqlite3"


async def read(path: Path) -> dict[int, GuildMemory]:
    async with Store(path) as store:
        return dict(store._memories)


def contents(path: Path) -> dict[int, GuildMemory]:
    return asyncio.run(read(path))


def keep(path: Path, memories: dict[int, GuildMemory]) -> None:
    async def write() -> None:
        async with Store(path) as store:
            for guild, memory in memories.items():
                store[guild] = memory

    asyncio.run(write())


def abandon(store: Store) -> None:
    """As SIGKILL leaves it: nothing is written any more, and no connection is closed."""
    assert store._writer is not None
    store._writer.cancel()
    store._thread.shutdown(wait=True)


class RememberedGuilds(RuleBasedStateMachine):
    """Whatever is set, closed, killed and opened again, in any order: nothing that was flushed is lost or altered."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.runner = asyncio.Runner()
        self.killed: list[Any] = []  # holds them, lest their ends tidy up
        self.expected: dict[int, GuildMemory] = {}
        self.since_flush: dict[int, list[GuildMemory]] = {}  # the last that was flushed, and all that came after
        self.store = Store()
        self.open()

    def open(self) -> None:
        self.store = Store(Path(self.folder.name, "bardcast.sqlite3"))
        self.runner.run(self.store.__aenter__())

    @rule(guild=guilds, memory=memories)
    def remember(self, guild: int, memory: GuildMemory) -> None:
        async def set_it() -> None:
            self.store[guild] = memory

        self.runner.run(set_it())
        self.since_flush.setdefault(guild, [GuildMemory()]).append(memory)
        self.expected[guild] = memory

    @rule()
    def flush(self) -> None:
        self.runner.run(self.store.flush())
        self.flushed()

    @rule()
    def restart(self) -> None:
        self.runner.run(self.store.__aexit__())
        self.flushed()
        self.open()

    @rule()
    def kill(self) -> None:
        abandon(self.store)
        self.killed.append(self.store._connection)
        self.open()
        # What was not flushed may or may not have been written, but nothing else may be there, and nothing older.
        for guild, possible in self.since_flush.items():
            assert self.store[guild] in possible
        self.expected = {guild: self.store[guild] for guild in self.expected}
        self.flushed()

    def flushed(self) -> None:
        self.since_flush = {guild: [memory] for guild, memory in self.expected.items()}

    @invariant()
    def all_is_known(self) -> None:
        for guild, memory in self.expected.items():
            assert self.store[guild] == memory

    def teardown(self) -> None:
        self.runner.run(self.store.__aexit__())
        self.runner.close()
        for connection in self.killed:
            connection.close()
        self.folder.cleanup()


TestRememberedGuilds = RememberedGuilds.TestCase
TestRememberedGuilds.settings = settings(max_examples=10, stateful_step_count=12)

WRITER: Final = """
import asyncio, sys
from dataclasses import replace
from pathlib import Path
from bot.store import GuildMemory, GuildSettings, Store
async def main():
    async with Store(Path(sys.argv[1])) as store:
        for volume in range(10**9):
            for guild in range(100):
                store[guild] = GuildMemory(GuildSettings(pause_after=float(volume)))
            await store.flush()
            sys.stdout.write(f"{volume}\\n")
            sys.stdout.flush()
asyncio.run(main())
"""


@pytest.mark.parametrize("written", [1, 60])
def test_killed_while_it_writes_nothing_is_lost(path: Path, written: int) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout is not None
        for _ in range(written):
            writer.stdout.readline()
        writer.send_signal(signal.SIGKILL)
        acknowledged = written - 1 + len(writer.stdout.readlines())
    found = contents(path)
    kept = {memory.settings.pause_after for memory in found.values()}
    assert set(found) == set(range(100))
    # One transaction is whole or not at all, and the one under way may have been done but not told.
    assert kept in ({float(acknowledged)}, {float(acknowledged + 1)})
    assert not list(path.parent.glob("*.damaged*"))


def test_a_transaction_is_whole_or_not_at_all(path: Path) -> None:
    keep(path, {})
    unwritable: Any = object()
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        with pytest.raises(sqlite3.Error):
            module._upsert(connection, {1: FIGHT, 2: GuildMemory(GuildSettings(gm_role=unwritable))})
        assert not connection.in_transaction
    assert contents(path) == {}


async def test_what_is_set_is_written_without_being_asked(path: Path) -> None:
    async with Store(path) as store:
        store[1] = FIGHT
        async with asyncio.timeout(10):
            while not await asyncio.to_thread(rows, path):  # noqa: ASYNC110 - the disk rings no bell
                await asyncio.sleep(0.01)


def rows(path: Path) -> int:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        (count,) = connection.execute("SELECT count(*) FROM guilds").fetchone()
        return int(count)


async def test_a_storm_of_changes_costs_few_transactions(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    batches = []
    upsert = module._upsert

    def counted(*arguments: Any) -> None:
        batches.append(arguments)
        upsert(*arguments)

    monkeypatch.setattr(module, "_upsert", counted)
    async with Store(path) as store:

        async def change(volume: int) -> None:
            store[volume % 3] = GuildMemory(GuildSettings(volume=volume))
            await store.flush()

        await asyncio.gather(*(change(volume) for volume in range(100)))
        assert len(batches) <= 3
    assert {guild: memory.settings.volume for guild, memory in (await read(path)).items()} == {0: 99, 1: 97, 2: 98}


async def test_the_event_loop_does_not_wait_for_the_disk(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    released = threading.Event()
    upsert = module._upsert

    def slow(*arguments: Any) -> None:
        released.wait(20)
        upsert(*arguments)

    monkeypatch.setattr(module, "_upsert", slow)
    async with Store(path) as store:
        store[1] = FIGHT
        flushing = asyncio.create_task(store.flush())
        await asyncio.sleep(0.05)  # the loop turns meanwhile
        assert not flushing.done()
        assert store[1] == FIGHT
        flushing.cancel()
        await asyncio.gather(flushing, return_exceptions=True)
        released.set()
    assert await read(path) == {1: FIGHT}


# Files


@pytest.mark.parametrize("harm", ["text", "head", "middle"])
def test_a_damaged_file_is_set_aside(path: Path, harm: str, caplog: pytest.LogCaptureFixture) -> None:
    keep(path, dict.fromkeys(range(500), FIGHT))
    body = bytearray(path.read_bytes())
    if harm == "text":
        body[:] = b"this is not a database, but it is long enough to be taken for one" * 100
    elif harm == "head":
        body[100:200] = bytes(100)
    elif harm == "middle":
        body[4096:-4096] = os.urandom(len(body) - 8192)
    path.write_bytes(body)
    harmed = path.read_bytes()
    with caplog.at_level(logging.ERROR):
        assert contents(path) == {}
    assert "is damaged" in caplog.text
    assert path.with_name(path.name + ".damaged-1").read_bytes() == harmed
    keep(path, {1: FIGHT})
    assert contents(path) == {1: FIGHT}


def test_what_was_set_aside_is_kept(path: Path) -> None:
    path.parent.mkdir()
    for text in ("first" * 200, "second" * 200):
        path.write_text(text)
        contents(path)
    assert sorted(file.name for file in path.parent.glob("*.damaged-?")) == [
        f"{path.name}.damaged-1",
        f"{path.name}.damaged-2",
    ]


def test_a_row_that_cannot_be_read_costs_only_its_music(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    keep(path, {1: FIGHT, 2: FIGHT})
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE guilds SET mood = 'polka' WHERE guild = 1")
        connection.commit()
    assert contents(path) == {1: replace(FIGHT, playing=None), 2: FIGHT}
    assert "polka" in caplog.text


def test_a_newer_file_is_left_alone(path: Path) -> None:
    keep(path, {1: FIGHT})
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {len(module.MIGRATIONS) + 1}")
    before = path.read_bytes()
    with pytest.raises(StoreError, match="newer"):
        contents(path)
    assert path.read_bytes() == before


def test_an_older_file_is_brought_up_to_date(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keep(path, {1: FIGHT})
    steps = ("ALTER TABLE guilds ADD COLUMN tempo INTEGER", "UPDATE guilds SET tempo = 90")
    monkeypatch.setattr(module, "MIGRATIONS", (*module.MIGRATIONS, *steps))
    assert contents(path) == {1: FIGHT}
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT tempo FROM guilds").fetchall() == [(90,)]
        assert connection.execute("PRAGMA user_version").fetchone() == (len(module.MIGRATIONS),)


def test_a_step_that_fails_changes_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keep(path, {1: FIGHT})
    with monkeypatch.context() as patch:
        patch.setattr(module, "MIGRATIONS", (*module.MIGRATIONS, "CREATE TABLE guilds (other INTEGER)"))
        assert contents(path) == {}
    assert contents(path) == {1: FIGHT}


# A place that can't be written to


@pytest.mark.parametrize("place", ["below a file", "a folder"])
async def test_without_a_place_it_keeps_on(tmp_path: Path, place: str, caplog: pytest.LogCaptureFixture) -> None:
    path = Path(__file__, "in the way") if place == "below a file" else tmp_path
    async with Store(path) as store:
        store[1] = FIGHT
        await store.flush()
        assert store[1] == FIGHT
    assert "BARDCAST_STORE" in caplog.text


async def test_a_full_disk_is_a_sentence_and_is_tried_again(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.02)
    async with Store(path) as store:
        assert store._connection is not None
        # SQLite's own "database or disk is full", from SQLite itself.
        pages = store._connection.execute("PRAGMA page_count").fetchone()[0]
        store._connection.execute(f"PRAGMA max_page_count = {pages}")
        for guild in range(500):
            store[guild] = FIGHT
        with pytest.raises(StoreError, match="full"):
            await store.flush()
        assert store[1] == FIGHT
        async with asyncio.timeout(10):
            while "tried again" not in caplog.text:  # noqa: ASYNC110 - as below
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.1)  # and again, in vain, without another word
            assert caplog.text.count("tried again") == 1
            store._connection.execute("PRAGMA max_page_count = 1000000")
            while await asyncio.to_thread(rows, path) < 500:  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.02)
    assert (await read(path))[499] == FIGHT


async def test_a_file_in_use_is_no_damage(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BUSY_SECONDS", 0.1)
    async with Store(path) as store:
        store[1] = FIGHT
        await store.flush()
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            store[1] = replace(FIGHT, panel=None)
            with pytest.raises(StoreError, match="locked"):
                await store.flush()
            other.execute("ROLLBACK")
    assert await read(path) == {1: replace(FIGHT, panel=None)}


async def test_a_guild_can_be_forgotten(path: Path) -> None:
    async with Store(path) as store:
        store[1] = store[2] = FIGHT
        await store.flush()
        del store[1]
        assert store[1] == GuildMemory()
    assert await read(path) == {1: GuildMemory(), 2: FIGHT}


async def test_without_a_path_it_holds_as_long_as_it_lives() -> None:
    async with Store() as store:
        store[1] = FIGHT
        await store.flush()
        assert store[1] == FIGHT
        assert store[2] == GuildMemory()


def test_a_moment_comes_back_as_it_was() -> None:
    moment = datetime(2026, 11, 22, 20, 15, 3, 123456, tzinfo=UTC)
    playing = Playing(1, Controls(MOODS[0]), moment)
    back = module._memory(module._row(1, GuildMemory(playing=playing))).playing
    assert back is not None
    assert back.since - moment == timedelta(0)
