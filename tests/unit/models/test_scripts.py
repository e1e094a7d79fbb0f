"""Operations as scripts: the very numbers of the function, and no script of what goes by more than operations."""

import math
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from gradserve_server.models.failure import lacks_memory
from gradserve_server.models.kernels import through_rectifier
from gradserve_server.models.scripts import Scripts, lying

TIMES = 6
"""How often each is done: by itself, with a look, and then by a script, which torch rewrites once it has run."""

WEIGHT = torch.randn(4, 3, 3, 3, generator=torch.Generator().manual_seed(0))


def noise(*size: int, seed: int = 1) -> Tensor:
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed))


def images(seed: int = 1, count: int = 2) -> Tensor:
    return noise(count, 3, 9, 8, seed=seed).contiguous(memory_format=torch.channels_last)


def in_places(rows: Tensor) -> list[Tensor]:
    blocks = rows.permute(0, 2, 3, 1).reshape(2, -1, 3)
    return [F.pad(blocks[:, 1:], (0, 0, 1, 1)), blocks.transpose(1, 2).contiguous()]


def written_over(rows: Tensor) -> list[Tensor]:
    rectified = rows.relu()
    arriving = rows * 2
    passed = through_rectifier(arriving, rectified, 1.5, in_place=True)
    return [passed.add_(rectified), through_rectifier(passed, rectified, math.inf), rectified]


def of_several(rows: Tensor) -> list[Tensor]:
    values, places = torch.ops.aten.max_pool2d_with_indices(rows, [2, 2], [2, 2])
    options = ([2, 2], [1, 1], [1, 1], False, [0, 0], 1, [True, False, False])
    arriving = F.conv2d(rows, WEIGHT, stride=2, padding=1)
    gradient, _, _ = torch.ops.aten.convolution_backward(arriving, rows, WEIGHT, None, *options)
    return [values, places, gradient, torch.cat([rows, gradient])]


def what_is_given(rows: Tensor) -> list[Tensor]:
    return [rows, rows]


FUNCTIONS: dict[str, Callable[[Tensor], list[Tensor]]] = {
    function.__name__: function for function in (in_places, written_over, of_several, what_is_given)
}


class Asked:
    """A function for `Scripts`, with how often it was called."""

    def __init__(self, function: Callable[..., Sequence[Tensor]]) -> None:
        self.function = function
        self.count = 0

    def __call__(self, *given: Tensor) -> tuple[Sequence[Tensor], Any]:
        self.count += 1
        return self.function(*given), "known"


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_script_does_the_very_same(name: str) -> None:
    asked, scripts = Asked(FUNCTIONS[name]), Scripts()
    for seed in range(TIMES):
        rows = images(seed)
        found, known = scripts(asked, [rows], lying([rows]))
        expected = FUNCTIONS[name](images(seed))
        assert known == "known"
        assert len(found) == len(expected)
        for mine, theirs in zip(found, expected, strict=True):
            assert torch.equal(mine, theirs)
            assert mine.stride() == theirs.stride()
    assert asked.count == 2


def test_what_else_is_read_is_read_anew() -> None:
    weight = noise(5, 5)
    asked, scripts = Asked(lambda rows: [rows @ weight]), Scripts()
    for seed in range(TIMES):
        weight.copy_(noise(5, 5, seed=seed + 50))
        rows = noise(2, 5, seed=seed)
        ((found,), _) = scripts(asked, [rows], lying([rows]))
        assert torch.equal(found, rows @ weight)
    assert asked.count == 2


def test_parts_of_one_weight_may_be_read_and_returned() -> None:
    weight = noise(6, 5)
    first, second = weight.split(3)
    asked, scripts = Asked(lambda rows: [rows @ first.T, rows @ second.T, second]), Scripts()
    for seed in range(TIMES):
        rows = noise(2, 5, seed=seed)
        found, _ = scripts(asked, [rows], lying([rows]))
        for mine, theirs in zip(found, (rows @ first.T, rows @ second.T, second), strict=True):
            assert torch.equal(mine, theirs)
    assert asked.count == 2


