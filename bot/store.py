"""What outlives a restart: per guild, what was decided, where the panel is, and what plays. SQLite.

All of it is held in memory (a guild is a few hundred bytes) and read from there; the file is only written, on a thread
of its own. What was set in one moment is written as one transaction, so a storm of changes costs few of them. Once
:meth:`Store.flush` has returned, what was set before it survives SIGKILL and a power cut.
"""

import asyncio
import logging
import sqlite3
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from bot.errors import BotError
from generator.moods import Mood
from generator.protocol import Controls

log = logging.getLogger(__name__)

RETRY_SECONDS: Final = 30.0  #: after which what could not be written is tried again
_BUSY_SECONDS: Final = 5.0  #: how long somebody else, e.g. a backup, may hold the file

#: The schema, step by step: a file at version n has had the first n. Append only.
MIGRATIONS: Final[tuple[str, ...]] = (
    """
    CREATE TABLE guilds (
        guild INTEGER PRIMARY KEY,
        gm_role INTEGER, volume INTEGER, pause_after REAL, leave_after REAL, language TEXT,
        panel_channel INTEGER, panel_message INTEGER,
        playing_channel INTEGER, mood TEXT, intensity INTEGER, blend TEXT, paused INTEGER, since TEXT
    )
    """,
)


class StoreError(BotError):
    """Something can't be kept."""


@dataclass(frozen=True, slots=True)
class GuildSettings:
    """What was decided in one guild; ``None``: nothing, so the admin's settings hold.

    Attributes:
        gm_role: id of the role whose members may change the music.
        volume: percent.
        pause_after: seconds without a listener until the music pauses.
        leave_after: seconds without a listener until the bot leaves.
        language: one of Discord's locales, e.g. ``de``.
    """

    gm_role: int | None = None
    volume: int | None = None
    pause_after: float | None = None
    leave_after: float | None = None
    language: str | None = None


@dataclass(frozen=True, slots=True)
class PanelPlace:
    """Where the guild's panel is: ids of the text channel and of the message."""

    channel: int
    message: int


@dataclass(frozen=True, slots=True)
class Playing:
    """What a guild should hear.

    Attributes:
        channel: id of the voice channel.
        controls: mood, intensity and blend.
        since: when this mood (and blend) began.
        paused: by the GM; that nobody listens is another matter.
    """

    channel: int
    controls: Controls
    since: datetime
    paused: bool = False


@dataclass(frozen=True, slots=True)
class GuildMemory:
    """All that is kept of one guild."""

    settings: GuildSettings = field(default_factory=GuildSettings)
    panel: PanelPlace | None = None
    playing: Playing | None = None


