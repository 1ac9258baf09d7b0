"""How fast to plan: the more is going on, the longer what happens to each object is gathered.

What happens to one thing is news several times within a moment, its own status among them, and
whoever plans does so with all of it. So all plans together stay within a share of a core, however
many objects change, and a plan amid many tells of more.
"""

_LEAST, _MOST = 0.5, 2.0
_PER_OBJECT, _PER_SERVER = 0.01, 0.003
_HEARD, _HEARD_PER_OBJECT = 5.0, 0.03
_UNCONCERNED = 6


def rest(busy: int, servers: int) -> float:
    """Seconds that whoever has planned with so many servers rests before the next plan, where so
    many objects were planned for of late."""
    return max(_LEAST, _PER_SERVER * servers, min(_MOST, _PER_OBJECT * busy))


def hearsay(busy: int, *, concerned: bool = True) -> float:
    """Seconds within which it is soon enough to hear what models a server has, for those who did
    not pull them: there are many of them. It may be later for those whom the models do not concern
    but by the room they take."""
    return min(_HEARD, _HEARD_PER_OBJECT * busy) * (1 if concerned else _UNCONCERNED)
