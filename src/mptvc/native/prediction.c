/* Motion compensation and prediction of whole pictures: the same integers as `mptvc.model.motion` and
 * `mptvc.model.prediction`, where they are explained. */

#include "blocks.h"
#include "kernels.h"
#include <stdlib.h>
#include <string.h>

/* In 16 bits, which hold it, as twice as many are computed at once. */
INLINED uint8_t six_taps(int16_t a, int16_t b, int16_t c, int16_t d, int16_t e, int16_t f) {
    int16_t total = (int16_t)(20 * (c + d) - 5 * (b + e) + a + f + 16);
    return clipped((int16_t)(total >> 5));
}

CLONED static void half_right(const uint8_t *x, int64_t count, uint8_t *out) {
    for (int64_t i = 0; i < count; i++) out[i] = six_taps(x[i], x[i + 1], x[i + 2], x[i + 3], x[i + 4], x[i + 5]);
}

CLONED static void half_below(const uint8_t *const row[6], int64_t count, uint8_t *out) {
    const uint8_t *a = row[0], *b = row[1], *c = row[2], *d = row[3], *e = row[4], *f = row[5];
    for (int64_t i = 0; i < count; i++) out[i] = six_taps(a[i], b[i], c[i], d[i], e[i], f[i]);
}

/* The extended row `[width + 2 side]` of a picture's row. */
static void extend(const uint8_t *row, int64_t width, int64_t side, uint8_t *out) {
    memset(out, row[0], (size_t)side);
    memcpy(out + side, row, (size_t)width);
    memset(out + side + width, row[width - 1], (size_t)side);
}

/* Whole pixels alone `[channels, H + 2 margin, W + 2 margin]` of a picture `[channels, H, W]`. */
EXPORT void extend_picture(const uint8_t *picture, int64_t channels, int64_t height, int64_t width, int64_t margin,
                           uint8_t *plane) {
    int64_t rows = height + 2 * margin, columns = width + 2 * margin;
    for (int64_t c = 0; c < channels; c++)
        for (int64_t y = 0; y < rows; y++) {
            int64_t from = clamped(y - margin, 0, height - 1);
            extend(picture + (c * height + from) * width, width, margin, plane + (c * rows + y) * columns);
        }
}

/* All planes `[4, channels, H + 2 margin, W + 2 margin]` of a picture `[channels, H, W]`; 1 without memory. */
EXPORT int interpolate(const uint8_t *picture, int64_t channels, int64_t height, int64_t width, int64_t margin,
                       uint8_t *planes) {
    int64_t rows = height + 2 * margin, columns = width + 2 * margin, size = rows * columns;
    uint8_t *wide = malloc((size_t)(columns + 6));
    if (!wide) return 1;
    for (int64_t c = 0; c < channels; c++) {
        uint8_t *whole = planes + c * size, *right = whole + channels * size;
        for (int64_t y = 0; y < rows; y++) {
            int64_t from = clamped(y - margin, 0, height - 1), to = y * columns;
            if (y > 0 && from == clamped(y - 1 - margin, 0, height - 1)) {
                memcpy(whole + to, whole + to - columns, (size_t)columns);
                memcpy(right + to, right + to - columns, (size_t)columns);
                continue;
            }
            extend(picture + (c * height + from) * width, width, margin + 3, wide);
            memcpy(whole + to, wide + 3, (size_t)columns);
            half_right(wide + 1, columns, right + to);
        }
        for (int both = 0; both < 2; both++) {
            const uint8_t *from = both ? right : whole;
            uint8_t *below = whole + (2 + both) * channels * size;
            for (int64_t y = 0; y < rows; y++) {
                const uint8_t *taps[6];
                for (int k = 0; k < 6; k++) taps[k] = from + clamped(y - 2 + k, 0, rows - 1) * columns;
                half_below(taps, columns, below + y * columns);
            }
        }
    }
    free(wide);
    return 0;
}

/* Fetch what a block's vector finds ahead, which no processor foresees. */
INLINED void foresee(const Reference *r, int64_t channels, int64_t top, int64_t left) {
    for (int64_t c = 0; c < channels; c++) {
        const uint8_t *from = half_window(r, c, top >> 1, left >> 1, BLOCK);
        for (int y = 0; y < BLOCK; y++) __builtin_prefetch(from + y * r->width + BLOCK - 1);
    }
}

/* Some rows of blocks of the prediction `[channels, H, W]` of a picture of `rows x columns` blocks.
 *
 * near, far: planes of the references; far and base are not read where no block needs them.
 * vectors, further: int64 `[2, rows, columns]` to near and far.  blends: uint8 `[rows, columns]`. */
CLONED EXPORT void predict(const uint8_t *near, const uint8_t *far, const uint8_t *base, const int64_t *vectors,
                           const int64_t *further, const uint8_t *blends, int64_t channels, int64_t rows,
                           int64_t columns, int64_t margin, uint8_t *out, int64_t first, int64_t last) {
    int64_t height = rows * BLOCK, width = columns * BLOCK;
    Reference one = {near, channels, height + 2 * margin, width + 2 * margin, margin}, two = one;
    two.planes = far;
    for (int64_t row = first; row < last; row++)
        for (int64_t column = 0; column < columns; column++) {
            int64_t at = row * columns + column;
            int blend = blends[at], uses_near = blend != BASE && blend != FAR;
            int uses_far = blend == BOTH || blend == FAR || blend == BOTH_OVERLAPPED || blend == BOTH_BASE;
            int smooth = (blend == OVERLAPPED || blend == BOTH_OVERLAPPED) && differs(vectors, rows, columns, row, column);
            if (column + 1 < columns) {
                int64_t top = row * BLOCK * 4, left = (column + 1) * BLOCK * 4, next = at + 1;
                foresee(&one, channels, top + vectors[next], left + vectors[rows * columns + next]);
                if (uses_far) foresee(&two, channels, top + further[next], left + further[rows * columns + next]);
            }
            for (int64_t c = 0; c < channels; c++) {
                uint8_t block[CELL], other[CELL];
                int64_t start = (c * height + row * BLOCK) * width + column * BLOCK;
                if (uses_near || uses_far)
                    for (int from_far = !uses_near; from_far <= uses_far; from_far++) {
                        const Reference *r = from_far ? &two : &one;
                        const int64_t *field = from_far ? further : vectors;
                        uint8_t *found = from_far && uses_near ? other : block;
                        int64_t top = row * BLOCK * 4 + field[at], left = column * BLOCK * 4 + field[rows * columns + at];
                        if (smooth) overlapped_block(r, c, field, rows, columns, row, column, found);
                        else window(r, c, top, left, BLOCK, found);
                    }
                if (uses_near && uses_far) average(block, other);
                if (blend == BASE || blend == NEAR_BASE || blend == BOTH_BASE) {
                    uint8_t *into = blend == BASE ? block : other;
                    for (int y = 0; y < BLOCK; y++) memcpy(into + y * BLOCK, base + start + y * width, BLOCK);
                    if (blend != BASE) average(block, other);
                }
                for (int y = 0; y < BLOCK; y++) memcpy(out + start + y * width, block + y * BLOCK, BLOCK);
            }
        }
}
