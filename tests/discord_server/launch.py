"""Runs a module's ``__main__`` in this process with discord.py pointed at a loopback Discord.

``python -m tests.discord_server.launch MODULE [ARGUMENT …]``: so the real bot runs as its own process, with its own
interpreter lock, unchanged. The address comes from the environment (:meth:`DiscordServer.environment`).
"""

import runpy
import sys

from tests.discord_server.patch import Address, patched


def main() -> None:
    """Run the module named by the first argument; it sees the others as its own."""
    del sys.argv[0]  # run_module puts the module's path in the place of its name
    with patched(Address.from_environment()):
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
