"""The two ways a verb ends other than in success: refused input, or an orderly early stop."""


class Refusal(Exception):
    """Input that cannot be used; its text is the one line the user reads. Exit status 2."""

    exit_status = 2


class Unwritable(Refusal):
    """A file cannot be written: no room, no right. What was to be written may well be right."""


class Suspended(Exception):
    """The time budget ran out; everything is saved and a new start goes on. Exit status 75."""

    exit_status = 75


class Busy(Refusal):
    """Another process is working in the same directory. Exit status 76."""

    exit_status = 76
