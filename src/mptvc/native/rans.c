/* Steps of a rANS packet (see `mptvc.format.packet`): 64 bits of state, 32-bit words, 24-bit probabilities. */

#include "rans.h"
#include "kernels.h"
#include <stdlib.h>
#include <string.h>

enum { PRECISION = 24, ROWS = 256 };

/* Where the symbols of each row start in a step, where those of equal rows are together, each as given; returns the
 * number of rows up to the last one that there is. */
static int find_starts(const uint8_t *rows, int64_t count, int32_t *starts) {
    int32_t counts[2][ROWS]; /* of every other symbol, as a number cannot be read right after it is written */
    uint8_t last = 0;
    for (int64_t i = 0; i < count; i++) last = rows[i] > last ? rows[i] : last;
    memset(counts[0], 0, (last + 1u) * sizeof(int32_t)), memset(counts[1], 0, (last + 1u) * sizeof(int32_t));
    int64_t i = 0;
    for (; i + 1 < count; i += 2) counts[0][rows[i]]++, counts[1][rows[i + 1]]++;
    if (i < count) counts[0][rows[i]]++;
    starts[0] = 0;
    for (int row = 0; row <= last; row++) starts[row + 1] = starts[row] + counts[0][row] + counts[1][row];
    return last + 1;
}

int rans_decode(Decoder *decoder, const uint8_t *rows, int64_t count, const uint32_t *below, const uint8_t *first,
                int64_t alphabet, int16_t *out) {
    if (!count) return 0;
    int16_t *found = malloc((size_t)count * sizeof *found); /* row by row */
    if (!found) return 1;
    int32_t starts[ROWS + 1];
    int used = find_starts(rows, count, starts);
    uint64_t x = decoder->state;
    int64_t left = decoder->left;
    for (int row = 0; row < used; row++) {
        const uint32_t *mine = below + row * (alphabet + 1);
        const uint8_t *firsts = first + row * 256;
        for (int64_t i = starts[row]; i < starts[row + 1]; i++) {
            while (x >> 32 == 0 && left) x = x << 32 | decoder->words[--left];
            uint32_t quantile = x & ((1u << PRECISION) - 1);
            int64_t symbol = firsts[quantile >> (PRECISION - 8)];
            while (mine[symbol + 1] <= quantile) symbol++;
            x = (x >> PRECISION) * (mine[symbol + 1] - mine[symbol]) + quantile - mine[symbol];
            found[i] = (int16_t)(symbol - alphabet / 2);
        }
    }
    for (int64_t i = 0; i < count; i++) out[i] = found[starts[rows[i]]++];
    decoder->state = x, decoder->left = left;
    free(found);
    return 0;
}

int64_t rans_encode(uint64_t *state, const uint8_t *rows, const int16_t *symbols, int64_t count,
                           const uint32_t *below, int64_t alphabet, uint32_t *words) {
    int32_t *order = malloc((size_t)(count + 1) * sizeof *order), starts[ROWS + 1];
    if (!order) return -1;
    find_starts(rows, count, starts);
    for (int64_t i = 0; i < count; i++) order[starts[rows[i]]++] = (int32_t)i;
    uint64_t x = *state;
    int64_t written = 0;
    for (int64_t i = count; i-- > 0;) {
        const uint32_t *sums = below + rows[order[i]] * (alphabet + 1) + symbols[order[i]] + alphabet / 2;
        uint32_t frequency = sums[1] - sums[0];
        if (x >> (64 - PRECISION) >= frequency) words[written++] = (uint32_t)x, x >>= 32;
        x = (x / frequency) << PRECISION | (x % frequency + sums[0]);
    }
    *state = x;
    free(order);
    return written;
}
