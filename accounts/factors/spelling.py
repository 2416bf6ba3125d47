"""How people type codes."""


def as_issued(code: str) -> str:
    """Return the code without what people put between its groups, and in small letters."""
    return "".join(code.split()).replace("-", "").lower()
