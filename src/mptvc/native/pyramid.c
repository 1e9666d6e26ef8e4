/* Halving and doubling of pictures, the same integers as `mptvc.model.pyramid` makes; their luma and layout. */

#include "kernels.h"
#include <stdlib.h>

/* In 16 bits, which hold it: values are of -64 to 319. */
INLINED int16_t half_difference(int16_t a, int16_t b, int16_t c, int16_t d) {
    int16_t total = (int16_t)(22 * (c - b) - 3 * (d - a) + 64);
    return (int16_t)(total >> 7);
}

CLONED static void split_columns(const int16_t *row, int64_t width, uint8_t *out) {
    for (int64_t x = 0; x < width; x++) { /* two more cells at each side */
        int16_t half = half_difference(row[x], row[x + 1], row[x + 3], row[x + 4]);
        out[2 * x] = clipped((int16_t)(row[x + 2] - half));
        out[2 * x + 1] = clipped((int16_t)(row[x + 2] + half));
    }
}

/* A picture `[channels, 2 H, 2 W]` of one `[channels, H, W]`; 1 without memory. */
CLONED EXPORT int expand(const uint8_t *picture, int64_t channels, int64_t height, int64_t width, uint8_t *out) {
    int16_t *rows = malloc((size_t)(2 * (width + 4)) * sizeof *rows);
    if (!rows) return 1;
    int16_t *upper = rows + 2, *lower = rows + width + 6;
    for (int64_t c = 0; c < channels; c++)
        for (int64_t y = 0; y < height; y++) {
            const uint8_t *plane = picture + c * height * width, *near[5];
            for (int k = 0; k < 5; k++) near[k] = plane + clamped(y + k - 2, 0, height - 1) * width;
            for (int64_t x = 0; x < width; x++) {
                int16_t half = half_difference(near[0][x], near[1][x], near[3][x], near[4][x]);
                upper[x] = (int16_t)(near[2][x] - half);
                lower[x] = (int16_t)(near[2][x] + half);
            }
            for (int k = 0; k < 2; k++) {
                int16_t *row = k ? lower : upper;
                row[-2] = row[-1] = row[0], row[width] = row[width + 1] = row[width - 1];
                split_columns(row - 2, width, out + ((c * height + y) * 2 + k) * 2 * width);
            }
        }
    free(rows);
    return 0;
}

/* A picture `[channels, H, W]` of one `[channels, 2 H, 2 W]`. */
CLONED EXPORT void halve(const uint8_t *picture, int64_t channels, int64_t height, int64_t width, uint8_t *out) {
    for (int64_t y = 0; y < channels * height; y++, out += width) {
        const uint8_t *above = picture + 4 * y * width, *below = above + 2 * width;
        for (int64_t x = 0; x < width; x++)
            out[x] = (uint8_t)((above[2 * x] + above[2 * x + 1] + below[2 * x] + below[2 * x + 1] + 2) >> 2);
    }
}

INLINED int decimated(int a, int b, int c, int d) { return (60 * a + 11 * b - 10 * c + 3 * d + 64) >> 7; }

CLONED static void decimate_columns(const int16_t *row, int64_t width, uint8_t *out) {
    for (int64_t x = 0; x < width; x++, row += 2)
        out[x] = (uint8_t)clamped(decimated(row[0] + row[1], row[-1] + row[2], row[-2] + row[3], row[-4] + row[5]), 0, 255);
}

/* The same by a longer filter; 1 without memory. */
CLONED EXPORT int decimate(const uint8_t *picture, int64_t channels, int64_t height, int64_t width, uint8_t *out) {
    enum { REACH = 4 };
    int64_t length = 2 * width;
    int16_t *row = malloc((size_t)(length + 2 * REACH) * sizeof *row);
    if (!row) return 1;
    row += REACH;
    for (int64_t c = 0; c < channels; c++)
        for (int64_t y = 0; y < height; y++, out += width) {
            const uint8_t *plane = picture + c * 2 * height * length, *near[2 * REACH + 2];
            for (int k = 0; k < 2 * REACH + 2; k++)
                near[k] = plane + clamped(2 * y + k - REACH, 0, 2 * height - 1) * length;
            for (int64_t x = 0; x < length; x++)
                row[x] = (int16_t)decimated(near[4][x] + near[5][x], near[3][x] + near[6][x], near[2][x] + near[7][x],
                                            near[0][x] + near[9][x]);
            for (int k = 1; k <= REACH; k++) row[-k] = row[0], row[length + k - 1] = row[length - 1];
            decimate_columns(row, width, out);
        }
    free(row - REACH);
    return 0;
}

/* The mean of three colours, each of `size` pixels, rounded. */
CLONED EXPORT void luma(const uint8_t *picture, int64_t size, uint8_t *out) {
    const uint8_t *one = picture, *two = picture + size, *three = two + size;
    for (int64_t i = 0; i < size; i++) out[i] = (uint8_t)((one[i] + two[i] + three[i] + 1) * 21846 >> 16);
}

/* A frame `[height, width, 3]` as a picture `[3, rows, columns]` whose last row and column are repeated. */
CLONED EXPORT void separate(const uint8_t *frame, int64_t height, int64_t width, int64_t rows, int64_t columns,
                            uint8_t *picture) {
    for (int64_t y = 0; y < rows; y++) {
        const uint8_t *line = frame + clamped(y, 0, height - 1) * width * 3;
        uint8_t *one = picture + y * columns, *two = one + rows * columns, *three = two + rows * columns;
        for (int64_t x = 0; x < width; x++) one[x] = line[3 * x], two[x] = line[3 * x + 1], three[x] = line[3 * x + 2];
        for (int64_t x = width; x < columns; x++) one[x] = one[x - 1], two[x] = two[x - 1], three[x] = three[x - 1];
    }
}

/* The first rows and columns of a picture `[3, rows, columns]` as a frame `[height, width, 3]`. */
CLONED EXPORT void interleave(const uint8_t *picture, int64_t rows, int64_t columns, int64_t height, int64_t width,
                              uint8_t *frame) {
    for (int64_t y = 0; y < height; y++) {
        const uint8_t *one = picture + y * columns, *two = one + rows * columns, *three = two + rows * columns;
        for (int64_t x = 0; x < width; x++, frame += 3) frame[0] = one[x], frame[1] = two[x], frame[2] = three[x];
    }
}
