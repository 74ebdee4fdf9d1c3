"""The generator: everything from a noise schedule to the audio on the wire."""
