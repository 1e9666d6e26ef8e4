/* Steps of a rANS packet (see `mptvc.format.packet`). */

#ifndef MPTVC_RANS_H
#define MPTVC_RANS_H

#include "kernels.h"

/* What is not decoded yet of a packet: the state, and so many words, of which the last is next. */
typedef struct {
    uint64_t state;
    int64_t left;
    const uint32_t *words;
} Decoder;

/* Decode the symbols of a step; 1 without memory.
 *
 * below: sums of frequencies before each symbol `[rows, alphabet + 1]`.
 * first: for each row and the upper 8 of a quantile's 24 bits, a symbol that is not too large, `[rows, 256]`.
 * out: symbols, counted from the middle of the alphabet. */
EXPORT int rans_decode(Decoder *decoder, const uint8_t *rows, int64_t count, const uint32_t *below,
                       const uint8_t *first, int64_t alphabet, int16_t *out);

/* Encode the symbols of a step, the last one first; returns the number of words written, -1 without memory.
 *
 * words: room for as many as there are symbols. */
int64_t rans_encode(uint64_t *state, const uint8_t *rows, const int16_t *symbols, int64_t count, const uint32_t *below,
                    int64_t alphabet, uint32_t *words);

#endif
