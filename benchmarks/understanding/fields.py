"""Fields of published rows: checked one by one, with messages that give place, field, what stands there and what may."""

from jfeval.errors import UserError

_SHOWN = 60


def text_field(value: object, field: str, where: str, *, longest: int, empty: bool = False) -> str:
    """Return a field that must be text.

    Args:
        value: What stands there; nothing at all is an empty text where that is allowed.
        field: Its name.
        where: File and row, for the message.
        longest: Most characters.
        empty: Allow text without a character.

    Raises:
        UserError: It is something else, or holds half a surrogate pair, which no file could store.
    """
    if value is None and empty:
        return ""
    if not isinstance(value, str) or len(value) > longest or not (empty or value.strip()):
        raise wrong(where, field, value, f"text of {'at most' if empty else '1 to'} {longest} characters")
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise wrong(where, field, value, "text without unpaired surrogates")
    return value


def wrong(where: str, field: str, value: object, allowed: str) -> UserError:
    """Build the error for a field: where it is, what stands there (cut, ASCII only) and what may."""
    text = ascii(value)
    shown = text if len(text) <= _SHOWN else text[:_SHOWN] + "..."
    return UserError(f"{where}, field {field}: found {shown}; allowed: {allowed}")
