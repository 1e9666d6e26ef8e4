/* Smoothing of borders of coded tokens: the same integers as `mptvc.model.smoothing`, where it is explained. */

#include "kernels.h"
#include <stdlib.h>

INLINED uint8_t pixel(int x) { return (uint8_t)clamped(x, 0, 255); }

/* Smooth one line of pixels across a border; `next` is the distance from a pixel to the one behind it. */
INLINED void smooth_line(uint8_t *q, int64_t next, int most, int curved, int edge) {
    int p2 = q[-3 * next], p1 = q[-2 * next], p0 = q[-next], q0 = q[0], q1 = q[next], q2 = q[2 * next];
    int change = ((q0 - p0) * 9 - (q1 - p1) * 3 + 8) >> 4;
    int bend = abs(p2 - 2 * p1 + p0) + abs(q2 - 2 * q1 + q0);
    if (bend >= curved || abs(change) >= edge * most) return;
    int half = most >> 1;
    change = (int)clamped(change, -most, most);
    int beside_p = (int)clamped((((p2 + p0 + 1) >> 1) - p1 + change) >> 1, -half, half);
    int beside_q = (int)clamped((((q2 + q0 + 1) >> 1) - q1 - change) >> 1, -half, half);
    q[-2 * next] = pixel(p1 + beside_p);
    q[-next] = pixel(p0 + change);
    q[0] = pixel(q0 - change);
    q[next] = pixel(q1 + beside_q);
}

/* Smooth a picture `[channels, rows patch, columns patch]` in place.
 *
 * most, curved: int16 limits `[rows, columns - 1]` of the borders between columns, where most is 0 at borders
 * that are left alone; then the same `[rows - 1, columns]` of those between rows. */
EXPORT void smooth(uint8_t *picture, int64_t channels, int64_t rows, int64_t columns, int64_t patch, int edge,
                   const int16_t *most_across, const int16_t *curved_across, const int16_t *most_along,
                   const int16_t *curved_along) {
    int64_t width = columns * patch, size = rows * patch * width;
    for (int64_t c = 0; c < channels; c++) {
        uint8_t *plane = picture + c * size;
        for (int64_t row = 0; row < rows; row++)
            for (int64_t column = 1; column < columns; column++) {
                int64_t at = row * (columns - 1) + column - 1;
                if (!most_across[at]) continue;
                uint8_t *start = plane + row * patch * width + column * patch;
                for (int64_t y = 0; y < patch; y++)
                    smooth_line(start + y * width, 1, most_across[at], curved_across[at], edge);
            }
        for (int64_t row = 1; row < rows; row++)
            for (int64_t column = 0; column < columns; column++) {
                int64_t at = (row - 1) * columns + column;
                if (!most_along[at]) continue;
                uint8_t *start = plane + row * patch * width + column * patch;
                for (int64_t x = 0; x < patch; x++)
                    smooth_line(start + x, width, most_along[at], curved_along[at], edge);
            }
    }
}
