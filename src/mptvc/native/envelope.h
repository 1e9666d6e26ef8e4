/* The network of `mptvc.model.envelope` in the form that kernels take, and the logarithm that it counts in. */

#ifndef MPTVC_ENVELOPE_H
#define MPTVC_ENVELOPE_H

#include <stdint.h>

/* Integers in floating point; weights are by input, then by output. */
typedef struct {
    int64_t patch, channels;
    double least;
    const double *dct, *half_dct;
    const float *inner, *inner_bias, *outer, *outer_bias, *own, *shape_bias;
    const int64_t *frequency_of;
} EnvelopeNet;

/* floor(8 log2) of numbers from 1 on, where the logarithm is linear between powers of two. */
static inline int eighths(float value) {
    union {
        float number;
        int32_t bits;
    } stored = {value};
    return (stored.bits >> 20) - 8 * 127;
}

#endif
