/* Symbols of coded tokens to pixels: the same numbers as `mptvc.model.loop_model`, where they are explained.
 *
 * All are integers below 2^53 in double precision, so that no order of sums and no instruction set matters. */

#include "kernels.h"
#include <string.h>

enum { MOST = 16, LATENT_UNITS = 16 };
static const double LARGEST = 1 << 19, SUMS = 1.0 / (1 << 24), RESIDUALS = 1.0 / (1 << 19);

INLINED double restored(int symbol, double step) {
    double tenths = 10 * symbol + (symbol > 0) - (symbol < 0);
    double latent = rounded(tenths * step * (LATENT_UNITS / 10.0));
    return latent < -LARGEST ? -LARGEST : latent > LARGEST ? LARGEST : latent;
}

/* Whether any of symbols is not 0. */
INLINED int any(const int16_t *symbols, int64_t count) {
    int found = 0;
    for (int64_t i = 0; i < count; i++) found |= symbols[i];
    return found;
}

/* Sums over all frequencies of latents that lie `between` apart, rounded, to samples `stride` apart. */
INLINED void samples(const int16_t *symbols, int64_t rows, int64_t between, double step, const double *dct,
                           const int size, double *out, int64_t stride) {
    double along_x[MOST][MOST];
    int used[MOST] = {0};
    for (int u = 0; u < size; u++) {
        if (!any(symbols + u * rows, (size - 1) * between + 1)) continue;
        for (int v = 0; v < size; v++) {
            int symbol = symbols[u * rows + v * between];
            if (!symbol) continue;
            double latent = restored(symbol, step);
            if (!used[v])
                for (int x = 0; x < size; x++) along_x[v][x] = latent * dct[u * size + x];
            else
                for (int x = 0; x < size; x++) along_x[v][x] += latent * dct[u * size + x];
            used[v] = 1;
        }
    }
    for (int y = 0; y < size; y++) {
        double sums[MOST] = {0};
        for (int v = 0; v < size; v++)
            if (used[v])
                for (int x = 0; x < size; x++) sums[x] += dct[v * size + y] * along_x[v][x];
        for (int x = 0; x < size; x++) out[y * stride + x] = rounded(sums[x] * SUMS);
    }
}

/* Add shares of sums `[size, size]` of some components to pixels of a colour. */
INLINED void add(uint8_t *pixels, int64_t width, const double sums[3][MOST * MOST], const double *shares,
                 const int components, const int size) {
    for (int y = 0; y < size; y++, pixels += width) {
        int32_t whole[MOST];
        for (int x = 0; x < size; x++) {
            int i = y * size + x;
            double residual = shares[0] * sums[0][i];
            for (int d = 1; d < components; d++) residual += shares[d] * sums[d][i];
            whole[x] = (int32_t)rounded(pixels[x] + residual * RESIDUALS);
        }
        for (int x = 0; x < size; x++) pixels[x] = (uint8_t)(whole[x] < 0 ? 0 : whole[x] > 255 ? 255 : whole[x]);
    }
}

/* Add what the symbols of coded tokens stand for to some rows of tokens of a picture `[3, rows patch, columns patch]`.
 *
 * coded, quartered: of each token `[rows, columns]`.  values: symbols of the coded ones of these rows
 * `[n, 3 patch^2]`.
 * steps: of all tokens.  dct, half_dct, colours: exact matrices. */
CLONED EXPORT void reconstruct(uint8_t *picture, const uint8_t *coded, const uint8_t *quartered, const int16_t *values,
                               const float *steps, const double *dct, const double *half_dct, const double *colours,
                               int64_t rows, int64_t columns, int64_t patch, int64_t first,
                               int64_t last) {
    int64_t width = columns * patch, size = rows * patch * width, cells = patch * patch;
    int half = (int)patch / 2;
    for (int64_t at = first * columns; at < last * columns; at++) {
        if (!coded[at]) continue;
        for (int c = 0; c < 3; c++) /* which are needed once sums are there */
            for (int64_t y = 0; y < patch; y++)
                __builtin_prefetch(picture + c * size + (at / columns * patch + y) * width + at % columns * patch, 1);
        double sums[3][MOST * MOST];
        int has_colours = any(values + cells, 2 * cells) != 0; /* beside luma */
        for (int d = 0; d < 1 + 2 * has_colours; d++) {
            const int16_t *mine = values + d * cells;
            if (!any(mine, cells)) memset(sums[d], 0, (size_t)cells * sizeof *sums[d]);
            else if (!quartered[at]) SIZED(patch, samples(mine, SIZE, 1, steps[at], dct, SIZE, sums[d], SIZE));
            else
                for (int q = 0; q < 2; q++)
                    for (int r = 0; r < 2; r++) {
                        const int16_t *quarter = mine + q * patch + r;
                        double *out = sums[d] + r * half * patch + q * half;
                        SIZED(half, samples(quarter, 4 * SIZE, 2, steps[at], half_dct, SIZE, out, 2 * SIZE));
                    }
        }
        for (int c = 0; c < 3; c++) {
            uint8_t *start = picture + c * size + at / columns * patch * width + at % columns * patch;
            const double shares[3] = {colours[c], colours[3 + c], colours[6 + c]};
            const double(*all)[MOST * MOST] = (const double(*)[MOST * MOST])sums;
            if (has_colours) SIZED(patch, add(start, width, all, shares, 3, SIZE));
            else SIZED(patch, add(start, width, all, shares, 1, SIZE));
        }
        values += 3 * cells;
    }
}
