"""Discord's end-to-end encryption (DAVE) as the voice gateway leads it, and people who hear what they can decrypt.

See https://daveprotocol.com. The group's keys are real: :class:`Person` and the bot each have a session of the davey
package, and :class:`Call` tells them who comes and goes, picks one commit and passes it on. It holds no key.
"""

import asyncio
import struct
from collections import deque
from collections.abc import Awaitable, Callable
from enum import IntEnum
from typing import Final

import davey

from tests.discord_server.mls import ExternalSender, read_commit, vector
from tests.discord_server.rtp import SILENCE
from tests.discord_server.world import Json

VERSION: Final = 1
_MARKER: Final = b"\xfa\xfa"  #: the end of each encrypted frame


class Op(IntEnum):
    """Opcodes of the voice gateway that concern DAVE; from 25 to 30 they are binary."""

    PREPARE_TRANSITION = 21
    EXECUTE_TRANSITION = 22
    READY_FOR_TRANSITION = 23
    PREPARE_EPOCH = 24
    EXTERNAL_SENDER = 25
    KEY_PACKAGE = 26
    PROPOSALS = 27
    COMMIT_WELCOME = 28
    ANNOUNCE_COMMIT = 29
    WELCOME = 30
    INVALID_COMMIT_WELCOME = 31


Payload = bytes | Json


class Person:
    """Somebody in the channel, with a client of their own.

    Attributes:
        heard: how many frames of sound they could decrypt.
        missed: how many they could not.
    """

    def __init__(self, user: int, channel: int) -> None:
        self.heard = 0
        self.missed = 0
        self.user = user
        self._channel = channel
        self._session = davey.DaveSession(VERSION, user, channel)

    @property
    def leaf(self) -> int | None:
        """Where in the group's tree they sit."""
        leaf: int | None = self._session.own_leaf_index
        return leaf

    def introduce(self) -> tuple[Op, Payload]:
        """What is said first."""
        return Op.KEY_PACKAGE, self._session.get_serialized_key_package()

    def receive(self, op: Op, payload: Payload) -> list[tuple[Op, Payload]]:
        """What they answer."""
        session = self._session
        if isinstance(payload, dict):
            if op is Op.PREPARE_EPOCH and payload["epoch"] == 1:
                session.reinit(VERSION, self.user, self._channel)
                return [self.introduce()]
        elif op is Op.EXTERNAL_SENDER:
            session.set_external_sender(payload)
        elif op is Op.PROPOSALS:
            done = session.process_proposals(davey.ProposalsOperationType.append, payload[1:])
            return [(Op.COMMIT_WELCOME, done.commit + (done.welcome or b""))] if done is not None else []
        elif op in (Op.ANNOUNCE_COMMIT, Op.WELCOME):
            process = session.process_welcome if op is Op.WELCOME else session.process_commit
            process(payload[2:])
            (transition,) = struct.unpack_from(">H", payload)
            return [(Op.READY_FOR_TRANSITION, {"transition_id": transition})] if transition else []
        return []

    def say(self, packet: bytes) -> bytes:
        """An Opus packet of theirs, encrypted."""
        frame: bytes = self._session.encrypt_opus(packet)
        return frame

    def hear(self, sender: int, frame: bytes) -> bytes | None:
        """The Opus packet in an encrypted frame, or None."""
        try:
            packet: bytes = self._session.decrypt(sender, davey.MediaType.audio, frame)
        except ValueError:
            self.missed += 1
            return None
        self.heard += 1
        return packet


