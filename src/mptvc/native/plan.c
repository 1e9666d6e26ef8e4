/* How an encoder predicts a picture, block by block, as `mptvc.codec.plan` does, where it is explained.
 *
 * No decoder needs it, so it may differ in the last digits of floating point. */

#pragma GCC optimize("fast-math", "fp-contract=fast")

#define NUMBER float
#include "blocks.h"
#include "kernels.h"
#include "transform.h"
#include <math.h>
#include <stdlib.h>

enum { OWN = 2, BLENDS = BASE, MOST_FIELDS = 8 };

/* A picture of `rows x columns` blocks in luma, and what is known of it; blocks' vectors are `[2, rows, columns]`. */
typedef struct {
    int64_t rows, columns, patch, margin, near_apart, far_apart, is_between, has_base, farthest, rounds,
        choices, num_fields;
    float bit_price, good, own_bits, far_bits, latent_cost, doubling_cost;
    const uint8_t *near, *far; /* planes; far is null where there is no such picture */
    const uint8_t *wanted, *below;
    const float *scales, *bits, *dct; /* bits: of each block's choices */
    const int64_t *parent;            /* vectors */
    const int64_t *bend;              /* what vectors to the picture far are off straight lines, or null */
    int64_t kinds[MOST_FIELDS];       /* of fields of vectors to try: the first one is the camera's */
    const int64_t *fields[MOST_FIELDS];
    int64_t *numbers, *vectors, *choice; /* of each block: what is found */
    float *best;
    uint8_t *moved; /* what its vector finds */
} Plan;

/* log2 of a number from 1 on, within 1/1000. */
INLINED float log2_about(float x) {
    union {
        float number;
        int32_t bits;
    } stored = {x};
    float octave = (float)((stored.bits >> 23) - 127);
    stored.bits = (stored.bits & 0x7FFFFF) | 0x3F800000;
    float m = stored.number;
    return octave + ((0.15824871f * m - 1.05187502f) * m + 3.0478842f) * m - 2.1536207f;
}

/* Cost of a block instead of the one that is wanted: about what is left in tokens of so many pixels costs, in squared
 * steps; see `mptvc.codec.plan`. */
INLINED float sized_cost(const Plan *p, const uint8_t *block, int64_t at, const int patch) {
    const uint8_t *wanted = p->wanted + at / p->columns * BLOCK * p->columns * BLOCK + at % p->columns * BLOCK;
    float apart[CELL], latents[CELL], total = 0;
    for (int y = 0; y < BLOCK; y++)
        for (int x = 0; x < BLOCK; x++)
            apart[y * BLOCK + x] = (float)(wanted[y * p->columns * BLOCK + x] - block[y * BLOCK + x]) * p->scales[at];
    frequencies(apart, p->dct, patch, BLOCK, latents);
    for (int i = 0; i < CELL; i++) {
        float square = latents[i] * latents[i];
        float coded = log2_about(square > 1 ? square : 1) * p->doubling_cost + p->latent_cost;
        total += square < coded ? square : coded;
    }
    return total;
}

INLINED float cost_of(const Plan *p, const uint8_t *block, int64_t at) {
    float cost;
    TOKEN_SIZED(p->patch, cost = sized_cost(p, block, at, SIZE));
    return cost;
}

INLINED int64_t scaled(int64_t vector, int64_t numerator, int64_t denominator) {
    int64_t total = 2 * vector * numerator + denominator, span = 2 * denominator;
    return total / span - (total % span < 0);
}

INLINED Reference reference(const Plan *p, const uint8_t *planes) {
    Reference found = {planes, 1, p->rows * BLOCK + 2 * p->margin, p->columns * BLOCK + 2 * p->margin, p->margin};
    return found;
}

/* The block that a vector finds in the picture near, or in the one far. */
INLINED void find(const Plan *p, int64_t at, int64_t dy, int64_t dx, int in_far, uint8_t *block) {
    Reference r = reference(p, in_far ? p->far : p->near);
    if (in_far) {
        dy = scaled(dy, p->far_apart, p->near_apart), dx = scaled(dx, p->far_apart, p->near_apart);
        if (p->bend) dy += p->bend[at], dx += p->bend[p->rows * p->columns + at];
    }
    window(&r, 0, at / p->columns * BLOCK * 4 + dy, at % p->columns * BLOCK * 4 + dx, BLOCK, block);
}

/* About what a vector of its own takes. */
INLINED float own_bits(const Plan *p, int64_t at, int64_t dy, int64_t dx) {
    float y = (float)llabs(dy - p->parent[at]), x = (float)llabs(dx - p->parent[p->rows * p->columns + at]);
    return p->own_bits + p->far_bits * (log2f(1 + y) + log2f(1 + x));
}

