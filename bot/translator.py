"""The commands' names and descriptions in other languages, as Discord is told them once, at the start."""

import discord
from discord import app_commands
from discord.app_commands import TranslationContextLocation as Location

from bot.localisation import ENGLISH, language_of, load


class CatalogTranslator(app_commands.Translator):
    """Looks things up in ``bot.localisation``'s catalogs."""

    async def translate(
        self,
        string: app_commands.locale_str,
        locale: discord.Locale,
        context: app_commands.TranslationContextTypes,
    ) -> str | None:
        """The string in the locale's language; None where English serves."""
        language = language_of(locale.value)
        if language == ENGLISH:
            return None
        catalog = load(language)
        named = context.location in (Location.command_name, Location.parameter_name)
        return (catalog.names if named else catalog.sentences).get(string.message)
