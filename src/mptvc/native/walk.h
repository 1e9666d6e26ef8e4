/* Steps of entropy models: an encoder records them, a decoder reads them too. */

#ifndef MPTVC_WALK_H
#define MPTVC_WALK_H

#include "rans.h"

/* Values of a digit, and the most tables of a model. */
enum { DIGIT = 128, MOST_TABLES = 8 };
/* What ends a walk. */
enum { DONE, NO_MEMORY };

/* All tables of a model by their numbers; of an alphabet, integers are counted from its middle. */
typedef struct {
    const uint32_t *below[MOST_TABLES];
    const uint8_t *first[MOST_TABLES];
    int64_t alphabets[MOST_TABLES];
} Tables;

/* Everything that was coded: rows and symbols of all steps, one after the other, and each step's table and count. */
typedef struct {
    uint8_t *rows;
    int16_t *symbols;
    int64_t count, room;
    int64_t (*steps)[2];
    int64_t num_steps, room_for_steps;
    int16_t *values; /* symbols of tokens that hold something, if that was walked through */
    int64_t num_values;
} Walk;

typedef struct {
    const Tables *tables;
    Walk *walk;
    Decoder *decoder; /* null to encode */
} Coder;

/* Room for a step of up to so many symbols; 0 without memory. */
int make_room(Coder *c, int64_t count);

/* Code the step whose rows, and for an encoder symbols, lie behind all others; returns DONE or NO_MEMORY. */
int exchange(Coder *c, int64_t count, int table);

#endif
