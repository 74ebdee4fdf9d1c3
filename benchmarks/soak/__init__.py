"""A long game in little time: what people and faults do to the bot, and whether it is always as it should be."""
