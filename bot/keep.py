"""``/keep``: the last two minutes as a file, posted for all who play."""

import asyncio
import io
from collections.abc import Sequence
from typing import Final

import discord

from bot import panel
from bot.answers import Interaction
from bot.bard import Bard
from bot.errors import BotError
from bot.heard import KEPT_SECONDS
from bot.localisation import Sentence
from bot.permissions import require_member
from bot.recording import write_packets
from bot.unreachable import UNREACHABLE
from generator.protocol import FRAMES_PER_SECOND

#: What Ogg adds to the packets: a header of each page and a byte for each 255 of a packet. Measured: 1 to 2 %.
_OVERHEAD: Final = 1.03
_HEADERS: Final = 4_096


async def keep(bard: Bard, interaction: Interaction) -> discord.File:
    """What the guild's table heard last, as large a file as may be posted there.

    Raises:
        BotError: nothing was heard yet.
    """
    table = bard.table(require_member(interaction).guild)
    packets = table.heard.last(KEPT_SECONDS) if table is not None else []
    if not packets:
        raise BotError("There is nothing to keep: I have played nothing since I came. Choose a mood with /mood.")
    file, _ = await asyncio.to_thread(ogg, packets, interaction.filesize_limit)
    return discord.File(io.BytesIO(file), f"bardcast-{interaction.created_at:%Y-%m-%d-%H%M}.ogg")


async def post(bard: Bard, interaction: Interaction, file: discord.File) -> None:
    """Posts it where the interaction is, for all to hear.

    Raises:
        BotError: Discord does not take it.
    """
    guild = require_member(interaction).guild
    sentence = Sentence("🎵 What the table heard last.").to(panel.language(bard, guild))
    try:
        await interaction.followup.send(sentence, file=file)
    except UNREACHABLE as error:
        reason = error.text if isinstance(error, discord.HTTPException) else error
        raise BotError("Discord does not let me post the file here ({reason}).", reason=reason) from None


def ogg(packets: Sequence[bytes], limit: int) -> tuple[bytes, float]:
    """As many of the newest packets as fit into a file of ``limit`` bytes.

    Returns:
        The Ogg Opus file, and how many seconds it lasts; the packets are those that were sent, encoded no second time.
    """
    room = (limit - _HEADERS) / _OVERHEAD
    count = 0
    for packet in reversed(packets):
        room -= len(packet)
        if room < 0:
            break
        count += 1
    file = io.BytesIO()
    write_packets(file, packets[len(packets) - count :])
    return file.getvalue(), count / FRAMES_PER_SECOND
