/* The network of `mptvc.model.envelope` in the form that kernels take, and the logarithm that it counts in. */

#ifndef MPTVC_ENVELOPE_H
#define MPTVC_ENVELOPE_H

#include "kernels.h"

/* Integers in floating point; inner weights are by input, then by output, outer ones `[C / 32, hidden, 32]`. */
typedef struct {
    int64_t patch, channels;
    double least;
    const double *dct, *half_dct;
    const float *inner, *inner_bias, *outer, *outer_bias, *own, *shape_bias;
    const int64_t *frequency_of;
} EnvelopeNet;

/* Tokens that are looked at together. */
enum { TOGETHER = 8 };

/* Channels in the order of which a part is computed at once, and a set of all parts: one bit for each. */
enum { WIDE = 32 };
#define ALL_PARTS UINT32_MAX

/* The parts of each group, whose channels are at the places of the order from its start to the next one. */
INLINED void find_parts(const int64_t *starts, int64_t groups, uint32_t *parts_of) {
    for (int64_t g = 0; g < groups; g++) {
        parts_of[g] = 0;
        for (int64_t part = starts[g] / WIDE; part * WIDE < starts[g + 1]; part++) parts_of[g] |= 1u << part;
    }
}

/* Predicted luma of a token, its quantization step, whether it is quartered, and the parts that are asked for. */
typedef struct {
    const uint8_t *pixels;
    float step;
    int quartered;
    uint32_t parts;
} Token;

/* The token of a number, in luma of so many columns of tokens. */
INLINED Token token_at(const EnvelopeNet *net, const uint8_t *luma, int64_t columns, int64_t at, float step,
                       int quartered, uint32_t parts) {
    int64_t y = at / columns * net->patch, x = at % columns * net->patch;
    return (Token){luma + y * columns * net->patch + x, step, quartered, parts};
}

/* What is expected of up to `TOGETHER` tokens before each place of the order of channels `[count, channels + 1]`,
 * counted from the first part of those side by side that are asked for. */
void expect_tokens(const EnvelopeNet *net, const Token *tokens, int64_t count, int64_t stride, int32_t *below);

/* Where a number's eighths of an octave start in its bits, and those of 1. */
enum { EIGHTHS = 20, EXPONENT = 8 * 127 };

/* floor(8 log2) of numbers from 1 on, where the logarithm is linear between powers of two. */
INLINED int eighths(float value) {
    union {
        float number;
        int32_t bits;
    } stored = {value};
    return (stored.bits >> EIGHTHS) - EXPONENT;
}

#endif
