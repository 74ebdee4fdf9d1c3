"""Draws messages from the payloads that Discord was sent, about as its own client shows them."""

import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
from PIL import Image, ImageDraw, ImageFont

from tests.discord_server import Message
from tests.discord_server.world import Guild

WIDTH: Final = 560
_SCALE: Final = 2  #: drawn larger and then halved: Pillow's edges are rough
_MARGIN: Final = 16
_LEFT: Final = 64  #: where text begins, right of the avatar
_LINE: Final = 21
_EMBED_WIDTH: Final = 432

_PAPER: Final = "#313338"
_EMBED: Final = "#2b2d31"
_INK: Final = "#dbdee1"
_STRONG: Final = "#f2f3f5"
_FAINT: Final = "#949ba4"
_PILL: Final = "#3c4270"
_PILL_INK: Final = "#c9cdfb"
#: Of buttons, by Discord's numbers of their styles: primary, secondary, success, danger.
_BUTTONS: Final = {1: "#5865f2", 2: "#4e5058", 3: "#248046", 4: "#da373c"}

_EMOJI: Final = re.compile("([\u2b00-\u2bff\u23e9-\u23fa\u2600-\u27bf\U0001f300-\U0001faff]\ufe0f?)")
_MARKUP: Final = re.compile(r"<#(\d+)>|<@&(\d+)>|<t:(\d+):([tR])>")
_EMOJI_SIZE: Final = 109  #: the only size of Noto's bitmaps


@dataclass(frozen=True, slots=True)
class Words:
    """What Discord's own client says, in one language."""

    used: str
    private: str
    ago: str


ENGLISH: Final = Words("{who} used {what}", "Only you can see this · Dismiss message", "{seconds} seconds ago")
GERMAN: Final = Words(
    "{who} hat {what} verwendet", "Nur du kannst das sehen · Nachricht verwerfen", "vor {seconds} Sekunden"
)


@dataclass(frozen=True, slots=True)
class Spoken:
    """One message, and the command that it answers.

    Attributes:
        message: as it stands.
        asker: who asked.
        command: what was typed, e.g. ``/mood mood:fight``; None for a button, or a message of the bot's own.
    """

    message: Message
    asker: str
    command: str | None = None


