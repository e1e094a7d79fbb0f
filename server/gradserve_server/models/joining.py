"""Which sums and rectifiers the convolution before them does.

By themselves each reads what has just been written, and writes it again: in the wide layers of a ResNet a sum and its
rectifier take as long as the convolution. Where a network rectifies by one module everywhere, as torchvision's ResNets
do, only the calls say which convolution it follows.
"""

from collections import Counter
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from math import inf

from gradserve_server.models.links import Adding, Call, Convolving, Rectifying


def joined(calls: Sequence[Call], kept: AbstractSet[int]) -> list[Call]:
    """Returns calls in which convolutions do the sums and rectifiers that alone read what they return.

    Args:
        calls: Those of a chain.
        kept: Places that others read.
    """
    readers = Counter(place for call in calls for place in call.inputs)
    found: dict[int, Call] = {}

    def done_before(call: Call) -> Call:
        # The later one has just been called: the input of an earlier one would have to be kept until now.
        for place in sorted(call.inputs, reverse=True):
            before = found.get(place)
            if before is not None and readers[place] == 1 and place not in kept:
                link = _and(before.link, call.link)
                if link is not None:
                    del found[place]
                    others = tuple(other for other in call.inputs if other != place)
                    return Call(link, before.inputs + others, call.output)
        return call

    for call in calls:
        found[call.output] = done_before(call)
    return list(found.values())


def _and(before: object, link: object) -> Convolving | None:
    """Returns a link that does what one does, and what another does with its output; None where none does."""
    if not isinstance(before, Convolving) or before.ceiling is not None:
        return None
    match link:
        case Adding() if not before.adds:
            return replace(before, adds=True)
        # OneDNN makes 0 of what is no number, and nobody would know.
        case Rectifying(ceiling, finite=True) if not before.adds or ceiling == inf:
            return replace(before, ceiling=ceiling)
    return None
