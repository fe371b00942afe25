"""The one error that a user can mend: the command line prints it in one line and exits with 2."""


class InputError(Exception):
    """Something handed in does not fit; the text says where, what was found and what would do."""
