/* Halving of runs of channels: the same integers as `mptvc.model.splitting`, where it is explained. */

#include "envelope.h"
#include "kernels.h"

typedef struct {
    int32_t token, first, last, sum;
} Part;

/* Take the next parts: those that are one channel are done, others get a row.
 *
 * parts, shares: parts that were halved `[count]`, and what their first halves have, to continue with both halves
 *   that hold something, all first halves before all second ones; shares 0 to continue with the parts themselves.
 * expected: sums before each place of the order of channels `[tokens, places]`.
 * odds, step, lowest: rows for odds of first halves, eighths of an octave that each spans, where they begin.
 * next, rows: the parts to halve, and the row of each one's share.  done: the others.
 * counts: of next and of done. */
EXPORT void halve(const Part *parts, const int16_t *shares, int64_t count, const int32_t *expected, int64_t places,
                  int odds, int step, int lowest, Part *next, uint8_t *rows, Part *done, int64_t *counts) {
    int64_t to_halve = 0, finished = 0;
    for (int second = 0; second <= (shares != 0); second++)
        for (int64_t i = 0; i < count; i++) {
            Part part = parts[i];
            if (shares) {
                int32_t middle = (part.first + part.last + 1) >> 1;
                part.sum = second ? part.sum - shares[i] : shares[i];
                if (!part.sum) continue;
                if (second) part.first = middle;
                else part.last = middle;
            }
            if (part.last - part.first == 1) {
                done[finished++] = part;
                continue;
            }
            const int32_t *below = expected + part.token * places;
            int32_t middle = (part.first + part.last + 1) >> 1;
            int octaves = eighths((float)(below[middle] - below[part.first])) - eighths((float)(below[part.last] - below[middle])) - lowest;
            int odd = octaves < 0 ? 0 : octaves / step;
            rows[to_halve] = (uint8_t)((part.sum - 1) * odds + (odd < odds ? odd : odds - 1));
            next[to_halve++] = part;
        }
    counts[0] = to_halve, counts[1] = finished;
}
