/* The walk through what prediction left of a picture: the steps of `mptvc.model.activity` and
 * `mptvc.model.splitting`, where they are explained, for an encoder and for a decoder. */

#include "kernels.h"
#include "residual.h"
#include <stdlib.h>
#include <string.h>

/* Tokens whose symbols are coded together, and how many parts before its turn what is expected of one is fetched. */
enum { PER_PART = 8192, AHEAD = 16 };

typedef struct {
    int32_t token, first, last, sum;
} Part;

/* The numbers of tokens that hold something, and which of these are quartered. */
static int code_shapes(Residual *r, const uint8_t *found, const int32_t *tokens, int64_t count,
                       uint8_t *quartered) {
    const Model *m = r->model;
    if (!make_room(&r->coder, count)) return NO_MEMORY;
    uint8_t *rows = r->coder.walk->rows + r->coder.walk->count;
    int16_t *symbols = r->coder.walk->symbols + r->coder.walk->count;
    for (int64_t i = 0; i < count; i++) {
        int64_t sum = 0;
        for (int64_t g = 0; g < m->groups; g++) sum += found[tokens[i] * m->groups + g];
        rows[i] = (uint8_t)(sum < m->shapes - 1 ? sum : m->shapes - 1);
        symbols[i] = quartered[tokens[i]] ? 1 : -1;
    }
    if (exchange(&r->coder, count, SHAPES)) return NO_MEMORY;
    if (!r->coder.decoder) return DONE;
    for (int64_t i = 0; i < count; i++) {
        if (!symbols[i]) return NO_SHAPE;
        quartered[tokens[i]] = symbols[i] > 0;
    }
    return DONE;
}

/* Sum of magnitudes of the symbols at places of the order, which lie at one end of the group or the other. */
static int32_t sum_of(const Model *m, const int16_t *symbols, int64_t first, int64_t last) {
    int32_t total = 0;
    for (int64_t place = first; place < last; place++) total += abs(symbols[m->order[place]]);
    return total;
}

/* What is expected of the channels at places of the order; of any integers, as not all sums are computed. */
INLINED int32_t sum_between(const int32_t *below, int64_t first, int64_t last) {
    return (int32_t)((uint32_t)below[last] - (uint32_t)below[first]);
}

/* Take the next parts: those that are one channel are done, others get a row.
 *
 * parts: that were halved; shares: what their first halves have, to go on with both halves that hold something, all
 * first halves before all second ones; without shares, to go on with the parts themselves. */
static int64_t next_parts(const Model *m, const Part *parts, const int16_t *shares, int64_t count,
                          const int32_t *expected, Part *next, uint8_t *rows, Part *done, int64_t *num_done) {
    const int odds = (int)m->odds, lowest = (int)m->odds_lowest;
    const int inverse = (1 << 16) / (int)m->odds_step + 1; /* to divide octaves, which are few, by a step */
    int64_t to_halve = 0, finished = *num_done;
    for (int second = 0; second <= (shares != 0); second++)
        for (int64_t i = 0; i < count; i++) {
            Part part = parts[i], later = parts[i + AHEAD < count ? i + AHEAD : i];
            __builtin_prefetch(expected + later.token * (m->channels + 1) + ((later.first + later.last) >> 1));
            if (shares) {
                int32_t middle = (part.first + part.last + 1) >> 1, share = shares[i] + (int32_t)m->tables.alphabets[SHARES] / 2;
                part.sum = second ? part.sum - share : share;
                part.first = second ? middle : part.first, part.last = second ? part.last : middle;
            }
            /* What is next is hard to foresee, so each part is written, and counted where it belongs. */
            int is_held = part.sum != 0, is_one = part.last - part.first == 1;
            done[finished] = part, finished += is_held & is_one;
            const int32_t *below = expected + part.token * (m->channels + 1);
            int32_t middle = (part.first + part.last + 1) >> 1;
            int octaves = eighths((float)sum_between(below, part.first, middle)) -
                          eighths((float)sum_between(below, middle, part.last)) - lowest;
            int odd = octaves < 0 ? 0 : (octaves * inverse) >> 16;
            rows[to_halve] = (uint8_t)((part.sum - 1) * odds + (odd < odds ? odd : odds - 1));
            next[to_halve] = part, to_halve += is_held & !is_one;
        }
    *num_done = finished;
    return to_halve;
}

