/* The walk through fineness of a key's blocks: the steps of `mptvc.model.fineness`, where they are explained. */

#include "walk.h"
#include <stdlib.h>

enum { FINEST = 3, VALUES = 2 * FINEST + 1, KINDS = VALUES + 1, UNKNOWN = VALUES };

/* The mean of the four neighbours of a block, halves up. */
static int64_t mean_beside(const int64_t *own, int64_t y, int64_t x, int64_t rows, int64_t columns) {
    int64_t total = 0, count = 0;
    if (y) total += own[-columns], count++;
    if (y + 1 < rows) total += own[columns], count++;
    if (x) total += own[-1], count++;
    if (x + 1 < columns) total += own[1], count++;
    int64_t twice = 2 * total + count, by = 2 * (count ? count : 1);
    return twice / by - (twice % by < 0);
}

/* Walk through fineness on a grid of rows and columns, which an encoder gives and a decoder finds; returns why it ended.
 *
 * decoder: null to encode.  before: fineness of the key before, null without one.  walk: as for `walk_residual`. */
EXPORT int walk_fineness(const Tables *tables, Decoder *decoder, const int64_t *grid, const int64_t *before,
                         int64_t *values, Walk *walk) {
    Coder c = {tables, walk, decoder};
    int64_t rows = grid[0], columns = grid[1];
    for (int half = 0; half < 2; half++) {
        if (!make_room(&c, rows * columns)) return NO_MEMORY;
        uint8_t *mine = walk->rows + walk->count;
        int16_t *symbols = walk->symbols + walk->count;
        int64_t n = 0;
        for (int64_t y = 0; y < rows; y++)
            for (int64_t x = (y + half) & 1; x < columns; x += 2, n++) {
                int64_t *own = values + y * columns + x;
                int64_t beside = half ? mean_beside(own, y, x, rows, columns) + FINEST : UNKNOWN;
                int64_t past = before ? before[y * columns + x] + FINEST : UNKNOWN;
                mine[n] = (uint8_t)((half * KINDS + beside) * KINDS + past);
                symbols[n] = (int16_t)*own;
            }
        if (exchange(&c, n, 0)) return NO_MEMORY;
        n = 0;
        for (int64_t y = 0; y < rows; y++)
            for (int64_t x = (y + half) & 1; x < columns; x += 2, n++) values[y * columns + x] = symbols[n];
    }
    return DONE;
}
