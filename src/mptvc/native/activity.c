/* Contexts of activities, and rows of symbols: the same integers as `mptvc.model.contexts` and
 * `mptvc.model.activity`, where they are explained. */

#include "envelope.h"
#include "kernels.h"

enum { CONTEXTS = 16 };

/* What contexts of one half of a checkerboard say of other tokens and pictures, int16 `[groups, n]`.
 *
 * past: of the picture before `[rows, columns, groups]`.  found: of the first half, for the second one.
 * classes: of tokens.  stride: n. */
EXPORT void activity_contexts(const uint8_t *past, const int16_t *found, const int64_t *classes, int64_t rows,
                              int64_t columns, int64_t groups, int half, int16_t *out, int64_t stride) {
    int64_t n = 0, line = columns * groups;
    for (int64_t y = 0; y < rows; y++)
        for (int64_t x = (y + half) & 1; x < columns; x += 2, n++) {
            const uint8_t *own = past + y * line + x * groups;
            const int16_t *mine = found + y * line + x * groups;
            for (int64_t g = 0; g < groups; g++) {
                int before = 18 * own[g], beside = 0;
                for (int64_t dy = y ? -1 : 0; dy <= (y + 1 < rows); dy++)
                    for (int64_t dx = x ? -1 : 0; dx <= (x + 1 < columns); dx++) before += own[dy * line + dx * groups + g];
                if (half) {
                    if (y) beside += mine[g - line];
                    if (y + 1 < rows) beside += mine[g + line];
                    if (x) beside += mine[g - groups];
                    if (x + 1 < columns) beside += mine[g + groups];
                }
                int outside = half ? (2 * before + 27 * beside + 54) / 108 : (3 * before + 27) / 54;
                if (outside > CONTEXTS - 1) outside = CONTEXTS - 1;
                out[g * stride + n] = (int16_t)((outside + CONTEXTS * classes[y * columns + x]) * CONTEXTS);
            }
        }
}

/* Rows of the activities of one group: outer contexts, and activities of the two groups before, or null. */
EXPORT void activity_rows(const int16_t *outer, const int16_t *last, const int16_t *second_last, int64_t count,
                          const uint8_t *row_of, uint8_t *rows) {
    for (int64_t i = 0; i < count; i++) {
        int inner = last ? last[i] : 0;
        if (second_last && second_last[i] > inner) inner = second_last[i];
        rows[i] = row_of[outer[i] + (inner < CONTEXTS ? inner : CONTEXTS - 1)];
    }
}

/* Places `[tokens channels]` and rows of symbols that are coded by themselves; returns how many there are.
 *
 * activities: of tokens `[count, groups]`, large from `large` on.  expected: before each place of the order.
 * thresholds: smallest sums of activities from 1 on.  group_of, place_of: of each channel.
 * starts: first place of each group, and the end.  row_of_one: row of a magnitude of 1, the last one `last`. */
EXPORT int64_t symbol_rows(const int64_t *activities, int64_t count, int64_t groups, int64_t channels, int64_t large,
                           const int32_t *expected, const int64_t *thresholds, const int64_t *group_of,
                           const int64_t *place_of, const int64_t *starts, int row_of_one, int last, int64_t *places,
                           uint8_t *rows) {
    int64_t found = 0;
    for (int64_t n = 0; n < count; n++) {
        const int32_t *below = expected + n * (channels + 1);
        int base[256], any = 0;
        for (int64_t g = 0; g < groups; g++) {
            int64_t activity = activities[n * groups + g];
            base[g] = 0;
            if (activity < large) continue;
            base[g] = eighths((float)thresholds[activity - 1]) - eighths((float)(below[starts[g + 1]] - below[starts[g]]));
            any = 1;
        }
        if (!any) continue;
        for (int64_t c = 0; c < channels; c++) {
            int64_t g = group_of[c], place = place_of[c];
            if (activities[n * groups + g] < large) continue;
            int row = ((eighths((float)(below[place + 1] - below[place])) + base[g]) >> 1) + row_of_one;
            places[found] = n * channels + c;
            rows[found++] = (uint8_t)(row < 0 ? 0 : row > last ? last : row);
        }
    }
    return found;
}
