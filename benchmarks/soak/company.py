"""One guild: its people, what may be so at its table, and whether it is."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection
from typing import Any, Final

from benchmarks.soak.hearing import Heard, listen
from benchmarks.soak.scene import INF, Scene, by_now
from bot import panel
from bot.localisation import Sentence
from tests.discord_server import DiscordServer, Guild, InteractionFailed, Member, Message, Reply
from tests.discord_server.world import CONNECT, MANAGE_GUILD, Channel

ANSWER_SECONDS: Final = 90.0  #: a join may be tried three times
SETTLE_SECONDS: Final = 60.0
SLOW_SECONDS: Final = 8.0  #: after which it is worth a word
_HEALTHY_SECONDS: Final = 0.5
#: What the bot may say instead of doing it while Discord is in trouble.
TROUBLE: Final = (
    "Discord did not let me into",
    "Discord closed the voice connection",
    "Discord can't be reached",
    "Discord refused the voice connection",
    "I am being restarted",
)
_APOLOGY: Final = "on my side"

After = Callable[[Scene], Scene | str]  #: what follows, or the words with which it is refused


class Violation(Exception):  # noqa: N818 - it is not an error of the soak's
    """Something is not as it should be."""


class Company:
    """A guild with a GM who manages the server, one who has the role, and two players; and a table.

    Attributes:
        scenes: all that may be so. One, but for moments in which nobody can tell.
        troubled: whether something of Discord's fails at present, so that not every wish can be carried out.
        lossy: whether what people ask may not even arrive, or the answer may not.
        calm: set when nothing fails any more.
        panel: the message that is the panel, if the bot has one.
        slowest: the longest time in seconds until a first answer.
    """

    def __init__(self, server: DiscordServer, guild: Guild, scene: Scene, note: Callable[[str], None]) -> None:
        self.guild = guild
        self.server = server
        self.scenes = {scene}
        self.troubled = False
        self.lossy = False
        self.calm = asyncio.Event()
        self.panel: Message | None = None
        self.slowest = 0.0
        self.note = note
        self._replies: list[tuple[Reply, bool]] = []
        manager, self.role = guild.add_role("steward", MANAGE_GUILD), guild.add_role("GM")
        self.gm = server.add_member("gm", roles=[manager, self.role], guild=guild)
        self.second = server.add_member("second", roles=[self.role], guild=guild)
        self.players = [server.add_member(f"player {number}", guild=guild) for number in (1, 2)]
        self.cupboard = guild.add_channel("cupboard", user_limit=1)
        self.vault = guild.add_channel("vault")
        denied = {"id": str(guild.id), "type": 0, "allow": "0", "deny": str(CONNECT)}
        self.vault.overwrites.append(denied)
        self._lodger = server.add_member("lodger", guild=guild)

    async def arrive(self) -> None:
        """Who has a place takes it."""
        await self.server.join_voice(self._lodger, self.cupboard)
        await self.server.join_voice(self.gm, self.guild.voice)
        await self.server.join_voice(self.players[0], self.guild.voice)

    @property
    def people(self) -> list[Member]:
        """All who act."""
        return [self.gm, self.second, *self.players]

    @property
    def scene(self) -> Scene:
        """One that may be so."""
        return min(self.scenes, key=repr)

    def may(self, who: Member, scene: Scene) -> bool:
        """Whether they may change the music."""
        return not scene.gm_only or self.role in who.roles

    def refusal(self, who: Member, channel: Channel | None) -> str | None:
        """Why the bot can't come into their channel."""
        if channel is self.vault:
            return "I may not play in vault"
        if channel is self.cupboard and who is not self._lodger:
            return "cupboard is full"
        return None

    # What people ask

    async def slash(self, who: Member, name: str, said: str | tuple[str, ...], after: After, **options: Any) -> None:
        """A command, once more if Discord lost it; ``said`` is how the answer begins when it is done."""
        self.note(f"{self.guild.name}: {who.user.name}: /{name} {' '.join(f'{k}={v}' for k, v in options.items())}")
        beginnings = (said,) if isinstance(said, str) else said
        possible = self.scenes | {scene.ended() for scene in self.scenes}  # that may happen until it arrives
        refusals = {then for then in map(after, possible) if isinstance(then, str)}
        try:
            reply = await self._answered(lambda: self.server.slash(who, name, **options), public=name == "keep")
            text = await self._text(reply, (*beginnings, *refusals, *TROUBLE))
        except (InteractionFailed, TimeoutError, LookupError) as error:
            if not self.lossy:
                raise Violation(f"{self.guild.name}: no answer to /{name}: {error}") from None
            self.note(f"{self.guild.name}: lost: {error}")
            self.scenes |= {then for then in map(after, self.scenes) if isinstance(then, Scene)}
            await self.calm.wait()
            await self.healthy()
            return await self.slash(who, name, said, after, **options)
        self._decide(name, text, beginnings, after)
        return None

    async def text_of(self, who: Member, name: str, said: tuple[str, ...], **options: Any) -> str:
        """What is answered to a command, whatever follows."""
        return await self._text(await self._answered(lambda: self.server.slash(who, name, **options)), said)

    async def press(self, who: Member, button: str, after: After, *, name: str | None = None) -> None:
        """A button of the panel's, or any other name."""
        message = self.panel or Message(self.guild.general.id, self.server.bot)
        wire = name if name is not None else f"bardcast:{button}"
        self.note(f"{self.guild.name}: {who.user.name}: [{wire}]")
        outcomes = {scene: after(scene) for scene in by_now(self.scenes, time.monotonic())}
        words = [then for then in outcomes.values() if isinstance(then, str)]
        reply = await self._answered(lambda: self.server.press(who, message, wire), public=button == "keep")
        if len(words) == len(outcomes):
            await self._text(reply, words)
        self.scenes = {then if isinstance(then, Scene) else scene for scene, then in outcomes.items()}

    async def _answered(self, ask: Callable[[], Awaitable[Reply]], *, public: bool = False) -> Reply:
        reply = await ask()
        self.slowest = max(self.slowest, reply.seconds)
        self._replies.append((reply, public))
        return reply

    async def _text(self, reply: Reply, words: Collection[str]) -> str:
        """The answer, which is one of those that may be expected; the bot may have told the GM something else first."""
        try:
            await self.server.changes.until(
                lambda: reply.text and any(word in reply.text for word in (*words, _APOLOGY)),
                timeout=ANSWER_SECONDS,
                what=f"an answer with one of {words} in it, not {reply.text!r}",
            )
        except TimeoutError:
            if reply.text:
                raise Violation(f"{self.guild.name}: the answer was {reply.text!r}; due: one of {words}") from None
            raise
        return reply.text

    def _decide(self, name: str, text: str, beginnings: tuple[str, ...], after: After) -> None:
        """Keeps what agrees with the answer."""
        found = set()
        for scene in by_now(self.scenes, time.monotonic()):
            then = after(scene)
            if isinstance(then, str):
                if then in text:
                    found.add(scene)
            elif any(beginning in text for beginning in beginnings):
                found.add(then)
        if not found and self.troubled and any(words in text for words in TROUBLE):
            self.note(f"{self.guild.name}: {text}")
            return
        if not found:
            raise Violation(f"{self.guild.name}: /{name} was answered {text!r} in {self.scenes}")
        self.scenes = found

    # What happens

    def happens(self, change: Callable[[Scene], Scene], *, surely: bool = True) -> None:
        """Something that needs no answer has changed every scene, or may have."""
        changed = {change(scene) for scene in by_now(self.scenes, time.monotonic())}
        self.scenes = changed if surely else self.scenes | changed

    def count(self) -> None:
        """Who listens now; to be called after whatever happens. While the gateway is away the bot can't know it."""
        now = time.monotonic()
        before = by_now(self.scenes, now)

        def counted(scene: Scene) -> Scene:
            state = self.guild.voice_states.values()
            here = [s for s in state if scene.music and s.channel and s.channel.id == scene.music.channel]
            return scene.counted(sum(not s.self_deaf and not s.member.user.bot for s in here), now)

        self.scenes = {counted(scene) for scene in before} | (set() if self.present else before)

    # What is so

    @property
    def present(self) -> bool:
        """Whether the bot has a gateway session, and a socket to it."""
        sessions = [s for s in self.server.gateway.sessions.values() if s.ws is not None and not s.ws.closed]
        return any(session.serves(self.guild.id) for session in sessions)

    async def healthy(self) -> None:
        """Returns when the bot is at the gateway, and had time to hear what it missed."""
        await self.server.changes.until(lambda: self.present, timeout=SETTLE_SECONDS, what="the bot at the gateway")
        await asyncio.sleep(_HEALTHY_SECONDS)

    async def settle(self) -> float:
        """Returns when something that may be so is so, and how long that took.

        Raises:
            Violation: it is not.
        """
        begun = time.monotonic()
        slow = begun + SLOW_SECONDS
        await self.healthy()
        while True:
            self.count()
            now = time.monotonic()
            heard = listen(self.server, self.guild)
            agreeing = {scene for scene in self.scenes if self._agrees(scene, heard, now)}
            if agreeing:
                break
            if now - begun > SETTLE_SECONDS:
                raise Violation(f"{self.guild.name}: {heard}, and the panel says {self._shown!r}; due: {self.scenes}")
            if now > slow:
                self.note(f"{self.guild.name}: SLOW: {heard}; due: {self.scenes}")
                slow = INF
            await asyncio.sleep(0.1)
        self.scenes = {scene.seen(now) for scene in agreeing}
        self._judge_replies()
        return now - begun

    def _agrees(self, scene: Scene, heard: Heard, now: float) -> bool:
        if heard.place != scene.place or heard.connections != (scene.place is not None):
            return False
        sounds = scene.may_sound(now) and scene.music and heard.plays(scene.music.controls, scene.gain)
        return bool(sounds or (scene.may_be_silent(now) and heard.silent)) and self._panel_agrees(scene)

    def _panel_agrees(self, scene: Scene) -> bool:
        if self.panel is None or self.panel.id not in self.server.rest.posts.messages:
            return True
        words = [f"{scene.volume} %"]
        if scene.music is None:
            words.append(Sentence("Nothing plays").to(scene.language))
        else:
            controls = scene.music.controls
            words += [panel.title(controls, scene.language), f"▱ {controls.intensity}"[-2:]]
            if scene.music.paused:
                words.append(Sentence("⏸️ Paused.").to(scene.language))
        return all(word in self._shown for word in words)

    @property
    def _shown(self) -> str:
        return self.panel.text if self.panel is not None else "nothing"

    def _judge_replies(self) -> None:
        """Whether each answer is private and none an apology; those that are over are forgotten."""
        for reply, public in self._replies:
            for message in reply.messages:
                if not message.ephemeral and not (public and message.files):
                    raise Violation(f"for all to see: {message.text!r}")
                if _APOLOGY in message.text:
                    raise Violation("the bot apologised for what nobody foresaw")
        self._replies = []

    def forget(self, message: Message) -> None:
        """Somebody deletes a panel."""
        self.server.rest.posts.messages.pop(message.id, None)
