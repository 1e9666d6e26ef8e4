/* Which tokens hold something, and how much in each group of channels: the steps of `mptvc.model.activity` and
 * `mptvc.model.contexts`, where they are explained, for an encoder and for a decoder. */

#include "kernels.h"
#include "residual.h"
#include <string.h>

/* Classes of tokens `[rows, columns]`, from how blocks are predicted, of which each covers `per_kind` tokens along both
 * axes, and activities of the coarser level's tokens `[rows / per_parent, columns / per_parent, groups]`, if any. */
EXPORT void token_classes(const int64_t *kinds, int64_t per_kind, const uint8_t *parents, int64_t per_parent,
                          int64_t groups, int64_t rows, int64_t columns, int64_t *classes) {
    for (int64_t y = 0; y < rows; y++) {
        const int64_t *mine = kinds + y / per_kind * (columns / per_kind);
        int64_t *line = classes + y * columns;
        if (y && y % per_parent && y % per_kind) {
            memcpy(line, line - columns, (size_t)columns * sizeof *line);
            continue;
        }
        for (int64_t x = 0; x < columns; mine++)
            for (int64_t end = x + per_kind; x < end; x++) line[x] = *mine;
        if (!parents) continue;
        const uint8_t *parent = parents + y / per_parent * (columns / per_parent) * groups;
        for (int64_t x = 0; x < columns; parent += groups) {
            int sum = 0;
            for (int64_t g = 0; g < groups; g++) sum += parent[g];
            int active = 3 * ((sum >= 1) + (sum >= 4) + (sum >= 10));
            for (int64_t end = x + per_parent; x < end; x++) line[x] += active;
        }
    }
}

/* A row `[line]` of a grid's values, and the sums of the rows beside it. */
CLONED static void take_row(const uint8_t *values, int64_t line, int64_t row, int64_t rows, int16_t *own, int16_t *beside) {
    const uint8_t *from = values + row * line;
    for (int64_t i = 0; i < line; i++) own[i] = from[i], beside[i] = 0;
    if (row)
        for (int64_t i = 0; i < line; i++) beside[i] += from[i - line];
    if (row + 1 < rows)
        for (int64_t i = 0; i < line; i++) beside[i] += from[i + line];
}

/* What contexts of a row say of other tokens `[line]`: a row of the picture before and, in the second half of a
 * checkerboard, of those that are known, with a token of zeros on each side, and the rows beside these. `around` is
 * the same in a 108th. */
CLONED static void weigh(const int16_t *past, const int16_t *past_beside, const int16_t *known,
                         const int16_t *known_beside, int64_t line, int64_t groups, int half,
                         int16_t *restrict outside, int16_t *restrict around) {
    for (int64_t i = 0; i < line; i++) { /* in 16 bits, which hold all of it */
        uint16_t left = (uint16_t)(past[i - groups] + past_beside[i - groups]);
        uint16_t right = (uint16_t)(past[i + groups] + past_beside[i + groups]);
        uint16_t before = (uint16_t)(19 * past[i] + past_beside[i] + left + right);
        uint16_t four = (uint16_t)(known[i - groups] + known[i + groups] + known_beside[i]);
        uint16_t total = (uint16_t)(half ? 2 * before + 27 * four : 4 * before);
        uint16_t mean = half ? (uint16_t)(total + 54) / 108 : (uint16_t)(total + 36) / 72;
        around[i] = (int16_t)total;
        outside[i] = (int16_t)(mean < CONTEXTS - 1 ? mean : CONTEXTS - 1);
    }
}

/* Whether some token of a row `[line]` or of those beside it holds something. */
static int any_near(const uint8_t *values, int64_t line, int64_t row, int64_t rows) {
    int64_t first = row ? row - 1 : 0, last = row + 1 < rows ? row + 2 : rows;
    uint8_t found = 0;
    for (const uint8_t *at = values + first * line; at < values + last * line; at++) found |= *at;
    return found != 0;
}

/* The row of what tells whether a token holds something, of a class, where what is around it sums to so much. */
INLINED int64_t coded_row(int half, int64_t class_of, int total) {
    static const int degrees[] = {4, 28, 54, 108, 162, 270, 432, 864, 1728};
    enum { DEGREES = sizeof degrees / sizeof *degrees };
    int degree = 0;
    for (int k = 0; k < DEGREES; k++) degree += total >= degrees[k];
    return (half * CLASSES + class_of) * (DEGREES + 1) + degree;
}

/* Contexts `[rows, columns, groups + 1]` of tokens whose neighbours are not known yet: of their activities, then the row
 * of what tells whether they hold something.
 *
 * past: activities of the picture before `[rows, columns, groups]`.  classes: of tokens.
 * space: `ROWS_OF_CONTEXTS` rows of tokens with one more on each side, of zeros. */
EXPORT void contexts_apart(const uint8_t *past, const int64_t *classes, int64_t rows, int64_t columns, int64_t groups,
                           int has_flags, int16_t *space, int64_t *contexts) {
    int64_t line = columns * groups, wide = line + 2 * groups;
    int16_t *own = space + groups, *beside = own + wide, *nothing = beside + wide;
    int16_t *outside = nothing + wide, *around = outside + wide;
    for (int64_t y = 0; y < rows; y++) {
        take_row(past, line, y, rows, own, beside);
        weigh(own, beside, nothing, nothing, line, groups, 0, outside, around);
        for (int64_t x = 0; x < columns; x++, classes++) {
            int total = 0;
            for (int64_t g = 0; g < groups; g++) {
                *contexts++ = (outside[x * groups + g] + CONTEXTS * *classes) * CONTEXTS;
                total += around[x * groups + g];
            }
            *contexts++ = has_flags ? coded_row(0, *classes, total) : 0;
        }
    }
}

