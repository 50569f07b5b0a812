"""The one exception that speaks to the user."""


class CtdError(Exception):
    """What the user can mend: one sentence that names the culprit and what would be right."""