/* Groups of tokens whose sums are small, as parts of all of a group's channels; `parts` has room for all groups. */
static int code_sums(Residual *r, const uint8_t *found, const int32_t *tokens, int64_t count, const int16_t *values,
                     Part *parts, int64_t *num_parts) {
    const Model *m = r->model;
    int64_t groups = 0, several = 0;
    int middle = (int)m->tables.alphabets[RESTS] / 2;
    if (!make_room(&r->coder, count * m->groups)) return NO_MEMORY;
    uint8_t *rows = r->coder.walk->rows + r->coder.walk->count;
    int16_t *symbols = r->coder.walk->symbols + r->coder.walk->count;
    for (int64_t i = 0; i < count; i++)
        for (int64_t g = 0; g < m->groups; g++) {
            int activity = found[tokens[i] * m->groups + g];
            if (!activity || activity > m->small) continue;
            int32_t least = (int32_t)m->thresholds[activity - 1];
            Part part = {(int32_t)i, (int32_t)m->starts[g], (int32_t)m->starts[g + 1], least};
            if (!r->coder.decoder) part.sum = sum_of(m, values + i * m->channels, part.first, part.last);
            parts[groups++] = part;
            if (m->thresholds[activity] - least == 1) continue;
            rows[several] = m->rest_row_of[g * m->most_sum + activity - 1];
            symbols[several++] = (int16_t)(part.sum - least - middle);
        }
    *num_parts = groups;
    if (exchange(&r->coder, several, RESTS)) return NO_MEMORY;
    if (!r->coder.decoder) return DONE;
    for (int64_t n = 0, rest = 0; n < groups; n++) {
        int64_t sum = parts[n].sum, activity = 0;
        while (m->thresholds[activity] <= sum) activity++;
        int64_t choices = m->thresholds[activity] - sum;
        if (choices == 1) continue;
        int more = symbols[rest++] + middle;
        if (more >= choices) return TOO_LARGE_A_SUM;
        parts[n].sum += more;
    }
    return DONE;
}

/* Halve parts until each is one channel; `parts`, `next` and `done` have room for one more than all sums together. */
static int code_shares(Residual *r, Part *parts, Part *next, int64_t count, const int32_t *expected, const int16_t *values,
                       Part *done, int64_t *num_done) {
    const Model *m = r->model;
    int middle = (int)m->tables.alphabets[SHARES] / 2;
    for (int is_first = 1;; is_first = 0) {
        if (!make_room(&r->coder, 2 * count)) return NO_MEMORY;
        uint8_t *rows = r->coder.walk->rows + r->coder.walk->count;
        int16_t *symbols = r->coder.walk->symbols + r->coder.walk->count;
        count = next_parts(m, parts, is_first ? 0 : symbols - count, count, expected, next, rows, done, num_done);
        if (!count) return DONE;
        Part *halved = parts;
        parts = next, next = halved;
        if (!r->coder.decoder)
            for (int64_t i = 0; i < count; i++) {
                int32_t half = (parts[i].first + parts[i].last + 1) >> 1;
                symbols[i] = (int16_t)(sum_of(m, values + parts[i].token * m->channels, parts[i].first, half) - middle);
            }
        if (exchange(&r->coder, count, SHARES)) return NO_MEMORY;
        for (int64_t i = 0; i < count; i++)
            if (symbols[i] + middle > parts[i].sum) return TOO_LARGE_A_PART;
    }
}

/* Signs of channels whose magnitudes are known, which with these become symbols. */
static int code_signs(Residual *r, const Part *done, int64_t count, int16_t *values) {
    const Model *m = r->model;
    if (!make_room(&r->coder, count)) return NO_MEMORY;
    int16_t *symbols = r->coder.walk->symbols + r->coder.walk->count;
    memset(r->coder.walk->rows + r->coder.walk->count, 0, (size_t)count);
    for (int64_t i = 0; !r->coder.decoder && i < count; i++) {
        int16_t value = values[done[i].token * m->channels + m->order[done[i].first]];
        symbols[i] = value < 0 ? -1 : 1;
    }
    if (exchange(&r->coder, count, SIGNS)) return NO_MEMORY;
    for (int64_t i = 0; i < count; i++) {
        if (!symbols[i]) return NO_SIGN;
        values[done[i].token * m->channels + m->order[done[i].first]] = (int16_t)(done[i].sum * symbols[i]);
    }
    return DONE;
}

/* Symbols of the groups of tokens whose sums are small. */
static int code_small(Residual *r, const uint8_t *found, const int32_t *tokens, int64_t count, const int32_t *expected,
                      int16_t *values) {
    int64_t groups = 0, most = 0, num_done = 0;
    Part *parts = malloc((size_t)(count * r->model->groups + 1) * sizeof *parts), *room = 0;
    int end = parts ? code_sums(r, found, tokens, count, values, parts, &groups) : NO_MEMORY;
    if (end == DONE) {
        for (int64_t i = 0; i < groups; i++) most += parts[i].sum;
        room = malloc((size_t)(3 * ++most) * sizeof *room);
        if (!room) end = NO_MEMORY;
    }
    if (end == DONE) {
        memcpy(room, parts, (size_t)groups * sizeof *room);
        end = code_shares(r, room, room + most, groups, expected, values, room + 2 * most, &num_done);
    }
    if (end == DONE) end = code_signs(r, room + 2 * most, num_done, values);
    free(parts), free(room);
    return end;
}

