"""Errors that a caller can mend; each message is one line that says how."""


class ArgumentError(ValueError):
    """An argument cannot be used as it is.

    Attributes:
        argument: its name, so that a command line or a page can say which of its fields that is.
        fault: what is wrong and how to mend it.
    """

    def __init__(self, argument: str, fault: str):
        super().__init__(f"{argument}: {fault}")
        self.argument, self.fault = argument, fault


class ConfigError(ValueError):
    """A configuration cannot be run; the message names the field, the fault and the mend."""