class Call:
    """One channel's group, as the gateway knows it. What it has to say is put into :attr:`outbox`.

    One change is made after the other: proposed to all members, decided by the commit of one of them, announced, and
    carried out when all are ready.

    Attributes:
        epoch: of the group; 0 while there is none.
        leaves: who sits where in the group's tree.
        first: whose commit is taken even if another's comes earlier.
    """

    def __init__(self, channel: int) -> None:
        self.channel = channel
        self.epoch = 0
        self.leaves: list[int | None] = []
        self.first: int | None = None
        self.outbox: deque[tuple[int, Op, Payload]] = deque()
        self._sender = ExternalSender()
        self._present: set[int] = set()
        self._pending: dict[int, bytes] = {}  # key packages of those who are to be let in
        self._adding: dict[int, bytes] = {}  # those about whom a commit is waited for
        self._deciders: set[int] = set()  # from whom it may come
        self._transition = 0
        self._not_ready: set[int] = set()

    @property
    def members(self) -> list[int]:
        """Who has the group's keys."""
        return [user for user in self.leaves if user is not None]

    def join(self, user: int) -> None:
        """Somebody is in the channel; a key package will follow."""
        self._present.add(user)
        self._say(user, Op.EXTERNAL_SENDER, self._sender.package)

    def leave(self, user: int) -> None:
        """Somebody is not there any more."""
        self._present.discard(user)
        self._pending.pop(user, None)
        self._deciders.discard(user)
        self._not_ready.discard(user)
        rest = [member for member in self.members if member in self._present]
        if self.members and len(rest) <= 1:
            # Who remains alone begins anew, so that nobody owns a group.
            self.epoch, self.leaves = 0, []
            self._deciders.clear()
            for member in rest:
                self._say(member, Op.PREPARE_EPOCH, {"protocol_version": VERSION, "epoch": 1})
                self._say(member, Op.PREPARE_TRANSITION, {"protocol_version": VERSION, "transition_id": 0})
        self._propose()

    def receive(self, user: int, op: Op, payload: Payload) -> None:
        """Somebody says something. After INVALID_COMMIT_WELCOME a new key package follows: that is what counts."""
        if isinstance(payload, dict):
            if op is Op.READY_FOR_TRANSITION and payload["transition_id"] == self._transition:
                self._not_ready.discard(user)
                if not self._not_ready:
                    for member in self.members:
                        self._say(member, Op.EXECUTE_TRANSITION, payload)
        elif op is Op.KEY_PACKAGE:
            self._pending[user] = payload
            self._not_ready.discard(user)
        elif op is Op.COMMIT_WELCOME:
            self._decide(user, payload)
        self._propose()

    def _propose(self) -> None:
        """The next change, when the last one is done."""
        if self._deciders or self._not_ready:
            return
        if self.epoch == 0:
            if len(self._pending) > 1:
                self._adding, self._deciders = dict(self._pending), set(self._pending)
                for user in self._adding:  # each is alone in a group, into which the others are to be let
                    self._say(
                        user, Op.PROPOSALS, self._proposals([], [other for other in self._adding if other != user])
                    )
            return
        gone = [leaf for leaf, user in enumerate(self.leaves) if user is not None and not self._stays(user)]
        if gone or self._pending:
            self._adding, self._deciders = dict(self._pending), set(filter(self._stays, self.members))
            proposals = self._proposals(gone, list(self._adding))  # once: a commit names them by their hash
            for user in self._deciders:
                self._say(user, Op.PROPOSALS, proposals)

    def _stays(self, member: int) -> bool:
        return member in self._present and member not in self._pending  # who is to be let in anew has to go before

    def _decide(self, user: int, payload: bytes) -> None:
        commit = read_commit(payload)
        if user not in self._deciders or (commit.group, commit.epoch) != (self.channel, self.epoch):
            return  # another's was there before
        if self.first in self._deciders and self.first != user:
            return
        if self.epoch == 0:
            self.leaves, told = [user], [user]
            del self._adding[user]
            self._pending.pop(user, None)
        else:
            told = list(filter(self._deciders.__contains__, self.members))
            self.leaves = [member if member in told else None for member in self.leaves]
        for added, package in self._adding.items():  # each on the leftmost free leaf (RFC 9420, section 7.7)
            place = self.leaves.index(None) if None in self.leaves else len(self.leaves)
            self.leaves[place : place + 1] = [added]
            if self._pending.get(added) == package:
                del self._pending[added]
        transition = struct.pack(">H", self._transition + 1)
        for member in told:
            self._say(member, Op.ANNOUNCE_COMMIT, transition + commit.message)
        for added in self._adding:
            self._say(added, Op.WELCOME, transition + commit.welcome)
        self.epoch += 1
        self._transition += 1
        self._deciders = set()
        self._not_ready = self._present.intersection(self.members)

    def _say(self, user: int, op: Op, payload: Payload) -> None:
        if user in self._present:
            self.outbox.append((user, op, payload))

    def _proposals(self, gone: list[int], added: list[int]) -> bytes:
        messages = [self._sender.remove(self.channel, self.epoch, leaf) for leaf in gone]
        messages += [self._sender.add(self.channel, self.epoch, self._adding[other]) for other in added]
        return b"\0" + vector(b"".join(messages))


