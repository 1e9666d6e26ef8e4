/* The DCT in single precision, for what an encoder compares. */

#ifndef MPTVC_TRANSFORM_H
#define MPTVC_TRANSFORM_H

#include "kernels.h"
#include <string.h>

enum { MOST = 16, LANES = 8 };

/* Compilers keep sums of this type in registers, which they do not with arrays. */
typedef float Lanes __attribute__((vector_size(LANES * sizeof(float))));

INLINED Lanes load(const float *from) {
    Lanes found;
    memcpy(&found, from, sizeof found);
    return found;
}

/* The transform along y of every `points` rows of `[size, size]`, these `stride` apart, to `[size, size]`.
 *
 * Half of the products, as frequencies are even or odd about the middle. */
INLINED void along_y(const float *from, int64_t stride, const float *dct, const int points, const int size,
                     float *out) {
    for (int top = 0; top < size; top += points)
        for (int x = 0; x < size; x += LANES) {
            Lanes folded[2][MOST / 2];
            for (int y = 0; y < points / 2; y++) {
                Lanes above = load(from + (top + y) * stride + x);
                Lanes below = load(from + (top + points - 1 - y) * stride + x);
                folded[0][y] = above + below, folded[1][y] = above - below;
            }
            for (int k = 0; k < points; k++) {
                Lanes sum = dct[k * points] * folded[k & 1][0];
                for (int y = 1; y < points / 2; y++) sum += dct[k * points + y] * folded[k & 1][y];
                memcpy(out + (top + k) * size + x, &sum, sizeof sum);
            }
        }
}

/* The transforms of all parts `[points, points]` of pixels `[size, size]`, rows `stride` apart, side by side as the
 * parts are, each as frequencies `[x, y]`: `[size, size]`, the parts' x first too. */
INLINED void frequencies(const float *pixels, int64_t stride, const float *dct, const int points, const int size,
                         float *out) {
    float once[MOST * MOST], transposed[MOST * MOST];
    along_y(pixels, stride, dct, points, size, once);
    for (int x = 0; x < size; x++)
        for (int y = 0; y < size; y++) transposed[x * size + y] = once[y * size + x];
    along_y(transposed, size, dct, points, size, out);
}

#endif