class Sheet:
    """A paper on which one draws from top to bottom; all places are in Discord's own pixels."""

    def __init__(self, guild: Guild, now: datetime, emoji: Path | None, words: Words = ENGLISH) -> None:
        """An empty sheet.

        Args:
            guild: knows the names behind mentions.
            now: what "3 minutes ago" is reckoned from.
            emoji: Noto Color Emoji; without it, emoji are left out.
            words: the client's own.
        """
        self._image = Image.new("RGB", (WIDTH * _SCALE, 4_000), _PAPER)
        self._pen = ImageDraw.Draw(self._image)
        self._guild = guild
        self._now = now
        self._words = words
        self._emoji = ImageFont.truetype(str(emoji), _EMOJI_SIZE) if emoji is not None else None
        self._top = float(_MARGIN)

    def speak(self, spoken: Spoken) -> None:
        """One message, below the last."""
        if spoken.command is not None:
            used = self._words.used.format(who=spoken.asker, what=spoken.command)
            self._text(_LEFT, self._top, used, _FAINT, 13)
            self._pen.line(self._box(36, self._top + 9, _LEFT - 6, self._top + 9), fill="#4e5058", width=2 * _SCALE)
            self._top += 22
        message = spoken.message
        self._pen.ellipse(self._box(_MARGIN, self._top, _MARGIN + 38, self._top + 38), fill="#a0652f")
        self._text(_MARGIN + 12, self._top + 8, "B", "#ffffff", 19, bold=True)
        after = self._text(_LEFT, self._top, "Bardcast", _STRONG, 15, bold=True)
        self._rounded(after + 6, self._top + 1, after + 40, self._top + 17, "#5865f2", 3)
        self._text(after + 11, self._top + 2, "APP", "#ffffff", 11, bold=True)
        self._top += _LINE
        if message.content:
            self._paragraph(_LEFT, message.content, _INK, 15, WIDTH - _MARGIN - _LEFT)
        for embed in message.embeds:
            self._embed(embed, message.files)
        for name, body in message.files.items():
            if name.endswith(".ogg"):
                self._file(name, len(body))
        for row in message.components:
            self._row(row["components"])
        if message.ephemeral:
            self._text(_LEFT, self._top, f"👁️ {self._words.private}", _FAINT, 12)
            self._top += 18
        self._top += 14

    def save(self, path: Path) -> None:
        """Writes what was drawn, as a PNG of few colours."""
        whole = self._image.crop((0, 0, WIDTH * _SCALE, round((self._top + 2) * _SCALE)))
        small = whole.resize((WIDTH, whole.height // _SCALE), Image.Resampling.LANCZOS)
        small.quantize(160, dither=Image.Dither.NONE).save(path, optimize=True)

    # Parts of a message

    def _embed(self, embed: dict[str, Any], files: dict[str, bytes]) -> None:
        top, self._top = self._top + 4, self._top + 14
        self._deferred(lambda: self._embed_content(embed, files), top, _hex(embed.get("color")))
        self._top += 8

    def _embed_content(self, embed: dict[str, Any], files: dict[str, bytes]) -> None:
        left, room = _LEFT + 16, _EMBED_WIDTH - 32
        if embed.get("title"):
            self._paragraph(left, embed["title"], _STRONG, 16, room, bold=True)
            self._top += 3
        if embed.get("description"):
            self._paragraph(left, embed["description"], _INK, 14, room)
            self._top += 4
        column, fields = 0, embed.get("fields", [])
        for place, item in enumerate(fields):
            inline = item.get("inline", False)
            x = left + column * (room // 2)
            self._text(x, self._top, item["name"], _STRONG, 13, bold=True)
            self._text(x, self._top + 19, item["value"], _INK, 14)
            column = (column + 1) % 2 if inline else 0
            if column == 0 or place == len(fields) - 1:
                self._top += 46
        if embed.get("image"):
            body = files[embed["image"]["url"].removeprefix("attachment://")]
            picture = Image.open(io.BytesIO(body)).convert("RGB")
            width = min(room, picture.width)
            height = round(picture.height * width / picture.width)
            place_at = (round(left * _SCALE), round(self._top * _SCALE))
            self._image.paste(picture.resize((width * _SCALE, height * _SCALE), Image.Resampling.BICUBIC), place_at)
            self._top += height + 6
        if embed.get("footer"):
            self._paragraph(left, embed["footer"]["text"], _FAINT, 11, room)

    def _deferred(self, content: Callable[[], None], top: float, accent: str) -> None:
        """Draws the content once to learn its height, then its ground, then the content upon it."""
        begin = self._top
        content()
        bottom = self._top + 8
        self._rounded(_LEFT, top, _LEFT + _EMBED_WIDTH, bottom, _EMBED, 4)
        self._pen.rectangle(self._box(_LEFT, top, _LEFT + 4, bottom), fill=accent)
        self._top = begin
        content()
        self._top = bottom

    def _file(self, name: str, size: int) -> None:
        self._rounded(_LEFT, self._top, _LEFT + _EMBED_WIDTH, self._top + 54, _EMBED, 8)
        self._rounded(_LEFT + 12, self._top + 10, _LEFT + 46, self._top + 44, "#5865f2", 17)
        x, y = _LEFT + 24, self._top + 19
        triangle = [(x, y), (x, y + 16), (x + 13, y + 8)]
        self._pen.polygon([(px * _SCALE, py * _SCALE) for px, py in triangle], fill="#ffffff")
        self._text(_LEFT + 58, self._top + 9, name, "#00a8fc", 14)
        self._text(_LEFT + 58, self._top + 29, f"{size / 1e6:.2f} MB", _FAINT, 12)
        self._top += 60

    def _row(self, buttons: Sequence[dict[str, Any]]) -> None:
        x = float(_LEFT)
        for button in buttons:
            text = f"{button['emoji']['name']} {button['label']}" if button.get("emoji") else button["label"]
            grey = button.get("disabled", False)
            right = x + self._width(text, 14) + 28
            self._rounded(x, self._top, right, self._top + 32, _mix(_BUTTONS[button["style"]], grey), 6)
            self._text(x + 14, self._top + 7, text, _FAINT if grey else "#ffffff", 14)
            x = right + 8
        self._top += 40

    # Letters

    def _paragraph(self, x: float, text: str, ink: str, size: int, room: float, *, bold: bool = False) -> None:
        for line in text.split("\n"):
            words: list[str] = []
            for word in line.split(" "):
                if words and self._width(" ".join([*words, word]), size, bold=bold) > room:
                    self._text(x, self._top, " ".join(words), ink, size, bold=bold)
                    self._top += size + 6
                    words = []
                words.append(word)
            self._text(x, self._top, " ".join(words), ink, size, bold=bold)
            self._top += size + 6

    def _text(self, x: float, y: float, text: str, ink: str, size: int, *, bold: bool = False) -> float:
        """Writes a line; where it ends."""
        for kind, part in self._parts(text):
            if kind == "emoji":
                self._paste_emoji(x, y, part, size)
                x += size * 1.25
                continue
            font = _font(size * _SCALE, bold=bold)
            width = font.getlength(part) / _SCALE
            if kind == "pill":
                self._rounded(x - 2, y - 1, x + width + 2, y + size + 4, _PILL, 3)
            self._pen.text((x * _SCALE, y * _SCALE), part, font=font, fill=_PILL_INK if kind == "pill" else ink)
            x += width
        return x

    def _width(self, text: str, size: int, *, bold: bool = False) -> float:
        font = _font(size * _SCALE, bold=bold)
        return sum(
            size * 1.25 if kind == "emoji" else font.getlength(part) / _SCALE for kind, part in self._parts(text)
        )

    def _parts(self, text: str) -> list[tuple[str, str]]:
        """Text, mentions as pills, and emoji, in order."""
        found: list[tuple[str, str]] = []
        end = 0
        for match in _MARKUP.finditer(text):
            found += _split_emoji(text[end : match.start()])
            found.append(self._mention(match))
            end = match.end()
        return found + _split_emoji(text[end:])

    def _mention(self, match: re.Match[str]) -> tuple[str, str]:
        channel, role, moment, style = match.groups()
        if channel is not None:
            return "pill", "♪ " + next(item.name for item in self._guild.channels if item.id == int(channel))
        if role is not None:
            return "pill", "@" + next(item.name for item in self._guild.roles if item.id == int(role))
        when = datetime.fromtimestamp(int(moment), UTC)
        if style == "t":
            return "text", f"{when:%H:%M}"
        return "text", self._words.ago.format(seconds=round((self._now - when).total_seconds()))

    def _paste_emoji(self, x: float, y: float, emoji: str, size: int) -> None:
        if self._emoji is None:
            return
        tile = Image.new("RGBA", (136, 128))
        ImageDraw.Draw(tile).text((0, 0), emoji.rstrip("\ufe0f"), font=self._emoji, embedded_color=True)
        side = round(size * 1.15 * _SCALE)
        small = tile.resize((side, side), Image.Resampling.LANCZOS)
        self._image.paste(small, (round(x * _SCALE), round(y * _SCALE)), small)

    # Shapes

    def _rounded(self, left: float, top: float, right: float, bottom: float, colour: str, radius: int) -> None:
        self._pen.rounded_rectangle(self._box(left, top, right, bottom), radius * _SCALE, fill=colour)

    def _box(self, left: float, top: float, right: float, bottom: float) -> tuple[float, float, float, float]:
        return left * _SCALE, top * _SCALE, right * _SCALE, bottom * _SCALE


def _split_emoji(text: str) -> list[tuple[str, str]]:
    pieces = _EMOJI.split(text)
    return [("emoji" if place % 2 else "text", piece) for place, piece in enumerate(pieces) if piece]


def _hex(colour: int | None) -> str:
    return "#4e5058" if colour is None else f"#{colour:06x}"


def _font(size: int, *, bold: bool) -> ImageFont.FreeTypeFont:
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(Path(mpl.get_data_path(), "fonts", "ttf", name), size)


def _mix(colour: str, grey: bool) -> str:
    """A disabled button's colour is half the paper's."""
    if not grey:
        return colour
    pairs = [(int(colour[i : i + 2], 16) + int(_PAPER[i : i + 2], 16)) // 2 for i in (1, 3, 5)]
    return "#" + "".join(f"{value:02x}" for value in pairs)
