"""Steps of an entropy model: what walks through one hands integers over, to be recorded or read."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from mptvc.model.integer_network import integer_frequencies

#: Values of a digit of numbers that are all as likely, of which a number has two.
DIGIT = 128
#: Numbers are below this.
NUMBERS = DIGIT**2

#: Turns ``(rows uint8 [n], integers int16 [n] or None, number of a table)`` into the integers: an encoder
#: records what it is given, a decoder reads. They are counted from the middle of the table's alphabet.
Exchange = Callable[[np.ndarray, np.ndarray | None, int], np.ndarray]


def even_frequencies() -> Tensor:
    """The table of digits, int32 ``[1, alphabet]``."""
    return integer_frequencies(np.ones((1, DIGIT + 1)))


def exchanged(exchange: Exchange, rows: Tensor, given: Tensor | None, table: int) -> Tensor:
    """Hand one step to whoever codes it, and return its integers, int64 ``[n]``."""
    integers = None if given is None else given.to(torch.int16).cpu().numpy()
    read = exchange(rows.to(torch.uint8).cpu().numpy(), integers, table)
    return torch.from_numpy(read).to(rows.device).long()


def exchanged_numbers(exchange: Exchange, count: int, given: Tensor | None, table: int) -> Tensor:
    """Hand over so many numbers below ``NUMBERS``, in two digits of the table of digits, int64 ``[n]``."""
    rows = torch.zeros(count, dtype=torch.uint8)
    digits = (None, None) if given is None else (given // DIGIT, given % DIGIT)
    high, low = (
        exchanged(exchange, rows, None if digit is None else digit - DIGIT // 2, table) + DIGIT // 2
        for digit in digits
    )
    return high * DIGIT + low
