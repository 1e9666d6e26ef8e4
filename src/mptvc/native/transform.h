/* The DCT in numbers of type `NUMBER`: float for what an encoder compares, double for integers below 2^53. */

#ifndef MPTVC_TRANSFORM_H
#define MPTVC_TRANSFORM_H

#include "kernels.h"
#include <string.h>

enum { MOST = 16, LANES = 32 / sizeof(NUMBER) };

/* Compilers keep sums of this type in registers, which they do not with arrays. */
typedef NUMBER Lanes __attribute__((vector_size(32)));

INLINED Lanes load(const NUMBER *from) {
    Lanes found;
    memcpy(&found, from, sizeof found);
    return found;
}

/* The transform along y of every `points` rows of `[size, size]`.
 *
 * Half of the products, as frequencies are even or odd about the middle. */
INLINED void along_y(const NUMBER *from, const NUMBER *dct, const int points, const int size, NUMBER *out) {
    for (int top = 0; top < size; top += points)
        for (int x = 0; x < size; x += LANES) {
            Lanes folded[2][MOST / 2];
            for (int y = 0; y < points / 2; y++) {
                Lanes above = load(from + (top + y) * size + x);
                Lanes below = load(from + (top + points - 1 - y) * size + x);
                folded[0][y] = above + below, folded[1][y] = above - below;
            }
            for (int k = 0; k < points; k++) {
                Lanes sum = dct[k * points] * folded[k & 1][0];
                for (int y = 1; y < points / 2; y++) sum += dct[k * points + y] * folded[k & 1][y];
                memcpy(out + (top + k) * size + x, &sum, sizeof sum);
            }
        }
}

/* The transforms of all parts `[points, points]` of pixels `[size, size]`, side by side as the parts are, x first. */
INLINED void frequencies(const NUMBER *pixels, const NUMBER *dct, const int points, const int size, NUMBER *out) {
    NUMBER once[MOST * MOST], transposed[MOST * MOST];
    along_y(pixels, dct, points, size, once);
    for (int x = 0; x < size; x++)
        for (int y = 0; y < size; y++) transposed[x * size + y] = once[y * size + x];
    along_y(transposed, dct, points, size, out);
}

/* Frequencies `[x, y]` of a token `[patch, patch]`, or of its quarters, which lie between each other. */
INLINED void token_frequencies(const NUMBER *pixels, const NUMBER *dct, const NUMBER *half_dct, int quartered,
                               const int patch, NUMBER *out) {
    const int half = patch / 2;
    NUMBER quarters[MOST * MOST];
    if (!quartered) {
        frequencies(pixels, dct, patch, patch, out);
        return;
    }
    frequencies(pixels, half_dct, half, patch, quarters);
    for (int x = 0; x < patch; x++)
        for (int y = 0; y < patch; y++)
            out[(x % half * 2 + x / half) * patch + y % half * 2 + y / half] = quarters[x * patch + y];
}

#endif
