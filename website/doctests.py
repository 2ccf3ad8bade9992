"""Shows the examples of docstrings as code."""

import re

import griffe

EXAMPLE = re.compile(r"(?:^>>> .*\n)(?:^.+\n?)*", re.MULTILINE)


def fenced(text: str) -> str:
    """Puts examples, from `>>>` to an empty line, into fences."""
    return EXAMPLE.sub(lambda m: f"```pycon\n{m[0].rstrip()}\n```\n", text)


class Doctests(griffe.Extension):
    """Does so for everything that is documented."""

    def on_object(self, *, obj, **kwargs):
        """Changes the docstring of an object."""
        del kwargs
        if obj.docstring:
            obj.docstring.value = fenced(obj.docstring.value)
