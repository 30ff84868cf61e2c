"""Why an archive is not decoded: one class for each thing that a caller can do about it.

`code` is the one that errors of the JavaScript package have.
"""


class McwcError(Exception):
    code = "error"


class Invalid(McwcError):
    """The archive breaks a rule of the format."""

    code = "invalid"


class Unsupported(McwcError):
    """It uses what the format reserves for later readers."""

    code = "unsupported"


class Incomplete(McwcError):
    """It ends early."""

    code = "incomplete"


class Checksum(McwcError):
    """Bytes are not those that were hashed."""

    code = "checksum"


class LimitExceeded(McwcError):
    """It asks for more than this decoder gives."""

    code = "limit-exceeded"


class BadArgument(McwcError):
    """The base is another archive than the one that is needed, or not there."""

    code = "argument"
