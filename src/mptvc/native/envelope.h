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

/* Predicted luma of a token, its quantization step, and whether it is quartered. */
typedef struct {
    const uint8_t *pixels;
    float step;
    int quartered;
} Token;

/* The token of a number, in luma of so many columns of tokens. */
INLINED Token token_at(const EnvelopeNet *net, const uint8_t *luma, int64_t columns, int64_t at, float step,
                       int quartered) {
    int64_t y = at / columns * net->patch, x = at % columns * net->patch;
    return (Token){luma + y * columns * net->patch + x, step, quartered};
}

/* What is expected of up to `TOGETHER` tokens before each place of the order of channels `[count, channels + 1]`. */
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
