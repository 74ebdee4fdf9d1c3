"""How a request to Discord fails."""

from typing import Final

import aiohttp
import discord

#: What discord.py raises for a refusal, and lets through when the line breaks: of the latter not all is an ``OSError``.
UNREACHABLE: Final = (discord.DiscordException, aiohttp.ClientError, OSError)
