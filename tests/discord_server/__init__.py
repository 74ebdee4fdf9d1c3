"""A loopback Discord: REST, gateway, voice WebSocket and UDP, against which an unmodified discord.py client runs.

Read in the order in which data flows: ``world`` (who and what exists), ``rest`` and ``gateway`` (the two doors of a
bot), ``interactions`` (what a person does and sees), ``posts`` (what stands in a channel), ``voice`` (the handshake),
``rtp`` (one packet), ``mls`` and ``dave`` (its end-to-end encryption), ``listener`` (what was heard), ``faults`` (what
goes wrong), ``server`` (all behind one object), ``patch`` and ``launch`` (how a client gets here). ``tone`` is a
signal for tests.
"""

from tests.discord_server.interactions import InteractionFailed, Message, Reply
from tests.discord_server.listener import Listener
from tests.discord_server.rtp import SILENCE, Packet
from tests.discord_server.server import REPOSITORY, DiscordServer
from tests.discord_server.world import REFUSED_TOKEN, TOKEN, Channel, Guild, Member, Role, VoiceState

__all__ = [
    "REFUSED_TOKEN",
    "REPOSITORY",
    "SILENCE",
    "TOKEN",
    "Channel",
    "DiscordServer",
    "Guild",
    "InteractionFailed",
    "Listener",
    "Member",
    "Message",
    "Packet",
    "Reply",
    "Role",
    "VoiceState",
]