Send = Callable[[Op, Payload], Awaitable[None]]


class Dave:
    """All calls, the people in them, and the bot's connections.

    Attributes:
        frames: what the bot has sent, as it came, but for silence.
        held: while it is set, the gateway says nothing to the bot.
        tamper: what becomes of a message to the bot on its way.
    """

    def __init__(self, bot: int) -> None:
        self.frames: list[bytes] = []
        self.held = False
        self.tamper: Callable[[Op, Payload], Payload] = lambda _, payload: payload
        self.calls: dict[int, Call] = {}
        self.people: dict[int, Person] = {}
        self._where: dict[int, Call] = {}
        self._bot = bot
        self._bots: dict[int, Send] = {}  # by channel
        self._lock = asyncio.Lock()

    @property
    def plain(self) -> int:
        """How many frames of sound went out without encryption."""
        return sum(not frame.endswith(_MARKER) for frame in self.frames)

    def call(self, channel: int) -> Call:
        """The channel's; there is one in each."""
        return self.calls.setdefault(channel, Call(channel))

    async def person_is_in(self, user: int, channel: int | None) -> None:
        """A person has come, moved, left, or done something else."""
        now, before = (self.call(channel) if channel is not None else None), self._where.pop(user, None)
        if now is not None:
            self._where[user] = now
        if now is before:
            return
        if before is not None:
            before.leave(user)
        if now is not None:
            self.people[user] = person = Person(user, now.channel)
            now.join(user)
            now.receive(user, *person.introduce())
        await self.deliver()

    async def bot_joins(self, channel: int, send: Send) -> None:
        """The bot has a new connection there."""
        if channel in self._bots:
            self.call(channel).leave(self._bot)
        self._bots[channel] = send
        self.call(channel).join(self._bot)
        await self.deliver()

    async def bot_leaves(self, channel: int, send: Send) -> None:
        """That connection is over."""
        if self._bots.get(channel) == send:
            del self._bots[channel]
            self.call(channel).leave(self._bot)
            await self.deliver()

    async def bot_says(self, channel: int, op: Op, payload: Payload) -> None:
        """The bot has sent one of the opcodes."""
        self.call(channel).receive(self._bot, op, payload)
        await self.deliver()

    async def deliver(self) -> None:
        """Everybody gets what there is for them, and answers."""
        async with self._lock:
            for call in self.calls.values():
                kept: list[tuple[int, Op, Payload]] = []
                while call.outbox:
                    user, op, payload = call.outbox.popleft()
                    if user == self._bot and self.held:
                        kept.append((user, op, payload))
                    elif user == self._bot:
                        if call.channel in self._bots:
                            await self._bots[call.channel](op, self.tamper(op, payload))
                    elif self._where.get(user) is call:
                        for answer in self.people[user].receive(op, payload):
                            call.receive(user, *answer)
                call.outbox.extend(kept)

    def hear(self, channel: int, frame: bytes) -> bytes | None:
        """What the people in the channel hear of a frame of the bot's: the Opus packet, or None."""
        if frame == SILENCE:  # the only thing that may go out in plain
            return frame
        self.frames.append(frame)
        heard = [
            self.people[user].hear(self._bot, frame) for user, call in self._where.items() if call.channel == channel
        ]
        return next((packet for packet in heard if packet is not None), None)
