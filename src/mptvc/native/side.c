/* The walk through a picture's side symbols: the steps of `mptvc.model.side`, where they are explained. */

#include "walk.h"
#include <stdlib.h>
#include <string.h>

enum { COEFFICIENTS = 6, STILL = 1, OWN, PARENT, KINDS = 11, UNKNOWN = 10, SIZES = 8 };
/* Numbers of tables. */
enum { CHOICES, VECTORS, DIGITS, CAMERA };

typedef struct {
    int64_t blends, farthest;
    const int64_t *kinds;    /* of each choice */
    const uint8_t *scale_of; /* [2, SIZES] */
    Tables tables;
} Model;

/* What is known of a picture; null where it is not. Vectors are `[2, rows, columns]`. */
typedef struct {
    int64_t rows, columns, parent_rows, parent_columns;
    int64_t factor;   /* how many times larger the picture is than its parent */
    int64_t has_path; /* whether vectors of others count from where their cameras lead */
    const int64_t *choices_before, *vectors_before, *coefficients_before; /* of the picture of its kind before */
    const int64_t *parent_choices, *parent_vectors, *parent_coefficients; /* on the parent's own grid */
    const int64_t *likely; /* coefficients of which differences are coded */
} Known;

/* The parent's block where one of the picture lies; factors are 1 and 2. */
static int64_t parent_of(const Known *k, int64_t y, int64_t x) {
    int64_t shift = k->factor - 1;
    return (y >> shift) * k->parent_columns + (x >> shift);
}

/* Which vector a block of some choice has. */
static int vector_of(const Model *m, int64_t choice) { return (int)choice / (int)m->blends; }

static int64_t floored(int64_t a, int64_t b) { return a / b - (a % b < 0); }

/* Differences that name the same vectors, all as near to the camera's. */
static int64_t wrapped(int64_t apart, int64_t farthest) {
    int64_t span = 2 * farthest + 1;
    return apart + farthest - span * floored(apart + farthest, span) - farthest;
}

/* Whether any of coefficients is not 0. */
static int moves(const int64_t *coefficients) {
    int64_t any = 0;
    for (int i = 0; i < COEFFICIENTS; i++) any |= coefficients[i];
    return any != 0;
}

/* Vectors that the motion of the whole picture gives blocks. */
static void camera_of(const int64_t *coefficients, const Known *k, int64_t *camera) {
    int64_t scale = k->rows * k->columns;
    if (!moves(coefficients)) { /* most often */
        memset(camera, 0, (size_t)(2 * scale) * sizeof *camera);
        return;
    }
    for (int axis = 0; axis < 2; axis++, coefficients += 3)
        for (int64_t y = 0; y < k->rows; y++)
            for (int64_t x = 0; x < k->columns; x++) {
                int64_t down = 2 * y - k->rows + 1, right = 2 * x - k->columns + 1;
                int64_t total = coefficients[0] * down * k->columns + coefficients[1] * right * k->rows;
                *camera++ = floored(2 * (total + coefficients[2] * scale) + 16 * scale, 32 * scale);
            }
}

/* Coefficients of the whole picture's motion, in two digits each, all upper ones first. */
static int code_coefficients(Coder *c, int64_t *coefficients) {
    for (int is_low = 0; is_low < 2; is_low++) {
        if (!make_room(c, COEFFICIENTS)) return NO_MEMORY;
        int16_t *symbols = c->walk->symbols + c->walk->count;
        memset(c->walk->rows + c->walk->count, 0, COEFFICIENTS);
        for (int i = 0; i < COEFFICIENTS; i++) {
            int64_t number = coefficients[i] + DIGIT * DIGIT / 2;
            symbols[i] = (int16_t)((is_low ? number % DIGIT : number / DIGIT) - DIGIT / 2);
        }
        if (exchange(c, COEFFICIENTS, DIGITS)) return NO_MEMORY;
        if (!c->decoder) continue;
        for (int i = 0; i < COEFFICIENTS; i++) {
            int64_t digit = symbols[i] + DIGIT / 2;
            coefficients[i] = is_low ? coefficients[i] + digit : digit * DIGIT - DIGIT * DIGIT / 2;
        }
    }
    return DONE;
}

