import socket

import pytest

from generator.server import ListenError, bind


def test_a_port_in_use_and_a_foreign_address_have_their_own_remedies() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(ListenError, match="stop what uses it, or choose another with --port"):
            bind("127.0.0.1", other.getsockname()[1])
    with pytest.raises(ListenError, match="choose an address of this machine with --host"):
        bind("192.0.2.1", 0)  # RFC 5737: nobody's
