"""stub"""

from icd.errors import did_you_mean

_LONGEST = 240


def meant(name, allowed, path=(), value=None):
    hint = did_you_mean(name, allowed)
    return hint if len(hint) <= _LONGEST else f"{hint[:_LONGEST].rpartition(',')[0]}, ... ({len(allowed)} in all)"


def about_value(path, value, kind):
    return ""


def about_file(document, kind):
    return None
