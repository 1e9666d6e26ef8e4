/* Blocks that vectors find in a picture: the same integers as `mptvc.model.motion`, where they are explained. */

#ifndef MPTVC_BLOCKS_H
#define MPTVC_BLOCKS_H

#include "kernels.h"
#include <string.h>

enum { BLOCK = 16, HALF = BLOCK / 2, CELL = BLOCK * BLOCK };
enum { NEAR, BOTH, OVERLAPPED, NEAR_BASE, FAR, BOTH_OVERLAPPED, BOTH_BASE, BASE };

/* Samples at whole pixels, half a pixel right, half below and both, of a picture extended by a margin. */
typedef struct {
    const uint8_t *planes;
    int64_t channels, height, width, margin;
} Reference;

/* Where a window of so many pixels starts that is at these half pixels of the picture. */
INLINED const uint8_t *half_window(const Reference *r, int64_t channel, int64_t top, int64_t left, int size) {
    int64_t y = clamped((top >> 1) + r->margin, 0, r->height - size);
    int64_t x = clamped((left >> 1) + r->margin, 0, r->width - size);
    int64_t plane = 2 * (top & 1) + (left & 1);
    return r->planes + ((plane * r->channels + channel) * r->height + y) * r->width + x;
}

/* A window at quarter pixels, its rows `size` apart. */
INLINED void window(const Reference *r, int64_t channel, int64_t top, int64_t left, const int size,
                          uint8_t *out) {
    const uint8_t *one = half_window(r, channel, top >> 1, left >> 1, size);
    if (!((top | left) & 1)) {
        for (int y = 0; y < size; y++) memcpy(out + y * size, one + y * r->width, (size_t)size);
        return;
    }
    const uint8_t *two = half_window(r, channel, (top + 1) >> 1, (left + 1) >> 1, size);
    for (int y = 0; y < size; y++)
        for (int x = 0; x < size; x++)
            out[y * size + x] = (uint8_t)((one[y * r->width + x] + two[y * r->width + x] + 1) >> 1);
}

INLINED int16_t mixed(int16_t own, int16_t other, int16_t weight) {
    int16_t total = (int16_t)(own * weight + other * (2 * BLOCK - weight) + BLOCK);
    return (int16_t)(total >> 5);
}

/* A block of which each pixel is a mean over its four nearest blocks' vectors. */
INLINED void overlapped_block(const Reference *r, int64_t channel, const int64_t *vectors, int64_t rows,
                                    int64_t columns, int64_t row, int64_t column, uint8_t *out) {
    const int64_t *dy = vectors, *dx = vectors + rows * columns;
    for (int i = 0; i < 2; i++)
        for (int j = 0; j < 2; j++) {
            uint8_t found[4][HALF * HALF];
            int64_t above = clamped(row + 2 * i - 1, 0, rows - 1), beside = clamped(column + 2 * j - 1, 0, columns - 1);
            for (int k = 0; k < 4; k++) {
                int64_t at = (k < 2 ? row : above) * columns + (k & 1 ? beside : column);
                int64_t top = (row * BLOCK + i * HALF) * 4 + dy[at], left = (column * BLOCK + j * HALF) * 4 + dx[at];
                window(r, channel, top, left, HALF, found[k]);
            }
            for (int y = 0; y < HALF; y++) {
                int16_t along_y = (int16_t)(2 * (i ? HALF - 1 - y : y) + 1 + BLOCK);
                uint8_t *line = out + (i * HALF + y) * BLOCK + j * HALF;
                for (int x = 0; x < HALF; x++) {
                    int16_t along_x = (int16_t)(2 * (j ? HALF - 1 - x : x) + 1 + BLOCK);
                    int at = y * HALF + x;
                    int16_t one = mixed(found[0][at], found[1][at], along_x);
                    int16_t other = mixed(found[2][at], found[3][at], along_x);
                    line[x] = (uint8_t)mixed(one, other, along_y);
                }
            }
        }
}

/* Whether a block beside or cornering on one has another vector. */
INLINED int differs(const int64_t *vectors, int64_t rows, int64_t columns, int64_t row, int64_t column) {
    const int64_t *dy = vectors, *dx = vectors + rows * columns;
    int64_t own = row * columns + column;
    for (int64_t y = row > 0 ? row - 1 : 0; y <= row + 1 && y < rows; y++)
        for (int64_t x = column > 0 ? column - 1 : 0; x <= column + 1 && x < columns; x++)
            if (dy[y * columns + x] != dy[own] || dx[y * columns + x] != dx[own]) return 1;
    return 0;
}

INLINED void average(uint8_t *into, const uint8_t *other) {
    for (int i = 0; i < CELL; i++) into[i] = (uint8_t)((into[i] + other[i] + 1) >> 1);
}

#endif
