/* Steps of a rANS packet (see `mptvc.format.packet`): 64 bits of state, 32-bit words, 24-bit probabilities. */

#include "rans.h"
#include "kernels.h"
#include <stdlib.h>
#include <string.h>

enum { PRECISION = 24, ROWS = 256 };

/* Order of a step's symbols: those of equal rows together, each as given. */
static void sorted(const uint8_t *rows, int64_t count, int32_t *order) {
    int32_t starts[ROWS + 1] = {0};
    for (int64_t i = 0; i < count; i++) starts[rows[i] + 1]++;
    for (int row = 0; row < ROWS; row++) starts[row + 1] += starts[row];
    for (int64_t i = 0; i < count; i++) order[starts[rows[i]]++] = (int32_t)i;
}

int rans_decode(Decoder *decoder, const uint8_t *rows, int64_t count, const uint32_t *below, const uint8_t *first,
                int64_t alphabet, int16_t *out) {
    if (!count) return 0;
    int32_t *order = malloc((size_t)(count + 1) * sizeof *order);
    if (!order) return 1;
    sorted(rows, count, order);
    uint64_t x = decoder->state;
    int64_t left = decoder->left;
    for (int64_t i = 0; i < count; i++) {
        while (x >> 32 == 0 && left) x = x << 32 | decoder->words[--left];
        const uint32_t *sums = below + rows[order[i]] * (alphabet + 1);
        uint32_t quantile = x & ((1u << PRECISION) - 1);
        int64_t symbol = first[rows[order[i]] * 256 + (quantile >> (PRECISION - 8))];
        while (sums[symbol + 1] <= quantile) symbol++;
        x = (x >> PRECISION) * (sums[symbol + 1] - sums[symbol]) + quantile - sums[symbol];
        out[order[i]] = (int16_t)(symbol - alphabet / 2);
    }
    decoder->state = x, decoder->left = left;
    free(order);
    return 0;
}

int64_t rans_encode(uint64_t *state, const uint8_t *rows, const int16_t *symbols, int64_t count,
                           const uint32_t *below, int64_t alphabet, uint32_t *words) {
    int32_t *order = malloc((size_t)(count + 1) * sizeof *order);
    if (!order) return -1;
    sorted(rows, count, order);
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
