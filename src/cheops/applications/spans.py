"""Which paths concern resources that span sites, for a data plane that has to tell by the path alone. Pure."""

import re
from collections.abc import Iterator

from cheops.applications.description import Service
from cheops.applications.resources import Resource

_PLACE = re.compile(r"\{([^{}]*)\}")
_ONE, _SEVERAL = "[^/?]+", "[^/?]+(?:/[^/?]+)*"


def spanning_paths(service: Service) -> list[str]:
    """Regexes (RE2) of the targets that read a whole, or list wholes or what belongs to them; [] if none may be there.

    The items of what belongs to a whole aren't among them: reads of those that miss come to the agent anyway. A path
    with needless percent-encoding isn't known again, nor is one with empty segments.
    """
    templates = dict.fromkeys(_templates(service.resources))
    return [f"^{_pattern(template)}$" for template in templates]


def _templates(types: dict[str, Resource]) -> Iterator[str]:
    for rules in types.values():
        if rules.span:
            yield from (rules.collection, *rules.lists, rules.item_path)
            yield from (f"{rules.item_path}/{view}" for view in rules.span.views)
            for child in rules.span.children:
                yield from (types[child].collection, *types[child].lists)


def _pattern(template: str) -> str:
    parts = _PLACE.split(template.rstrip("/"))
    shapes = [_shape(part) if n % 2 else re.escape(part) for n, part in enumerate(parts)]
    return "".join(shapes) + r"/?(?:\?.*)?"


def _shape(place: str) -> str:
    return _SEVERAL if place.endswith("*") else _ONE
