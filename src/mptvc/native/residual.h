/* What walks through what prediction left of a picture have in common. */

#ifndef MPTVC_RESIDUAL_H
#define MPTVC_RESIDUAL_H

#include "envelope.h"
#include "walk.h"
#include <string.h>

enum { CONTEXTS = 16, CLASSES = 12, ROWS_OF_CONTEXTS = 6, GROUPS = 64 };
/* Numbers of tables. */
enum { ACTIVITIES, SYMBOLS, DIGITS, SHAPES, SHARES, RESTS, SIGNS, CODED };
/* What ends a walk early, beside what `walk.h` names. */
enum { NO_SHAPE = 2, TOO_LARGE_A_SUM, TOO_LARGE_A_PART, NO_SIGN, NO_FLAG };

/* An entropy model; of an alphabet, integers are counted from its middle. */
typedef struct {
    int64_t groups, channels, contexts, most, shapes, small, row_of_one, last_row, odds, odds_step, odds_lowest, has_flags;
    const uint8_t *row_of, *rest_row_of;                            /* [groups, 2, contexts], [groups, most sum] */
    const int64_t *thresholds, *group_of, *place_of, *starts, *order; /* sums of activities from 1 on; channels */
    int64_t most_sum;
    Tables tables;
} Model;

/* What is known of a picture. */
typedef struct {
    int64_t rows, columns;
    const uint8_t *past;    /* [rows, columns, groups] */
    const int64_t *classes; /* [rows, columns] */
    const uint8_t *luma;
    const float *steps;
    const EnvelopeNet *net;
} Picture;

typedef struct {
    const Model *model;
    Coder coder;
    uint32_t parts_of[GROUPS]; /* of an envelope, where the channels of a group are */
} Residual;

/* Whether a token holds something. */
INLINED int holds(const Model *m, const uint8_t *found, int64_t token) {
    const uint8_t *mine = found + token * m->groups;
    uint64_t any = 0, some;
    int64_t g = 0;
    for (; g + 8 <= m->groups; g += 8) memcpy(&some, mine + g, 8), any |= some;
    for (; g < m->groups; g++) any |= mine[g];
    return any != 0;
}

/* Activities of all tokens, which an encoder gives and a decoder finds, `[rows, columns, groups]`.
 *
 * space: `ROWS_OF_CONTEXTS` rows of tokens with one more on each side, of zeros.
 * tokens, outer, before: room for half of the tokens' numbers, contexts, and three numbers of each. */
int code_activities(Residual *r, const Picture *p, uint8_t *found, int16_t *space, int32_t *tokens, int16_t *outer,
                    uint8_t *before);

#endif