def test_a_script_is_for_tensors_that_lie_alike() -> None:
    # Of one that lies row by row it is a view, of the other a copy.
    asked, scripts = Asked(lambda rows: [rows.reshape(2, -1) + 1]), Scripts()
    for seed in range(TIMES):
        for rows in (images(seed), images(seed).contiguous(), images(seed, count=4)):
            ((found,), _) = scripts(asked, [rows], lying([rows]))
            assert torch.equal(found, rows.reshape(2, -1) + 1)
    assert asked.count == 2 * 3


def test_a_script_is_for_as_many_threads_as_wrote_it() -> None:
    asked, scripts = Asked(lambda rows: [rows.relu()]), Scripts()
    before = torch.get_num_threads()
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            for _ in range(TIMES):
                scripts(asked, [images()], "key")
    finally:
        torch.set_num_threads(before)
    assert asked.count == 2 * 2


def by_a_number(rows: Tensor) -> list[Tensor]:
    return [rows.relu() if rows.sum().item() > 0 else -rows]


def another_view(rows: Tensor) -> list[Tensor]:
    return [torch.from_numpy(rows.detach().numpy()).relu()]


def by_a_type(rows: Tensor) -> list[Tensor]:
    return [rows.to(torch.float64) + 1]


def with_a_truth(rows: Tensor) -> list[Tensor]:
    return [rows + True]


def with_no_number(rows: Tensor) -> list[Tensor]:
    return [rows.masked_fill(rows < 0, math.nan).nan_to_num(3.0)]


@pytest.mark.parametrize("function", [by_a_number, another_view, by_a_type, with_a_truth, with_no_number])
def test_there_is_no_script_of_what_goes_by_more_than_operations(function: Callable[[Tensor], list[Tensor]]) -> None:
    asked, scripts = Asked(function), Scripts()
    for seed in range(TIMES):
        rows = images(seed)
        ((found,), _) = scripts(asked, [rows], lying([rows]))
        assert torch.equal(found, function(images(seed))[0])
    assert asked.count == TIMES


def test_without_torchs_functions_there_is_no_script(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch._C, "parse_ir")
    asked, scripts = Asked(lambda rows: [rows.relu()]), Scripts()
    for seed in range(TIMES):
        ((found,), _) = scripts(asked, [images(seed)], "key")
        assert torch.equal(found, images(seed).relu())
    assert asked.count == TIMES


def test_a_first_time_that_fails_is_none() -> None:
    """Weights may not have been laid out, which no script should do again."""
    failing = [True, False, True]

    def function(rows: Tensor) -> list[Tensor]:
        if failing.pop(0) if failing else False:
            raise MemoryError
        return [rows.relu()]

    asked, scripts, rows = Asked(function), Scripts(), images()
    for fails in (True, False, True, False, False, False):
        if fails:
            with pytest.raises(MemoryError):
                scripts(asked, [rows], "key")
        else:
            assert torch.equal(scripts(asked, [rows], "key")[0][0], rows.relu())
    # The second, fourth: one by itself, one with a look.
    assert asked.count == 4


def test_writing_holds_nothing_that_is_not_read_any_more() -> None:
    alive: list[int] = []

    def function(rows: Tensor) -> list[Tensor]:
        seen = []
        for _ in range(4):
            rows = rows.relu() + 1
            seen.append(weakref.ref(rows))
        alive.append(sum(one() is not None for one in seen))
        return [rows]

    scripts, asked = Scripts(), Asked(function)
    for seed in range(TIMES):
        ((found,), _) = scripts(asked, [images(seed)], "key")
        assert torch.equal(found, function(images(seed))[0])
    assert asked.count == 2
    assert set(alive) == {1}


def test_want_of_memory_in_a_script_is_known_as_such() -> None:
    # As large as its values say, which is not what a script is for: only so is it too large the third time alone.
    wide = noise(1, 1)
    scripts = Scripts()

    def widened(rows: Tensor) -> tuple[Sequence[Tensor], Any]:
        return [rows.repeat_interleave(times, output_size=int(times.sum()) if few else 1 << 50)], None

    few, times = True, torch.tensor([1])
    for _ in range(2):
        scripts(widened, [wide], "key")
    with pytest.raises(RuntimeError) as raised:
        times.fill_(1 << 50)
        scripts(widened, [wide], "key")
    assert lacks_memory(raised.value)