/* A number from -DIGIT^2 / 2 on and below DIGIT^2 / 2 that stands for the same. */
static int64_t wrapped_number(int64_t number) {
    int64_t all = DIGIT * DIGIT;
    return number - all * floored(number + all / 2, all);
}

/* Coefficients as differences from likely ones, in two digits each, all upper ones first. */
static int code_differences(Coder *c, const int64_t *likely, int64_t *coefficients) {
    int64_t apart[COEFFICIENTS];
    int is_likely = moves(likely);
    for (int i = 0; i < COEFFICIENTS; i++) apart[i] = wrapped_number(coefficients[i] - likely[i]);
    for (int digit = 0; digit < 2; digit++) {
        if (!make_room(c, COEFFICIENTS)) return NO_MEMORY;
        uint8_t *rows = c->walk->rows + c->walk->count;
        int16_t *symbols = c->walk->symbols + c->walk->count;
        for (int i = 0; i < COEFFICIENTS; i++) {
            int64_t upper = floored(apart[i] + DIGIT / 2, DIGIT);
            rows[i] = (uint8_t)(4 * digit + 2 * (i % 3 == 2) + is_likely);
            symbols[i] = (int16_t)(digit ? apart[i] - DIGIT * upper : upper);
        }
        if (exchange(c, COEFFICIENTS, CAMERA)) return NO_MEMORY;
        if (c->decoder)
            for (int i = 0; i < COEFFICIENTS; i++) apart[i] = digit ? apart[i] + symbols[i] : DIGIT * symbols[i];
    }
    for (int i = 0; i < COEFFICIENTS; i++) coefficients[i] = wrapped_number(likely[i] + apart[i]);
    return DONE;
}

/* The kind that most of the four neighbours have, the first of several. */
static int64_t commonest_beside(const Model *m, const Known *k, const int64_t *choices, int64_t y, int64_t x) {
    int counts[KINDS] = {0}, best = 0;
    const int64_t *own = choices + y * k->columns + x;
    if (y) counts[m->kinds[own[-k->columns]]]++;
    if (y + 1 < k->rows) counts[m->kinds[own[k->columns]]]++;
    if (x) counts[m->kinds[own[-1]]]++;
    if (x + 1 < k->columns) counts[m->kinds[own[1]]]++;
    for (int kind = 1; kind < KINDS; kind++)
        if (counts[kind] > counts[best]) best = kind;
    return best;
}

static int code_choices(Coder *c, const Model *m, const Known *k, int64_t *choices) {
    int middle = (int)m->tables.alphabets[CHOICES] / 2;
    for (int half = 0; half < 2; half++) {
        if (!make_room(c, k->rows * k->columns)) return NO_MEMORY;
        uint8_t *rows = c->walk->rows + c->walk->count;
        int16_t *symbols = c->walk->symbols + c->walk->count;
        int64_t n = 0;
        for (int64_t y = 0; y < k->rows; y++)
            for (int64_t x = (y + half) & 1; x < k->columns; x += 2, n++) {
                int64_t at = y * k->columns + x, beside = UNKNOWN;
                int64_t before = k->choices_before ? m->kinds[k->choices_before[at]] : UNKNOWN;
                if (half) beside = commonest_beside(m, k, choices, y, x);
                else if (k->parent_choices) beside = m->kinds[k->parent_choices[parent_of(k, y, x)]];
                rows[n] = (uint8_t)((half * KINDS + beside) * KINDS + before);
                symbols[n] = (int16_t)(choices[at] - middle);
            }
        if (exchange(c, n, CHOICES)) return NO_MEMORY;
        n = 0;
        for (int64_t y = 0; y < k->rows; y++)
            for (int64_t x = (y + half) & 1; x < k->columns; x += 2, n++)
                choices[y * k->columns + x] = symbols[n] + middle;
    }
    return DONE;
}