/* Take a vector for a block if it costs less than the best so far; whether it does. */
INLINED int try_vector(const Plan *p, int64_t at, int64_t kind, int64_t dy, int64_t dx) {
    int64_t size = p->rows * p->columns, plain = p->is_between ? BOTH : NEAR;
    uint8_t block[CELL], other[CELL];
    find(p, at, dy, dx, 0, block);
    if (p->is_between) {
        find(p, at, dy, dx, 1, other);
        average(block, other);
    }
    float taken = p->bits[at * p->choices + kind * BLENDS + plain];
    if (kind == OWN) taken += own_bits(p, at, dy, dx);
    float cost = cost_of(p, block, at) + p->bit_price * taken;
    if (cost >= p->best[at]) return 0;
    p->best[at] = cost, p->numbers[at] = kind;
    p->vectors[at] = dy, p->vectors[size + at] = dx;
    memcpy(p->moved + at * CELL, block, CELL);
    return 1;
}

/* Try the vectors a quarter pixel around the best one, but for those that were tried around the one `before`, which
 * becomes that one; whether one of them costs less. */
INLINED int try_around(const Plan *p, int64_t at, int64_t *before) {
    int64_t size = p->rows * p->columns, y = p->vectors[at], x = p->vectors[size + at];
    int is_better = 0;
    for (int64_t dy = y - 1; dy <= y + 1; dy++)
        for (int64_t dx = x - 1; dx <= x + 1; dx++) {
            int64_t down = dy - p->fields[0][at], right = dx - p->fields[0][size + at];
            if ((dy == y && dx == x) || llabs(down) > p->farthest || llabs(right) > p->farthest) continue;
            int64_t up = llabs(dy - before[0]), left = llabs(dx - before[1]);
            if (up <= 1 && left <= 1 && up + left) continue;
            is_better |= try_vector(p, at, OWN, dy, dx);
        }
    before[0] = y, before[1] = x;
    return is_better;
}

/* Choose the vectors of some rows of blocks. */
CLONED EXPORT void plan_vectors(const Plan *p, int64_t first, int64_t last) {
    int64_t size = p->rows * p->columns, plain = p->is_between ? BOTH : NEAR;
    for (int64_t at = first * p->columns; at < last * p->columns; at++) {
        p->best[at] = 1e30f;
        for (int64_t i = 0; i < p->num_fields && p->best[at] > p->good; i++) {
            int64_t dy = p->fields[i][at], dx = p->fields[i][size + at];
            int was_tried = 0;
            for (int64_t k = 0; k < i; k++) was_tried |= dy == p->fields[k][at] && dx == p->fields[k][size + at];
            if (!was_tried) try_vector(p, at, p->kinds[i], dy, dx);
        }
        int64_t before[2] = {INT32_MIN, INT32_MIN};
        for (int64_t i = 0; i < p->rounds && p->best[at] > p->good; i++)
            if (!try_around(p, at, before)) break;
        p->choice[at] = p->numbers[at] * BLENDS + plain;
    }
}

/* Choose how some rows of blocks are blended with what else is there, once all vectors are chosen.
 *
 * further: vectors to the picture far, where there is one. */
CLONED EXPORT void plan_blends(const Plan *p, const int64_t *further, int64_t first, int64_t last) {
    int64_t size = p->rows * p->columns;
    for (int64_t at = first * p->columns; at < last * p->columns; at++) {
        if (p->best[at] <= p->good) continue;
        const float *bits = p->bits + at * p->choices;
        const uint8_t *moved = p->moved + at * CELL;
        int64_t dy = p->vectors[at], dx = p->vectors[size + at], row = at / p->columns, column = at % p->columns;
        float extra = p->numbers[at] == OWN ? own_bits(p, at, dy, dx) : 0;
        static const int blends[2][5] = {{OVERLAPPED, BOTH, NEAR_BASE, BASE, -1}, {BOTH_OVERLAPPED, NEAR, FAR, BOTH_BASE, BASE}};
        for (int i = 0; i < 5; i++) {
            int blend = blends[p->is_between][i];
            uint8_t block[CELL], other[CELL];
            if (blend < 0 || (blend == BOTH && !p->far)) continue;
            if ((blend == NEAR_BASE || blend == BOTH_BASE) && !p->has_base) continue;
            if (blend == OVERLAPPED || blend == BOTH_OVERLAPPED) {
                if (!differs(p->vectors, p->rows, p->columns, row, column)) continue;
                Reference near = reference(p, p->near), far = reference(p, p->far);
                overlapped_block(&near, 0, p->vectors, p->rows, p->columns, row, column, block);
                if (p->is_between) {
                    overlapped_block(&far, 0, further, p->rows, p->columns, row, column, other);
                    average(block, other);
                }
            } else if (blend == NEAR || blend == FAR) {
                find(p, at, dy, dx, blend == FAR, block);
            } else {
                memcpy(block, moved, CELL);
                if (blend == BOTH) find(p, at, dy, dx, 1, other);
                uint8_t *into = blend == BOTH ? 0 : blend == BASE ? block : other;
                for (int y = 0; into && y < BLOCK; y++)
                    memcpy(into + y * BLOCK, p->below + ((row * BLOCK + y) * p->columns + column) * BLOCK, BLOCK);
                if (blend != BASE) average(block, other);
            }
            int64_t choice = blend == BASE ? p->choices - 1 : p->numbers[at] * BLENDS + blend;
            float cost = cost_of(p, block, at) + p->bit_price * (bits[choice] + (blend == BASE ? 0 : extra));
            if (cost < p->best[at]) p->best[at] = cost, p->choice[at] = choice;
        }
    }
}