class Store:
    """The memories of all guilds. It belongs on one event loop, and none of its methods but ``flush`` wait."""

    def __init__(self, path: Path | None = None) -> None:
        """A store over the file at ``path``, which is made where there is none; without one, it keeps nothing.

        A damaged file is set aside. A place that can't be written to is said in the log, and nothing is kept.

        Raises:
            StoreError: the file is of a newer version of Bardcast, or is no file at all.
        """
        self._path = path
        self._memories: dict[int, GuildMemory] = {}
        self._unwritten: dict[int, GuildMemory] = {}
        self._writing = asyncio.Lock()
        self._changed = asyncio.Event()
        self._complained = False
        # One thread, so that transactions follow one another in the order in which they were asked for.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="store")
        self._connection: sqlite3.Connection | None = None
        self._writer: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "Store":
        loop = asyncio.get_running_loop()
        try:
            if self._path is not None:
                self._memories = await loop.run_in_executor(self._thread, self._open, self._path)
        except BaseException:
            self._thread.shutdown()
            raise
        self._writer = asyncio.create_task(self._write(), name="store")
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._writer is not None:
            self._writer.cancel()
            await asyncio.gather(self._writer, return_exceptions=True)
        try:
            await self.flush()
        except StoreError as error:
            log.error("%s", error)
        if self._connection is not None:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._connection.close)
        self._thread.shutdown()

    def __getitem__(self, guild: int) -> GuildMemory:
        """What is known of a guild."""
        return self._memories.get(guild, GuildMemory())

    def __setitem__(self, guild: int, memory: GuildMemory) -> None:
        """Holds at once, and is written soon."""
        if memory != self[guild]:
            self._memories[guild] = self._unwritten[guild] = memory
            self._changed.set()

    def __delitem__(self, guild: int) -> None:
        """Forgets a guild."""
        self[guild] = GuildMemory()

    async def flush(self) -> None:
        """Returns when all that was set so far is in the file.

        Raises:
            StoreError: it can't be written; it holds until the bot ends, and is tried again.
        """
        async with self._writing:
            batch, self._unwritten = self._unwritten, {}
            if not batch or self._connection is None:
                return
            try:
                loop = asyncio.get_running_loop()
                await loop.run_in_executor(self._thread, _upsert, self._connection, batch)
            except BaseException as error:  # also when cancelled: a record written twice is the same record
                self._unwritten = batch | self._unwritten
                if isinstance(error, sqlite3.Error):
                    raise StoreError(
                        "I can't write this down: it holds until I am restarted ({path}: {error}).",
                        path=self._path,
                        error=error,
                    ) from None
                raise
            self._complained = False

    async def _write(self) -> None:
        """Writes what was set, as long as the store is open."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                await self.flush()
            except StoreError as error:
                if not self._complained:
                    log.error("%s It is tried again every %g seconds.", error, RETRY_SECONDS)
                self._complained = True
                asyncio.get_running_loop().call_later(RETRY_SECONDS, self._changed.set)

    # On the thread

    def _open(self, path: Path) -> dict[int, GuildMemory]:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                return self._connect(path)
            except sqlite3.OperationalError:
                raise  # of the place, not of the file: no room, no right, in use
            except sqlite3.DatabaseError as error:
                aside = _set_aside(path)
                log.error(
                    "%s is damaged (%s): it is now %s, and all that was remembered is forgotten", path, error, aside
                )
                return self._connect(path)
        except (OSError, sqlite3.Error) as error:
            log.error("%s can't be used (%s): all is forgotten when I am restarted. Set BARDCAST_STORE.", path, error)
            return {}

    def _connect(self, path: Path) -> dict[int, GuildMemory]:
        connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        try:
            # WAL: a reader, e.g. a backup, and the writer don't wait for one another. FULL: a commit is on the disk.
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            _migrate(connection, path)
            (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            if verdict != "ok":
                raise sqlite3.DatabaseError(verdict)
            memories = _read(connection)
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        return memories


def _migrate(connection: sqlite3.Connection, path: Path) -> None:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > len(MIGRATIONS):
        raise StoreError(
            "{path} was written by a newer Bardcast: update this one, or name another file by BARDCAST_STORE",
            path=path,
        )
    for step, script in enumerate(MIGRATIONS[version:], start=version + 1):
        with connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(script)
            connection.execute(f"PRAGMA user_version = {step}")


def _upsert(connection: sqlite3.Connection, batch: Mapping[int, GuildMemory]) -> None:
    rows = [_row(guild, memory) for guild, memory in batch.items()]
    columns = ", ".join(rows[0])
    values = ", ".join(f":{name}" for name in rows[0])
    with connection:
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(f"INSERT OR REPLACE INTO guilds ({columns}) VALUES ({values})", rows)  # noqa: S608


def _row(guild: int, memory: GuildMemory) -> dict[str, Any]:
    settings, panel, playing = memory.settings, memory.panel, memory.playing
    controls = playing.controls if playing else None
    return {
        "guild": guild,
        "gm_role": settings.gm_role,
        "volume": settings.volume,
        "pause_after": settings.pause_after,
        "leave_after": settings.leave_after,
        "language": settings.language,
        "panel_channel": panel.channel if panel else None,
        "panel_message": panel.message if panel else None,
        "playing_channel": playing.channel if playing else None,
        "mood": controls.mood if controls else None,
        "intensity": controls.intensity if controls else None,
        "blend": controls.blend if controls else None,
        "paused": playing.paused if playing else None,
        "since": playing.since.isoformat() if playing else None,
    }


def _read(connection: sqlite3.Connection) -> dict[int, GuildMemory]:
    with closing(connection.execute("SELECT * FROM guilds")) as cursor:
        names = [column[0] for column in cursor.description]
        rows = [dict(zip(names, values, strict=True)) for values in cursor]
    return {row["guild"]: _memory(row) for row in rows}


def _memory(row: Mapping[str, Any]) -> GuildMemory:
    settings = GuildSettings(row["gm_role"], row["volume"], row["pause_after"], row["leave_after"], row["language"])
    panel = PanelPlace(row["panel_channel"], row["panel_message"]) if row["panel_message"] is not None else None
    playing = None
    if row["playing_channel"] is not None:
        blend = Mood(row["blend"]) if row["blend"] is not None else None
        try:
            controls = Controls(Mood(row["mood"]), row["intensity"], blend)
            since = datetime.fromisoformat(row["since"])
            playing = Playing(row["playing_channel"], controls, since, bool(row["paused"]))
        except (TypeError, ValueError) as error:  # somebody else wrote it: that guild starts silent
            log.warning("guild %s: what it played can't be read: %s", row["guild"], error)
    return GuildMemory(settings, panel, playing)


def _set_aside(path: Path) -> Path:
    """Renames the file and what SQLite keeps beside it; an earlier one that was set aside is never overwritten."""
    number = 1
    while (aside := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    for suffix in ("-wal", "-shm", ""):
        source = path.with_name(path.name + suffix)
        if source.exists():
            source.rename(aside.with_name(aside.name + suffix))
    return aside