/* What a vector of the first half of a checkerboard is likely to be; returns how much is in doubt. */
static int64_t likely_first(const Model *m, const Known *k, const int64_t *camera, const int64_t *line, int64_t at,
                            int64_t likely[2]) {
    int64_t size = k->rows * k->columns, doubt = 1;
    int differs = line[at] != camera[at] || line[size + at] != camera[size + at];
    int was_own = k->choices_before && vector_of(m, k->choices_before[at]) == OWN;
    const int64_t *from = differs || !k->choices_before ? line : was_own ? k->vectors_before : camera;
    for (int axis = 0; axis < 2; axis++) {
        likely[axis] = from[axis * size + at];
        doubt += llabs(likely[axis] - camera[axis * size + at]);
    }
    return differs || was_own ? doubt : 0;
}

/* The same of the second half, from the vectors of its neighbours. */
static int64_t likely_second(const Known *k, const int64_t *vectors, int64_t y, int64_t x, int64_t likely[2]) {
    int64_t size = k->rows * k->columns, doubt = 0, beside[4], count = 0;
    if (y) beside[count++] = -k->columns;
    if (y + 1 < k->rows) beside[count++] = k->columns;
    if (x) beside[count++] = -1;
    if (x + 1 < k->columns) beside[count++] = 1;
    for (int axis = 0; axis < 2; axis++) {
        const int64_t *own = vectors + axis * size + y * k->columns + x;
        int64_t total = 0;
        for (int64_t i = 0; i < count; i++) total += own[beside[i]];
        likely[axis] = floored(2 * total + count, 2 * (count ? count : 1));
        for (int64_t i = 0; i < count; i++) doubt += llabs(own[beside[i]] - likely[axis]);
    }
    return doubt;
}

/* Vectors of blocks that have one of their own; `at_and_likely` has room for three integers a block. */
static int code_vectors(Coder *c, const Model *m, const Known *k, const int64_t *camera, const int64_t *line,
                        const int64_t *choices, int64_t *vectors, int64_t *at_and_likely) {
    int64_t size = k->rows * k->columns, *places = at_and_likely, *likely = places + size;
    for (int half = 0; half < 2; half++) {
        if (!make_room(c, 2 * size)) return NO_MEMORY;
        uint8_t *rows = c->walk->rows + c->walk->count;
        int16_t *symbols = c->walk->symbols + c->walk->count;
        int64_t n = 0;
        for (int64_t y = 0; y < k->rows; y++)
            for (int64_t x = (y + half) & 1; x < k->columns; x += 2) {
                int64_t at = y * k->columns + x, found[2], bucket = 0;
                if (vector_of(m, choices[at]) != OWN) continue;
                int64_t doubt = half ? likely_second(k, vectors, y, x, found)
                                     : likely_first(m, k, camera, line, at, found);
                while (bucket < SIZES - 1 && doubt >= (int64_t)1 << bucket) bucket++;
                for (int axis = 0; axis < 2; axis++) {
                    int64_t apart = found[axis] - camera[axis * size + at];
                    likely[axis * size + n] = clamped(apart, -m->farthest, m->farthest);
                }
                rows[n] = m->scale_of[half * SIZES + bucket];
                places[n++] = at;
            }
        memcpy(rows + n, rows, (size_t)n);
        for (int axis = 0; axis < 2; axis++)
            for (int64_t i = 0; i < n; i++) {
                int64_t at = axis * size + places[i];
                int64_t apart = vectors[at] - camera[at] - likely[axis * size + i];
                symbols[axis * n + i] = (int16_t)wrapped(apart, m->farthest);
            }
        if (exchange(c, 2 * n, VECTORS)) return NO_MEMORY;
        for (int axis = 0; axis < 2; axis++)
            for (int64_t i = 0; i < n; i++) {
                int64_t at = axis * size + places[i], apart = likely[axis * size + i] + symbols[axis * n + i];
                vectors[at] = camera[at] + wrapped(apart, m->farthest);
            }
    }
    return DONE;
}

/* Vectors of another picture, whose camera moves as coefficients say, as if it moved as `camera`, in place. */
static void follow(const Known *k, int64_t *vectors, const int64_t *coefficients, const int64_t *camera,
                   int64_t *other_camera) {
    camera_of(coefficients, k, other_camera);
    for (int64_t i = 0; i < 2 * k->rows * k->columns; i++) vectors[i] += camera[i] - other_camera[i];
}

