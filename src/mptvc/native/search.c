/* Where a picture shows blocks of another one, as `mptvc.codec.motion_search` finds them, where it is explained.
 *
 * No decoder needs it, so it may differ in the last digits of floating point. */

#include "blocks.h"
#include "kernels.h"
#include <math.h>
#include <stdlib.h>

enum { MOST_TRIES = 12 };

/* Blocks of a target picture `height x width`, which is repeated at its edges, to be found in a reference. */
typedef struct {
    const uint8_t *target;
    int64_t height, width, rows, columns, side;
    float price, most_pixels; /* of a vector's distance from those around it, and where that ends */
} Blocks;

INLINED void wanted_block(const Blocks *b, int64_t row, int64_t column, const int side, uint8_t *out) {
    int64_t top = row * side, left = column * side;
    for (int y = 0; y < side; y++) {
        const uint8_t *line = b->target + clamped(top + y, 0, b->height - 1) * b->width;
        if (left + side <= b->width) memcpy(out + y * side, line + left, (size_t)side);
        else
            for (int x = 0; x < side; x++) out[y * side + x] = line[clamped(left + x, 0, b->width - 1)];
    }
}

INLINED int difference(const uint8_t *one, const uint8_t *two, const int side) {
    int total = 0;
    for (int y = 0; y < side; y++)
        for (int x = 0; x < side; x++) total += abs(one[y * side + x] - two[y * side + x]);
    return total;
}

/* The mean of a coordinate of the vectors of a block and those around it. */
INLINED float around(const int64_t *vectors, const Blocks *b, int64_t row, int64_t column) {
    int64_t total = 0;
    for (int64_t y = row - 1; y <= row + 1; y++)
        for (int64_t x = column - 1; x <= column + 1; x++)
            total += vectors[clamped(y, 0, b->rows - 1) * b->columns + clamped(x, 0, b->columns - 1)];
    return (float)total / 9;
}

/* Vectors to try for a block: those of some fields, of the blocks beside it in these (at an edge of the picture of
 * the opposite one), and none; or, with a step, those around its own. */
INLINED int tries_of(const Blocks *b, const int64_t *const *fields, int64_t num_fields, int64_t step, int64_t row,
                     int64_t column, int64_t (*tries)[2]) {
    int64_t size = b->rows * b->columns, at = row * b->columns + column;
    int count = 0;
    if (step) {
        for (int64_t y = -1; y <= 1; y++)
            for (int64_t x = -1; x <= 1; x++, count++)
                tries[count][0] = fields[0][at] + step * y, tries[count][1] = fields[0][size + at] + step * x;
        return count;
    }
    int64_t above = (row + b->rows - 1) % b->rows, below = (row + 1) % b->rows;
    int64_t before = (column + b->columns - 1) % b->columns, after = (column + 1) % b->columns;
    int64_t beside[] = {above * b->columns + column, below * b->columns + column, row * b->columns + before,
                        row * b->columns + after};
    for (int64_t f = 0; f < num_fields; f++, count++)
        tries[count][0] = fields[f][at], tries[count][1] = fields[f][size + at];
    for (int64_t f = 0; f < num_fields; f++)
        for (int k = 0; k < 4; k++, count++)
            tries[count][0] = fields[f][beside[k]], tries[count][1] = fields[f][size + beside[k]];
    tries[count][0] = tries[count][1] = 0;
    return count + 1;
}

INLINED void best_of_row(const Blocks *b, const Reference *r, const int64_t *const *fields, int64_t num_fields,
                         int64_t step, int64_t row, const int side, int64_t *vectors, float *differences) {
    int64_t size = b->rows * b->columns;
    for (int64_t column = 0; column < b->columns; column++) {
        int64_t tries[MOST_TRIES][2], at = row * b->columns + column;
        int count = tries_of(b, fields, num_fields, step, row, column, tries);
        float y = around(fields[0], b, row, column), x = around(fields[0] + size, b, row, column), best = INFINITY;
        uint8_t wanted[CELL], found[CELL];
        wanted_block(b, row, column, side, wanted);
        for (int i = 0; i < count; i++) {
            int64_t dy = tries[i][0], dx = tries[i][1];
            float apart = (fabsf((float)dy - y) + fabsf((float)dx - x)) / 4;
            float far = b->price * (apart < b->most_pixels ? apart : b->most_pixels);
            int was_tried = 0;
            for (int k = 0; k < i; k++) was_tried |= dy == tries[k][0] && dx == tries[k][1];
            if (was_tried || far >= best) continue;
            window(r, 0, 4 * row * side + dy, 4 * column * side + dx, side, found);
            float mean = (float)difference(wanted, found, side) / (float)(side * side);
            if (mean + far >= best) continue;
            best = mean + far, differences[at] = mean;
            vectors[at] = dy, vectors[size + at] = dx;
        }
    }
}

/* The best vectors `[2, rows, columns]` of some rows of blocks, and the mean differences that these leave.
 *
 * planes: of a reference of one channel, `height x width` with its margin; one where vectors are of whole pixels.
 * fields: vectors to start from, `[2, rows, columns]` each. */
CLONED EXPORT void best_vectors(const Blocks *b, const uint8_t *planes, int64_t height, int64_t width, int64_t margin,
                                const int64_t *const *fields, int64_t num_fields, int64_t step, int64_t *vectors,
                                float *differences, int64_t first, int64_t last) {
    Reference r = {planes, 1, height, width, margin};
    for (int64_t row = first; row < last; row++)
        SIZED(b->side, best_of_row(b, &r, fields, num_fields, step, row, SIZE, vectors, differences));
}

/* The best of all vectors of whole pixels up to `reach`, in quarter pixels `[2, rows, columns]`. */
CLONED EXPORT void search_everywhere(const Blocks *b, const uint8_t *planes, int64_t height, int64_t width,
                                     int64_t margin, int64_t reach, int64_t *vectors) {
    Reference r = {planes, 1, height, width, margin};
    for (int64_t at = 0; at < b->rows * b->columns; at++) {
        int64_t row = at / b->columns, column = at % b->columns, size = b->rows * b->columns;
        uint8_t wanted[CELL], found[CELL];
        float best = INFINITY;
        SIZED(b->side, wanted_block(b, row, column, SIZE, wanted));
        for (int64_t y = -reach; y <= reach; y++)
            for (int64_t x = -reach; x <= reach; x++) {
                int64_t top = 4 * (row * b->side + y), left = 4 * (column * b->side + x);
                float mean = 0;
                SIZED(b->side, {
                    window(&r, 0, top, left, SIZE, found);
                    mean = (float)difference(wanted, found, SIZE) / (float)(SIZE * SIZE);
                });
                float cost = mean + b->price * (float)(llabs(y) + llabs(x));
                if (cost < best) best = cost, vectors[at] = 4 * y, vectors[size + at] = 4 * x;
            }
    }
}
