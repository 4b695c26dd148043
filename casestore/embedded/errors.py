"""What the embedded servers raise."""


class EmbeddedError(Exception):
    """The servers cannot be run; the message is one sentence for the person at the terminal."""
