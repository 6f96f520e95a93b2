"""What is safe to print of text that others wrote."""


def printable(text: str) -> str:
    """The text with what could steer a terminal made visible."""
    return "".join(
        character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text
    )


def printable_lines(text: str) -> str:
    """The same of a text of several lines."""
    return "\n".join(map(printable, text.split("\n")))