/* What the largest symbols are beyond their table: numbers of two digits, all upper ones first. */
static int code_beyond(Residual *r, int16_t *values, const int32_t *places, int64_t count, int reach) {
    for (int is_low = 0; is_low < 2; is_low++) {
        if (!make_room(&r->coder, count)) return NO_MEMORY;
        int16_t *symbols = r->coder.walk->symbols + r->coder.walk->count;
        memset(r->coder.walk->rows + r->coder.walk->count, 0, (size_t)count);
        for (int64_t i = 0; i < count; i++) {
            int beyond = abs(values[places[i]]) - reach;
            symbols[i] = (int16_t)((is_low ? beyond % DIGIT : beyond / DIGIT) - DIGIT / 2);
        }
        if (exchange(&r->coder, count, DIGITS)) return NO_MEMORY;
        if (!r->coder.decoder) continue;
        for (int64_t i = 0; i < count; i++) {
            int more = (symbols[i] + DIGIT / 2) * (is_low ? 1 : DIGIT);
            values[places[i]] = (int16_t)(values[places[i]] + (values[places[i]] < 0 ? -more : more));
        }
    }
    return DONE;
}

/* Symbols of the groups of tokens whose sums are large, each under the row of what is expected of it. */
static int code_large(Residual *r, const uint8_t *found, const int32_t *tokens, int64_t count, const int32_t *expected,
                      int16_t *values) {
    const Model *m = r->model;
    int reach = (int)m->tables.alphabets[SYMBOLS] / 2;
    int64_t most = 0, n = 0, ends = 0;
    for (int64_t i = 0; i < count; i++)
        for (int64_t g = 0; g < m->groups; g++)
            if (found[tokens[i] * m->groups + g] > m->small) most += m->starts[g + 1] - m->starts[g];
    if (!make_room(&r->coder, most)) return NO_MEMORY;
    int32_t *places = malloc((size_t)(most + 1) * sizeof *places);
    if (!places) return NO_MEMORY;
    uint8_t *rows = r->coder.walk->rows + r->coder.walk->count;
    int16_t *symbols = r->coder.walk->symbols + r->coder.walk->count;
    for (int64_t i = 0; i < count; i++) {
        const uint8_t *active = found + tokens[i] * m->groups;
        const int32_t *below = expected + i * (m->channels + 1);
        int base[GROUPS], any = 0;
        for (int64_t g = 0; g < m->groups; g++) {
            if (active[g] <= m->small) continue;
            base[g] = eighths((float)m->thresholds[active[g] - 1]) -
                      eighths((float)(below[m->starts[g + 1]] - below[m->starts[g]]));
            any = 1;
        }
        for (int64_t channel = 0; any && channel < m->channels; channel++) {
            int64_t g = m->group_of[channel], place = m->place_of[channel];
            if (active[g] <= m->small) continue;
            int64_t row = ((eighths((float)(below[place + 1] - below[place])) + base[g]) >> 1) + m->row_of_one;
            int value = values[i * m->channels + channel];
            rows[n] = (uint8_t)(row < 0 ? 0 : row > m->last_row ? m->last_row : row);
            symbols[n] = (int16_t)(value < -reach ? -reach : value > reach ? reach : value);
            places[n++] = (int32_t)(i * m->channels + channel);
        }
    }
    int end = exchange(&r->coder, n, SYMBOLS);
    for (int64_t i = 0; end == DONE && i < n; i++) {
        if (r->coder.decoder) values[places[i]] = symbols[i];
        if (abs(symbols[i]) == reach) places[ends++] = places[i];
    }
    if (end == DONE && ends) end = code_beyond(r, values, places, ends, reach);
    free(places);
    return end;
}

/* Activities of a token's symbols, of which most are 0. */
static void activities_of(const Model *m, const int16_t *symbols, uint8_t *found) {
    enum { SIDE_BY_SIDE = 16 };
    int64_t sums[GROUPS] = {0};
    for (int64_t first = 0; first < m->channels; first += SIDE_BY_SIDE) {
        int64_t last = first + SIDE_BY_SIDE < m->channels ? first + SIDE_BY_SIDE : m->channels;
        int any = 0;
        for (int64_t c = first; c < last; c++) any |= symbols[c];
        for (int64_t c = first; any && c < last; c++) sums[m->group_of[c]] += abs(symbols[c]);
    }
    for (int64_t g = 0; g < m->groups; g++) {
        uint8_t activity = 0;
        while (activity < m->most && sums[g] >= m->thresholds[activity]) activity++;
        found[g] = activity;
    }
}

