/* Steps of entropy models. */

#include "walk.h"
#include <stdlib.h>

int make_room(Coder *c, int64_t count) {
    Walk *w = c->walk;
    if (w->count + count > w->room) {
        int64_t room = 2 * (w->count + count) + 1024;
        uint8_t *rows = realloc(w->rows, (size_t)room);
        if (rows) w->rows = rows;
        int16_t *symbols = realloc(w->symbols, (size_t)room * sizeof *symbols);
        if (symbols) w->symbols = symbols;
        if (!rows || !symbols) return 0;
        w->room = room;
    }
    if (w->num_steps == w->room_for_steps) {
        int64_t room = 2 * w->num_steps + 64;
        void *steps = realloc(w->steps, (size_t)room * sizeof *w->steps);
        if (!steps) return 0;
        w->steps = steps, w->room_for_steps = room;
    }
    return 1;
}

int exchange(Coder *c, int64_t count, int table) {
    Walk *w = c->walk;
    const Tables *t = c->tables;
    if (c->decoder && rans_decode(c->decoder, w->rows + w->count, count, t->below[table], t->first[table],
                                  t->alphabets[table], w->symbols + w->count))
        return NO_MEMORY;
    w->steps[w->num_steps][0] = table, w->steps[w->num_steps++][1] = count;
    w->count += count;
    return DONE;
}

/* Whether rows and symbols of steps, as in a walk, are all in their tables, of which there are so many rows each. */
EXPORT int steps_fit(const uint8_t *rows, const int16_t *symbols, const int64_t (*steps)[2], int64_t num_steps,
                     const int64_t *lengths, const int64_t *alphabets) {
    int fit = 1;
    for (int64_t i = 0; i < num_steps; rows += steps[i][1], symbols += steps[i][1], i++) {
        int length = (int)lengths[steps[i][0]], reach = (int)alphabets[steps[i][0]] / 2;
        for (int64_t n = 0; n < steps[i][1]; n++) fit &= rows[n] < length && symbols[n] >= -reach && symbols[n] <= reach;
    }
    return fit;
}

/* Encode steps, the last one first, of which rows and symbols lie one after the other; returns the number of words
 * written, -1 without memory.
 *
 * steps: each one's table and count, as in a walk.  words: room for as many as there are symbols. */
EXPORT int64_t encode_steps(uint64_t *state, const uint8_t *rows, const int16_t *symbols, int64_t count,
                            const int64_t (*steps)[2], int64_t num_steps, const Tables *tables, uint32_t *words) {
    int64_t written = 0;
    for (int64_t i = num_steps; i-- > 0;) {
        int64_t table = steps[i][0], mine = steps[i][1];
        count -= mine;
        int64_t more = rans_encode(state, rows + count, symbols + count, mine, tables->below[table],
                                   tables->alphabets[table], words + written);
        if (more < 0) return -1;
        written += more;
    }
    return written;
}

/* Give the memory of a walk back. */
EXPORT void end_walk(Walk *walk) { free(walk->rows), free(walk->symbols), free(walk->steps), free(walk->values); }
