"""What the panel looks like, and what its buttons are called.

A button's name on the wire (its ``custom_id``) says all that it does, so that a panel from before a restart works like
a new one. Whoever can see a message can send any name, so :func:`parse` believes none.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

import discord
from discord.utils import format_dt

from bot.bard import Bard
from bot.localisation import Sentence, language_of
from generator.moods import COLOURS, MOODS, Mood
from generator.protocol import INTENSITIES, Controls

PICTURE: Final = "heard.png"
VOLUME_STEP: Final = 10  #: percent

EMOJI: Final[dict[Mood, str]] = dict(zip(MOODS, ["🐉", "🎉", "⚔️", "🔮", "🌹", "🌧️", "🍺", "🏘️"], strict=True))

_PREFIX: Final = "bardcast:"
_SILENT: Final = 0x4E5058  #: the accent while nothing plays: Discord's own grey
_ROW: Final = 4  #: moods in a row, so that eight make two even ones

Name = Literal["softer", "stronger", "quieter", "louder", "pause", "resume", "stop", "keep"]
_NAMES: Final[tuple[Name, ...]] = ("softer", "stronger", "quieter", "louder", "pause", "resume", "stop", "keep")
Button = Mood | Name


@dataclass(frozen=True, slots=True)
class Music:
    """What plays.

    Attributes:
        channel: the voice channel, as a mention.
        controls: mood, intensity, blend.
        since: when that was asked for.
        paused: by the GM.
        deserted: paused, or about to be, since nobody listens.
        trouble: what keeps it from sounding as it should, if anything does.
    """

    channel: str
    controls: Controls
    since: datetime
    paused: bool = False
    deserted: bool = False
    trouble: Sentence | None = None


def music(bard: Bard, guild: discord.Guild) -> Music | None:
    """What plays in the guild now."""
    playing, table = bard.playing(guild), bard.table(guild)
    if playing is None:
        return None
    status = table.status() if table is not None else None
    trouble = None
    if status is None or not status.audible:
        trouble = Sentence("⏳ Discord does not carry my voice yet. The music comes as soon as it does.")
    elif not status.connected:
        trouble = Sentence("⏳ The music generator is away. What was heard last goes on until it is back.")
    elif status.holding:
        trouble = Sentence("⏳ The music generator is behind. What was heard last goes on until it has caught up.")
    return Music(
        channel=f"<#{playing.channel}>",
        controls=playing.controls,
        since=playing.since,
        paused=playing.paused,
        deserted=bard.deserted(guild),
        trouble=trouble,
    )


def language(bard: Bard, guild: discord.Guild) -> str:
    """In which language the guild as a whole is spoken to: the one that it chose, else Discord's setting of it."""
    return bard.guild_settings(guild).language or language_of(guild.preferred_locale.value)


def title(controls: Controls, language: str) -> str:
    """The mood as a heading: ⚔️ Fight, or ⚔️ Fight + 🔮 Mysterious."""
    return " + ".join(f"{EMOJI[mood]} {label(mood, language)}" for mood in controls.moods)


def label(mood: Mood, language: str) -> str:
    """The mood's name, as it begins a line."""
    name = Sentence(mood).to(language)
    return name[:1].upper() + name[1:]


def describe(music: Music, language: str) -> str:
    """Where it plays and since when; and why it is not heard, if so."""
    lines = [
        Sentence(
            "In {channel} since {time} ({ago}).",
            channel=music.channel,
            time=format_dt(music.since, "t"),
            ago=format_dt(music.since, "R"),
        )
    ]
    if music.paused:
        lines.append(Sentence("⏸️ Paused."))
    elif music.deserted:
        lines.append(Sentence("💤 Nobody listens. The music goes on as soon as somebody does."))
    elif music.trouble is not None:
        lines.append(music.trouble)
    return "\n".join(line.to(language) for line in lines)


def embed(music: Music | None, volume: int, language: str, *, picture: bool) -> discord.Embed:
    """The upper half of the panel.

    Args:
        music: what plays, if anything.
        volume: in percent.
        language: in which.
        picture: whether a file named :data:`PICTURE` goes along.
    """
    if music is None:
        nothing = Sentence("Join a voice channel and press a mood.").to(language)
        shown = discord.Embed(title=Sentence("Nothing plays").to(language), description=nothing, colour=_SILENT)
    else:
        intensity = music.controls.intensity
        shown = discord.Embed(
            title=title(music.controls, language),
            description=describe(music, language),
            colour=discord.Colour.from_str(COLOURS[music.controls.mood]),
        )
        shown.add_field(
            name=Sentence("Intensity").to(language), value=f"{_scale(intensity, INTENSITIES.stop - 1)} {intensity}"
        )
    shown.add_field(name=Sentence("Volume").to(language), value=f"{_scale(round(volume / 10), 10)} {volume} %")
    if picture:
        shown.set_image(url=f"attachment://{PICTURE}")
    return shown


def buttons(music: Music | None, volume: int, language: str) -> discord.ui.View:
    """The lower half of the panel; what can't be done now is grey."""
    # Stopped: discord.py is not to keep it and wait for presses, which come by their names (see ``bot.buttons``).
    view = discord.ui.View(timeout=None)
    view.stop()
    for place, mood in enumerate(MOODS):
        now = music is not None and mood in music.controls.moods
        style = discord.ButtonStyle.success if now else discord.ButtonStyle.secondary
        view.add_item(_button(mood, label(mood, language), EMOJI[mood], place // _ROW, style=style))
    none, paused = music is None, music is not None and music.paused
    intensity = music.controls.intensity if music is not None else 0
    go_on = _button("resume", Sentence("Go on").to(language), "▶️", 2, style=discord.ButtonStyle.primary)
    pause = _button("pause", Sentence("Pause").to(language), "⏸️", 2, disabled=none)
    for item in (
        go_on if paused else pause,
        _button("stop", Sentence("Stop").to(language), "⏹️", 2, disabled=none, style=discord.ButtonStyle.danger),
        _button("keep", Sentence("Keep").to(language), "💾", 2, disabled=none),
        _button("softer", Sentence("Calmer").to(language), "➖", 3, disabled=none or intensity <= INTENSITIES.start),
        _button(
            "stronger", Sentence("Wilder").to(language), "➕", 3, disabled=none or intensity >= INTENSITIES.stop - 1
        ),
        _button("quieter", Sentence("Quieter").to(language), "🔉", 3, disabled=volume <= 0),
        _button("louder", Sentence("Louder").to(language), "🔊", 3, disabled=volume >= 100),
    ):
        view.add_item(item)
    return view


def custom_id(button: Button) -> str:
    """A button's name on the wire."""
    return _PREFIX + button


def parse(name: object) -> Button | None:
    """The button of this name, if it is one of ours; whatever was sent."""
    if not isinstance(name, str) or not name.startswith(_PREFIX):
        return None
    wanted = name.removeprefix(_PREFIX)
    known: dict[str, Button] = {button: button for button in (*MOODS, *_NAMES)}
    return known.get(wanted)


def _button(
    button: Button,
    text: str,
    emoji: str,
    row: int,
    *,
    disabled: bool = False,
    style: discord.ButtonStyle = discord.ButtonStyle.secondary,
) -> discord.ui.Button[discord.ui.View]:
    return discord.ui.Button(
        label=text, emoji=emoji, row=row, disabled=disabled, style=style, custom_id=custom_id(button)
    )


def _scale(value: int, most: int) -> str:
    return "▰" * value + "▱" * (most - value)