/* Which tokens hold something, and their numbers; returns how many. */
static int64_t active_tokens(const Model *m, const uint8_t *found, int64_t count, uint8_t *coded, int32_t *tokens) {
    int64_t active = 0;
    for (int64_t at = 0; at < count; at++) {
        coded[at] = (uint8_t)holds(m, found, at);
        tokens[active] = (int32_t)at;
        active += coded[at];
    }
    return active;
}

/* Parts of an envelope that coding a token's groups needs: none where nothing is, or a small sum is of one channel. */
static uint32_t parts_needed(const Residual *r, const uint8_t *activities) {
    const Model *m = r->model;
    uint32_t parts = 0;
    for (int64_t g = 0; g < m->groups; g++) {
        int is_alone = m->starts[g + 1] - m->starts[g] == 1;
        if (activities[g] > (is_alone ? m->small : 0)) parts |= r->parts_of[g];
    }
    return parts;
}

/* Symbols of tokens, so many at a time; an encoder's are copied to `some_values`, as they must lie side by side. */
static int code_values(Residual *r, const Picture *p, const int16_t *given, const uint8_t *found,
                       const uint8_t *quartered, const int32_t *tokens, int64_t count, int32_t *expected,
                       int16_t *some_values) {
    const Model *m = r->model;
    int64_t stride = p->columns * p->net->patch;
    for (int64_t start = 0; start < count; start += PER_PART) {
        int64_t some = count - start < PER_PART ? count - start : PER_PART;
        int16_t *values = given ? some_values : r->coder.walk->values + start * m->channels;
        for (int64_t i = 0, n; i < some; i += n) {
            Token mine[TOGETHER];
            for (n = 0; n < TOGETHER && i + n < some; n++) {
                int64_t at = tokens[start + i + n];
                if (given)
                    memcpy(values + (i + n) * m->channels, given + at * m->channels, (size_t)m->channels * sizeof *given);
                uint32_t parts = parts_needed(r, found + at * m->groups);
                mine[n] = token_at(p->net, p->luma, p->columns, at, p->steps[at], quartered[at], parts);
            }
            expect_tokens(p->net, mine, n, stride, expected + i * (m->channels + 1));
        }
        int end = code_small(r, found, tokens + start, some, expected, values);
        if (end == DONE) end = code_large(r, found, tokens + start, some, expected, values);
        if (end != DONE) return end;
    }
    return DONE;
}

/* Walk through what was left of a picture; returns why it ended.
 *
 * decoder: null to encode.  given: symbols of all tokens `[rows columns, channels]` to encode.
 * found: activities `[rows columns, groups]`, and coded: which tokens have any; both are outcomes.
 * quartered: of tokens, given to an encoder, else 0.  walk: empty; give it to `end_walk` in any case. */
EXPORT int walk_residual(const Model *model, const Picture *p, Decoder *decoder, const int16_t *given, uint8_t *found,
                         uint8_t *coded, uint8_t *quartered, Walk *walk) {
    Residual r = {.model = model, .coder = {&model->tables, walk, decoder}};
    int64_t count = p->rows * p->columns, size = model->channels;
    int16_t *outer = malloc((size_t)((count + 1) / 2 * model->groups + 1) * sizeof *outer);
    uint8_t *before = malloc((size_t)(3 * (count + 1) / 2 + 3));
    int16_t *space = calloc((size_t)(ROWS_OF_CONTEXTS * (p->columns + 2) * model->groups), sizeof *space);
    int32_t *tokens = malloc((size_t)(count + 1) * sizeof *tokens), *expected = 0;
    int16_t *values = 0;
    int end = outer && before && space && tokens ? DONE : NO_MEMORY;
    find_parts(model->starts, model->groups, r.parts_of);
    if (!decoder)
        for (int64_t at = 0; at < count; at++) activities_of(model, given + at * size, found + at * model->groups);
    if (end == DONE) end = code_activities(&r, p, found, space, tokens, outer, before);
    int64_t active = end == DONE ? active_tokens(model, found, count, coded, tokens) : 0;
    if (end == DONE) end = code_shapes(&r, found, tokens, active, quartered);
    if (end == DONE) {
        int64_t at_once = active < PER_PART ? active : PER_PART;
        expected = malloc((size_t)(at_once * (size + 1) + 1) * sizeof *expected);
        values = calloc((size_t)((decoder ? active : at_once) * size + 1), sizeof *values);
        if (!values || !expected) end = NO_MEMORY;
        if (decoder) walk->values = values, walk->num_values = active * size;
    }
    if (end == DONE) end = code_values(&r, p, given, found, quartered, tokens, active, expected, values);
    free(outer), free(before), free(space), free(tokens), free(expected);
    if (!decoder) free(values);
    return end;
}