/* The tokens of one half of a checkerboard: their numbers, what contexts say of each one's groups and, where it tells
 * whether it holds something, the row of that. Returns how many.
 *
 * space: `ROWS_OF_CONTEXTS` rows of tokens with one more on each side, of zeros. */
static int64_t contexts_of(const Model *m, const Picture *p, const uint8_t *found, int half, int16_t *space,
                           int32_t *tokens, int16_t *outer, uint8_t *coded_rows) {
    int64_t n = 0, groups = m->groups, line = p->columns * groups, wide = line + 2 * groups;
    int16_t *past = space + groups, *past_beside = past + wide, *known = past_beside + wide;
    int16_t *known_beside = known + wide, *outside = known_beside + wide, *around = outside + wide;
    for (int64_t y = 0; y < p->rows; y++) {
        int any = any_near(p->past, line, y, p->rows) || (half && any_near(found, line, y, p->rows));
        if (any) {
            take_row(p->past, line, y, p->rows, past, past_beside);
            if (half) take_row(found, line, y, p->rows, known, known_beside);
            weigh(past, past_beside, known, known_beside, line, groups, half, outside, around);
        } else memset(outside, 0, (size_t)line * sizeof *outside);
        for (int64_t x = (y + half) & 1; x < p->columns; x += 2, n++) {
            int total = 0;
            tokens[n] = (int32_t)(y * p->columns + x);
            memcpy(outer + n * groups, outside + x * groups, (size_t)groups * sizeof *outer);
            if (!m->has_flags) continue;
            for (int64_t g = 0; any && g < groups; g++) total += around[x * groups + g];
            coded_rows[n] = (uint8_t)coded_row(half, p->classes[tokens[n]], total);
        }
    }
    return n;
}

/* Which of some tokens hold something, with their rows behind all steps: only these are left, and counted. */
static int code_flags(Residual *r, const uint8_t *found, int32_t *tokens, int16_t *outer, int64_t *count) {
    const Model *m = r->model;
    int16_t *symbols = r->coder.walk->symbols + r->coder.walk->count;
    int64_t some = 0;
    if (!r->coder.decoder)
        for (int64_t n = 0; n < *count; n++) symbols[n] = holds(m, found, tokens[n]) ? 1 : -1;
    if (exchange(&r->coder, *count, CODED)) return NO_MEMORY;
    for (int64_t n = 0; n < *count; n++) {
        if (!symbols[n]) return NO_FLAG;
        if (symbols[n] < 0) continue;
        memmove(outer + some * m->groups, outer + n * m->groups, (size_t)m->groups * sizeof *outer);
        tokens[some++] = tokens[n];
    }
    *count = some;
    return DONE;
}

/* The activity of one group of tokens.
 *
 * before: of the same tokens, the largest activity of the two groups before, that of the last one, and whether any group
 * before has some, each `[count]`; they are then what they are for the next group. */
static int code_group(Residual *r, const Picture *p, uint8_t *found, int half, int64_t g, const int32_t *tokens,
                      const int16_t *outer, int64_t count, uint8_t *before) {
    const Model *m = r->model;
    const int middle = (int)m->most / 2, is_first = m->has_flags ? CONTEXTS - 1 : 0;
    if (!make_room(&r->coder, count)) return NO_MEMORY;
    uint8_t *rows = r->coder.walk->rows + r->coder.walk->count, *last = before + count, *any = last + count;
    int16_t *symbols = r->coder.walk->symbols + r->coder.walk->count;
    const uint8_t *row_of = m->row_of + (2 * g + half) * m->contexts;
    for (int64_t n = 0; n < count; n++) {
        int inner = before[n] < CONTEXTS ? before[n] : CONTEXTS - 1;
        inner = any[n] ? inner : is_first;
        int64_t context = (outer[n * m->groups + g] + CONTEXTS * p->classes[tokens[n]]) * CONTEXTS;
        rows[n] = row_of[context + inner];
    }
    for (int64_t n = 0; !r->coder.decoder && n < count; n++)
        symbols[n] = (int16_t)(found[tokens[n] * m->groups + g] - middle);
    if (exchange(&r->coder, count, ACTIVITIES)) return NO_MEMORY;
    for (int64_t n = 0; n < count; n++) {
        uint8_t own = (uint8_t)(symbols[n] + middle);
        before[n] = own > last[n] ? own : last[n], last[n] = own, any[n] |= own;
    }
    for (int64_t n = 0; r->coder.decoder && n < count; n++) found[tokens[n] * m->groups + g] = last[n];
    return DONE;
}

int code_activities(Residual *r, const Picture *p, uint8_t *found, int16_t *space, int32_t *tokens, int16_t *outer,
                    uint8_t *before) {
    const Model *m = r->model;
    for (int half = 0; half < 2; half++) {
        if (!make_room(&r->coder, (p->rows * p->columns + 1) / 2)) return NO_MEMORY;
        uint8_t *rows = r->coder.walk->rows + r->coder.walk->count;
        int64_t count = contexts_of(m, p, found, half, space, tokens, outer, rows);
        int end = m->has_flags ? code_flags(r, found, tokens, outer, &count) : DONE;
        memset(before, 0, (size_t)(3 * count));
        for (int64_t g = 0; end == DONE && g < m->groups; g++)
            end = code_group(r, p, found, half, g, tokens, outer, count, before);
        if (end != DONE) return end;
    }
    return DONE;
}
