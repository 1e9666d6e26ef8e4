"""The entropy coder against its definition in `reference_rans`."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_rans import read_packet

from mptvc.format.packet import PacketReader, PacketWriter, Tables
from mptvc.model.integer_network import ALPHABET, logistic_frequencies

TOTAL = 2**24
EMPTY = bytes(4)  # a packet without words: the check value of no rows
SKEWED = np.array([[1, TOTAL - 2, 1], [TOTAL - 2, 1, 1], [1, 1, TOTAL - 2]])
Step = tuple[np.ndarray, np.ndarray]


def random_frequencies(rng: np.random.Generator, rows: int, alphabet: int) -> np.ndarray:
    """Rows from flat to extremely peaked."""
    shares = rng.random((rows, alphabet)) ** rng.choice([1, 8, 64], (rows, 1))
    shares = np.floor(shares / shares.sum(1, keepdims=True) * (TOTAL - alphabet)).astype(np.int64) + 1
    shares[np.arange(rows), rng.integers(alphabet, size=rows)] += TOTAL - shares.sum(1)
    return shares


def random_steps(
    rng: np.random.Generator, frequencies: np.ndarray, lengths: list[int], *, likely: bool
) -> list[Step]:
    """Rows with symbols that are uniform, or drawn from the rows' own distributions."""
    rows, alphabet = frequencies.shape
    cumulative = frequencies.cumsum(1)
    steps = []
    for length in lengths:
        chosen = rng.integers(rows, size=length).astype(np.uint8)
        index = rng.integers(alphabet, size=length)
        if likely:
            for row in np.unique(chosen):
                mine = chosen == row
                quantiles = rng.integers(TOTAL, size=mine.sum())
                index[mine] = np.searchsorted(cumulative[row], quantiles, side="right")
        steps.append((chosen, (index - alphabet // 2).astype(np.int16)))
    return steps


def write(tables: Tables, steps: list[Step]) -> bytes:
    writer = PacketWriter(tables)
    for rows, symbols in steps:
        writer(rows, symbols)
    return writer.finish()


def check(frequencies: np.ndarray, steps: list[Step]) -> bytes:
    """Assert that the reader and the reference read what was written; return the packet."""
    tables = Tables(frequencies)
    packet = write(tables, steps)
    reader = PacketReader(tables, packet)
    for rows, symbols in steps:
        np.testing.assert_array_equal(reader(rows), symbols)
    reader.finish()
    expected = [symbols.tolist() for _, symbols in steps]
    assert list(read_packet(packet, frequencies.tolist(), [rows.tolist() for rows, _ in steps])) == expected
    return packet


@given(
    seed=st.integers(0, 2**32),
    rows=st.integers(1, 256),
    half=st.integers(1, 127),
    lengths=st.lists(st.integers(0, 40), max_size=6),
    likely=st.booleans(),
)
@settings(deadline=None, max_examples=60)
def test_reference_decoder_reads_what_was_written(
    seed: int, rows: int, half: int, lengths: list[int], likely: bool
) -> None:
    rng = np.random.default_rng(seed)
    frequencies = random_frequencies(rng, rows, 2 * half + 1)
    check(frequencies, random_steps(rng, frequencies, lengths, likely=likely))


@given(st.lists(st.lists(st.tuples(st.integers(0, 2), st.integers(-1, 1)), max_size=30), max_size=5))
@settings(deadline=None, max_examples=100)
def test_round_trip_of_any_symbols(pairs: list[list[tuple[int, int]]]) -> None:
    steps = []
    for step in pairs:
        table = np.array(step, dtype=np.int16).reshape(-1, 2)
        steps.append((table[:, 0].astype(np.uint8), table[:, 1]))
    check(SKEWED, steps)


def test_tables_of_the_entropy_model_are_coded_exactly() -> None:
    rng = np.random.default_rng(0)
    frequencies = logistic_frequencies(48).numpy().astype(np.int64)
    for likely in (True, False):
        check(frequencies, random_steps(rng, frequencies, [700, 0, 1, 300], likely=likely))


@pytest.mark.parametrize("peak", [0, 127, 254])
def test_every_symbol_of_frequency_one_survives(peak: int) -> None:
    frequencies = np.ones((1, 255), dtype=np.int64)
    frequencies[0, peak] += TOTAL - 255
    symbols = np.arange(-127, 128, dtype=np.int16)
    packet = check(frequencies, [(np.zeros(255, dtype=np.uint8), symbols)])
    assert len(packet) == 768  # the check value, and 254 symbols of 24 bits in whole words


def test_packet_of_three_rare_symbols_is_the_one_worked_out_by_hand() -> None:
    """Frequency 1 at the top of the row: every symbol puts 24 one bits below the state."""
    rows, symbols = np.zeros(3, dtype=np.uint8), np.ones(3, dtype=np.int16)
    packet = check(np.array([[1, TOTAL - 2, 1]]), [(rows, symbols)])
    assert packet == bytes.fromhex("12d941ff ff000000 ffffffff ffffffff")  # CRC-32 of three zero bytes first


def test_rows_may_depend_on_earlier_symbols() -> None:
    rng = np.random.default_rng(1)
    frequencies = random_frequencies(rng, 9, 7)
    tables = Tables(frequencies)

    def next_rows(seen: list[np.ndarray]) -> np.ndarray:
        return (np.abs(seen[-1]) + 3 * (len(seen) % 2)).astype(np.uint8) if seen else np.zeros(50, np.uint8)

    writer, written = PacketWriter(tables), []
    for _ in range(6):
        symbols = rng.integers(-3, 4, size=50).astype(np.int16)
        written.append(writer(next_rows(written), symbols))
    packet = writer.finish()

    reader, read = PacketReader(tables, packet), []
    for _ in range(6):
        read.append(reader(next_rows(read)))
    reader.finish()
    np.testing.assert_array_equal(read, written)

    defined: list[np.ndarray] = []
    steps = (next_rows(defined).tolist() for _ in range(6))
    defined.extend(np.array(symbols) for symbols in read_packet(packet, frequencies.tolist(), steps))
    np.testing.assert_array_equal(defined, written)


def test_writer_hands_back_the_symbols() -> None:
    symbols = np.array([1, -1, 0], dtype=np.int16)
    assert PacketWriter(Tables(SKEWED))(np.zeros(3, dtype=np.uint8), symbols) is symbols


@pytest.mark.parametrize("steps", [0, 1, 3])
def test_packet_without_symbols_has_no_words(steps: int) -> None:
    nothing = (np.zeros(0, dtype=np.uint8), np.zeros(0, dtype=np.int16))
    assert check(SKEWED, [nothing] * steps) == EMPTY


def test_symbols_of_the_reader_are_int16() -> None:
    rows = np.zeros(2, dtype=np.uint8)
    symbols = PacketReader(Tables(SKEWED), EMPTY)(rows)
    assert symbols.dtype == np.int16


@pytest.fixture
def packet() -> tuple[Tables, list[Step], bytes]:
    rng = np.random.default_rng(2)
    frequencies = random_frequencies(rng, 5, 31)
    tables, steps = Tables(frequencies), random_steps(rng, frequencies, [40, 40], likely=False)
    return tables, steps, write(tables, steps)


def read_all(tables: Tables, steps: list[Step], packet: bytes) -> None:
    reader = PacketReader(tables, packet)
    for rows, _ in steps:
        reader(rows)
    reader.finish()


def test_step_that_is_not_read_is_reported(packet: tuple[Tables, list[Step], bytes]) -> None:
    tables, steps, data = packet
    with pytest.raises(ValueError, match="words are left over"):
        read_all(tables, steps[:1], data)


@pytest.mark.parametrize("word", [b"\0\0\0\0", b"\1\0\0\0", b"\xff\xff\xff\xff"])
def test_word_too_many_is_reported(packet: tuple[Tables, list[Step], bytes], word: bytes) -> None:
    tables, steps, data = packet
    with pytest.raises(ValueError, match="words are left over"):
        read_all(tables, steps, data + word)


def test_word_too_few_is_reported(packet: tuple[Tables, list[Step], bytes]) -> None:
    tables, steps, data = packet
    with pytest.raises(ValueError, match="words are left over"):
        read_all(tables, steps, data[:-4])


def test_rows_that_are_not_the_encoders_are_reported() -> None:
    """Two rows with one distribution: the symbols and words agree, the rows do not."""
    frequencies = np.array([[1, TOTAL - 2, 1]] * 2)
    packet = check(frequencies, [(np.array([0, 0, 1], dtype=np.uint8), np.zeros(3, dtype=np.int16))])
    reader = PacketReader(Tables(frequencies), packet)
    reader(np.array([0, 1, 1], dtype=np.uint8))
    with pytest.raises(ValueError, match="rows or means are not the encoder's"):
        reader.finish()


def test_means_that_are_not_the_encoders_are_reported() -> None:
    """They shift what is decoded without any trace in the words."""
    rows, symbols = np.zeros(3, dtype=np.uint8), np.array([1, 0, -1], dtype=np.int16)
    means = np.array([5, -7, 0], dtype=np.int8)
    writer = PacketWriter(Tables(SKEWED))
    writer(rows, symbols, means)
    reader = PacketReader(Tables(SKEWED), writer.finish())
    np.testing.assert_array_equal(reader(rows, None, means), symbols)
    reader.finish()
    reader = PacketReader(Tables(SKEWED), writer.finish())
    reader(rows, None, means + np.int8(1))
    with pytest.raises(ValueError, match="means are not the encoder's"):
        reader.finish()


def test_no_bytes_are_no_packet() -> None:
    with pytest.raises(ValueError, match="found 0 bytes"):
        PacketReader(Tables(SKEWED), b"")


@pytest.mark.parametrize("extra", [1, 2, 3])
def test_packet_of_broken_words_is_refused(packet: tuple[Tables, list[Step], bytes], extra: int) -> None:
    tables, _, data = packet
    with pytest.raises(ValueError, match=f"found {len(data) + extra} bytes"):
        PacketReader(tables, data + bytes(extra))


@pytest.mark.parametrize("data", [bytes(8), bytes(12), bytes(8) + b"\1\0\0\0"])
def test_packet_that_starts_with_a_zero_word_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="never starts with a zero word"):
        PacketReader(Tables(SKEWED), data)


@pytest.mark.parametrize(
    "frequencies",
    [
        pytest.param([[TOTAL // 2, TOTAL // 2]], id="even alphabet"),
        pytest.param([0, TOTAL, 0], id="one dimension"),
        pytest.param(np.zeros((0, 3)), id="no rows"),
        pytest.param(np.full((1, 0), TOTAL), id="no symbols"),
        pytest.param(np.tile(SKEWED[:1], (257, 1)), id="257 rows"),
        pytest.param([[0, TOTAL, 0]], id="zero frequency"),
        pytest.param([[-1, TOTAL, 1]], id="negative frequency"),
        pytest.param([[1, TOTAL - 1, 1]], id="sum too large"),
        pytest.param([[1, TOTAL - 3, 1]], id="sum too small"),
        pytest.param([[1, TOTAL - 2, 1], [1, 1, 1]], id="second row"),
    ],
)
def test_bad_table_is_refused(frequencies: list) -> None:
    with pytest.raises(ValueError, match="frequenc"):
        Tables(np.array(frequencies))


def test_alphabet_whose_symbols_do_not_fit_a_byte_is_refused() -> None:
    """Otherwise symbols wrap around silently."""
    frequencies = np.ones((1, 257), dtype=np.int64)
    frequencies[0, 0] += TOTAL - 257
    with pytest.raises(ValueError, match="shape"):
        Tables(frequencies)


@pytest.mark.parametrize("symbol", [-2, 2, 127, -128, 1000])
def test_symbol_outside_the_table_is_refused(symbol: int) -> None:
    writer = PacketWriter(Tables(SKEWED))
    with pytest.raises(ValueError, match="outside the table"):
        writer(np.zeros(2, dtype=np.uint8), np.array([0, symbol], dtype=np.int16))


def test_row_outside_the_table_is_refused() -> None:
    tables, rows = Tables(SKEWED), np.array([0, 3], dtype=np.uint8)
    with pytest.raises(ValueError, match="outside the table"):
        PacketWriter(tables)(rows, np.zeros(2, dtype=np.int16))
    with pytest.raises(ValueError, match="outside the table"):
        PacketReader(tables, EMPTY)(rows)


@pytest.mark.parametrize("symbols", [None, np.zeros(2, dtype=np.int16), np.zeros((3, 1), dtype=np.int16)])
def test_writer_needs_one_symbol_per_row(symbols: np.ndarray | None) -> None:
    with pytest.raises(ValueError, match="one symbol per row"):
        PacketWriter(Tables(SKEWED))(np.zeros(3, dtype=np.uint8), symbols)


def test_packet_is_as_long_as_the_probabilities_say() -> None:
    rng = np.random.default_rng(3)
    frequencies = logistic_frequencies(48).numpy().astype(np.int64)
    steps = random_steps(rng, frequencies, [120_000, 79_999, 1], likely=True)
    estimate = sum(
        float((24 - np.log2(frequencies[rows, symbols + ALPHABET // 2])).sum()) for rows, symbols in steps
    )
    bits = 8 * len(write(Tables(frequencies), steps))
    assert abs(bits - estimate) <= 0.001 * estimate + 64
