"""The bot: discord.py, an async buffer, and a client of the generator. Imports no torch."""
