/* Smoothing of borders of coded tokens: the same integers as `mptvc.model.smoothing`, where it is explained. */

#include "kernels.h"
#include <stdlib.h>

enum { SIDE = 16 };

INLINED int16_t magnitude(int16_t x) { return x < 0 ? (int16_t)-x : x; }

/* Smooth the lines of pixels across a border, all at once; `across` is the distance from a pixel to the one behind it,
 * `along` that from a line to the next. */
INLINED void smooth_border(uint8_t *behind, int64_t across, int64_t along, int16_t most, int16_t curved, int16_t edge,
                           const int size) {
    int16_t line[6][SIDE], half = (int16_t)(most >> 1);
    uint8_t out[4][SIDE];
    for (int k = 0; k < 6; k++)
        for (int i = 0; i < size; i++) line[k][i] = behind[(k - 3) * across + i * along];
    for (int i = 0; i < size; i++) {
        int16_t p2 = line[0][i], p1 = line[1][i], p0 = line[2][i], q0 = line[3][i], q1 = line[4][i], q2 = line[5][i];
        int16_t change = (int16_t)((int16_t)((q0 - p0) * 9 - (q1 - p1) * 3 + 8) >> 4);
        int16_t bend = (int16_t)(magnitude((int16_t)(p2 - 2 * p1 + p0)) + magnitude((int16_t)(q2 - 2 * q1 + q0)));
        int16_t applies = (int16_t)-((bend < curved) & (magnitude(change) < edge));
        change = within(change, (int16_t)-most, most);
        int16_t beside_p = (int16_t)((int16_t)(((p2 + p0 + 1) >> 1) - p1 + change) >> 1);
        int16_t beside_q = (int16_t)((int16_t)(((q2 + q0 + 1) >> 1) - q1 - change) >> 1);
        out[0][i] = clipped((int16_t)(p1 + (within(beside_p, (int16_t)-half, half) & applies)));
        out[1][i] = clipped((int16_t)(p0 + (change & applies)));
        out[2][i] = clipped((int16_t)(q0 - (change & applies)));
        out[3][i] = clipped((int16_t)(q1 + (within(beside_q, (int16_t)-half, half) & applies)));
    }
    for (int k = 0; k < 4; k++)
        for (int i = 0; i < size; i++) behind[(k - 2) * across + i * along] = out[k][i];
}

/* Smooth a picture `[channels, rows patch, columns patch]` in place.
 *
 * most, curved: int16 limits `[rows, columns - 1]` of the borders between columns, where most is 0 at borders
 * that are left alone; then the same `[rows - 1, columns]` of those between rows. */
CLONED EXPORT void smooth(uint8_t *picture, int64_t channels, int64_t rows, int64_t columns, int64_t patch, int edge,
                          const int16_t *most_across, const int16_t *curved_across, const int16_t *most_along,
                          const int16_t *curved_along) {
    int64_t width = columns * patch, size = rows * patch * width;
    for (int64_t c = 0; c < channels; c++) {
        uint8_t *plane = picture + c * size;
        for (int64_t row = 0; row < rows; row++)
            for (int64_t column = 1; column < columns; column++) {
                int64_t at = row * (columns - 1) + column - 1;
                int16_t most = most_across[at], curved = curved_across[at], far = (int16_t)(edge * most);
                uint8_t *start = plane + row * patch * width + column * patch;
                if (most) TOKEN_SIZED(patch, smooth_border(start, 1, width, most, curved, far, SIZE));
            }
        for (int64_t row = 1; row < rows; row++)
            for (int64_t column = 0; column < columns; column++) {
                int64_t at = (row - 1) * columns + column;
                int16_t most = most_along[at], curved = curved_along[at], far = (int16_t)(edge * most);
                uint8_t *start = plane + row * patch * width + column * patch;
                if (most) TOKEN_SIZED(patch, smooth_border(start, width, 1, most, curved, far, SIZE));
            }
    }
}
