"""What can be asked for in Toytown: every request of the edit grammar, but for its values (which colour).

A request names what it touches; the pair of scenes, before and after, holds the rest. instructions.py puts it
into words.
"""

from dataclasses import dataclass
from itertools import permutations

from minidiff.toytown.scene import OBJECTS

COLUMNS = ("house_color", "roof_color", "jacket_color", "car_color")
COLOR_OF = {"house": "house_color", "person": "jacket_color", "car": "car_color"}  # "make it red" means this
OWNER = {"house_color": "house", "roof_color": "house", "jacket_color": "person", "car_color": "car",
         "sign_text": "sign"}
PLACES = {"left": 13 / 64, "middle": 32 / 64, "right": 51 / 64}                    # x of what is added, moved
RELATIONS = ("left of", "right of", "behind", "in front of")

KINDS = ("recolour", "add", "remove", "replace", "move", "resize", "season", "time", "style", "text",
         "combine", "relational")
CLASSES = {"appearance": KINDS[:6], "semantic": KINDS[6:9], "text": ("text",), "multi-image": ("combine",),
           "relational": ("relational",), "ambiguous": ("ambiguous",)}


@dataclass(frozen=True)
class Request:
    """One thing to ask for, such as Request("replace", "car", other="tree").

    verb: the key of its phrasings in instructions.py; its first word is the kind.
    subject: an object, "fence", or the column of Scenes that is to change.
    other: a second object (the new one, the landmark) or the column of image 2 that the colour is taken from.
    how: a place, a direction or a relation.
    """

    verb: str
    subject: str = ""
    other: str = ""
    how: str = ""

    @property
    def kind(self) -> str:
        """"recolour", "add", ...: one of KINDS, or "ambiguous"."""
        return self.verb.split()[0]

    @property
    def has_reference(self) -> bool:
        """Does it speak of an image 2?"""
        return self.kind == "combine"

    @property
    def is_global(self) -> bool:
        """Does it change the whole picture (season, time of day, style)?"""
        return self.subject in ("season", "time", "style")

    @property
    def tells_writing(self) -> bool:
        """Does its answer depend on what a sign says?"""
        new_sign = self.verb in ("add", "combine look", "combine add") and self.subject == "sign"
        return self.subject == "sign_text" or new_sign or (self.verb == "replace" and self.other == "sign")

    def changes(self) -> tuple[str, ...]:
        """The objects that look different, or are not there, afterwards."""
        return (OWNER.get(self.subject, self.subject), *((self.other,) if self.verb == "replace" else ()))

    def names(self) -> tuple[str, ...]:
        """The objects that its instruction names in image 1: they must be seen there."""
        other = "" if self.verb == "combine colour" else self.other
        found = (OWNER.get(name, name) for name in (self.subject, other))
        return tuple(name for name in found if name in OBJECTS)

    def names_in_reference(self) -> tuple[str, ...]:
        """The objects that its instruction names in image 2."""
        if self.verb == "combine colour":
            return (OWNER[self.other],)
        return (self.subject,) if self.verb in ("combine look", "combine add") else ()


def _every_request():
    movable = [name for name in OBJECTS if name != "sign"]
    for column in COLUMNS:
        yield Request("recolour", column)
    for name in OBJECTS:
        yield from (Request("add", name, how=place) for place in PLACES)
        yield from (Request("move", name, how=place) for place in PLACES)
        others = [other for other in OBJECTS if other != name and (name, other) != ("car", "house")]
        yield from (Request("replace", name, other) for other in others)
        yield Request("remove", name)
        yield Request("combine look", name)
        yield Request("combine add", name)
    yield from (Request("add fence", "fence"), Request("remove", "fence"))
    yield from (Request(f"resize {how}", name, how=how) for name in movable for how in ("bigger", "smaller"))
    yield from (Request("season", "season"), Request("time", "time"), Request("style", "style"))
    yield from (Request("text", "sign_text"), Request("combine style", "style"), Request("ambiguous"))
    yield from (Request("combine colour", column, other) for column in COLUMNS for other in COLUMNS)
    for name, landmark in permutations(OBJECTS, 2):
        yield from (Request("relational remove", name, landmark, how) for how in RELATIONS)
        if name in COLOR_OF:
            yield from (Request("relational recolour", name, landmark, how) for how in RELATIONS)


REQUESTS = tuple(_every_request())


def requests_of(kind: str) -> list[Request]:
    """All requests of one kind."""
    return [request for request in REQUESTS if request.kind == kind]