/* Vectors that the parent makes likely; room: for those of a camera. */
static void line_of(const Known *k, const int64_t *camera, int64_t *line, int64_t *room) {
    int64_t coefficients[COEFFICIENTS], *next = line;
    for (int axis = 0; axis < 2; axis++) {
        const int64_t *vectors = k->parent_vectors + axis * k->parent_rows * k->parent_columns;
        for (int64_t y = 0; y < k->rows; y++)
            for (int64_t x = 0; x < k->columns; x++) *next++ = k->factor * vectors[parent_of(k, y, x)];
    }
    for (int i = 0; i < COEFFICIENTS; i++) coefficients[i] = k->factor * k->parent_coefficients[i];
    if (k->has_path) follow(k, line, coefficients, camera, room);
}

/* Vectors of blocks `[2, rows, columns]` that the motion of the whole picture gives. */
EXPORT void camera_vectors(int64_t rows, int64_t columns, const int64_t *coefficients, int64_t *vectors) {
    Known k = {.rows = rows, .columns = columns};
    camera_of(coefficients, &k, vectors);
}

/* How far vectors to another picture are off straight lines where the camera moves as one set of coefficients to the
 * picture near, `near_apart` frames away, and as another one to that, `far_apart` frames; whether any is. */
EXPORT int bend_of(int64_t rows, int64_t columns, const int64_t *to_near, const int64_t *to_far, int64_t near_apart,
                   int64_t far_apart, int64_t *straight, int64_t *bend) {
    Known k = {.rows = rows, .columns = columns};
    int64_t any = 0;
    if (!moves(to_near) && !moves(to_far)) return 0;
    camera_of(to_near, &k, straight);
    camera_of(to_far, &k, bend);
    for (int64_t i = 0; i < 2 * rows * columns; i++) {
        bend[i] -= floored(2 * straight[i] * far_apart + near_apart, 2 * near_apart);
        any |= bend[i];
    }
    return any != 0;
}

/* Walk through a picture's side symbols; returns why it ended.
 *
 * decoder: null to encode.  coefficients: `[2, 3]`; the parent's where there is one and none are likely.
 * choices, vectors: what an encoder gives and a decoder finds.  walk: as for `walk_residual`. */
EXPORT int walk_side(const Model *m, const Known *k, Decoder *decoder, int64_t *coefficients, int64_t *choices,
                     int64_t *vectors, Walk *walk) {
    Coder c = {&m->tables, walk, decoder};
    int64_t size = k->rows * k->columns;
    int64_t *camera = malloc((size_t)(11 * size) * sizeof *camera), *line = camera;
    int end = camera ? DONE : NO_MEMORY;
    if (end == DONE && k->likely) end = code_differences(&c, k->likely, coefficients);
    else if (end == DONE && !k->parent_choices) end = code_coefficients(&c, coefficients);
    else if (end == DONE)
        for (int i = 0; i < COEFFICIENTS; i++) coefficients[i] = k->factor * k->parent_coefficients[i];
    if (end == DONE) end = code_choices(&c, m, k, choices);
    if (end == DONE) {
        camera_of(coefficients, k, camera);
        Known moved = *k;
        if (k->parent_choices) line_of(k, camera, line = camera + 5 * size, camera + 9 * size);
        if (k->choices_before && k->has_path) {
            int64_t *before = memcpy(camera + 7 * size, k->vectors_before, (size_t)(2 * size) * sizeof *before);
            follow(k, before, k->coefficients_before, camera, camera + 9 * size);
            moved.vectors_before = before;
        }
        for (int64_t i = 0; i < size; i++) {
            int vector = vector_of(m, choices[i]);
            if (!decoder && vector == OWN) continue;
            const int64_t *from = vector == PARENT ? line : camera;
            vectors[i] = vector == STILL ? 0 : from[i];
            vectors[size + i] = vector == STILL ? 0 : from[size + i];
        }
        end = code_vectors(&c, m, &moved, camera, line, choices, vectors, camera + 2 * size);
    }
    free(camera);
    return end;
}
