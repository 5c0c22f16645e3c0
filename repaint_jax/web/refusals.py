"""What the server refuses, in words that the page shows."""

from __future__ import annotations


class Refused(Exception):
    """A request that is not served.

    Attributes:
        status: of HTTP.
        message: what is wrong and how to mend it, in one line.
    """

    def __init__(self, status: int, message: str):
        super().__init__(message)
        self.status, self.message = status, message
