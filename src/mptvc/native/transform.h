/* The DCT in single precision, for what an encoder compares. */

#ifndef MPTVC_TRANSFORM_H
#define MPTVC_TRANSFORM_H

#include "kernels.h"

enum { MOST = 16 };

/* The transform of pixels `[size, size]`, rows `stride` apart, times `scale`, to frequencies `[x, y]`, `apart` and
 * `next` apart. */
INLINED void frequencies(const float *pixels, int64_t stride, const float *dct, const int size, float scale,
                               float *out, int64_t apart, int64_t next) {
    float along_y[MOST][MOST], transposed[MOST][MOST];
    for (int k = 0; k < size; k++) {
        float sums[MOST] = {0};
        for (int y = 0; y < size; y++)
            for (int x = 0; x < size; x++) sums[x] += dct[k * size + y] * pixels[y * stride + x];
        for (int x = 0; x < size; x++) along_y[k][x] = sums[x];
    }
    for (int k = 0; k < size; k++)
        for (int x = 0; x < size; x++) transposed[x][k] = along_y[k][x];
    for (int k = 0; k < size; k++) {
        float sums[MOST] = {0};
        for (int x = 0; x < size; x++)
            for (int l = 0; l < size; l++) sums[l] += dct[k * size + x] * transposed[x][l];
        for (int l = 0; l < size; l++) out[k * apart + l * next] = sums[l] * scale;
    }
}

#endif
