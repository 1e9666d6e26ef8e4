/* What a token's prediction lets expect of its channels: the same integers as `mptvc.model.envelope`.
 *
 * Sums of the network are of integers and below 2^24, so single precision holds them; those of the transforms
 * are below 2^53. */

#pragma GCC optimize("fp-contract=fast") /* fused or not, sums are the same */

#define NUMBER double
#include "envelope.h"
#include "kernels.h"
#include "transform.h"
#include <string.h>

enum { HIDDEN = 48, CELLS = 8, LIMIT = 127, FLOATS = WIDE / 4 };
typedef float Floats __attribute__((vector_size(FLOATS * sizeof(float))));
typedef int32_t Ints __attribute__((vector_size(FLOATS * sizeof(int32_t))));
static const double UNITS = 64.0 / (1 << 26);

/* Levels `[patch^2]` of the spectrum of a token. */
INLINED void levels_of(const EnvelopeNet *net, const Token *token, int64_t stride, const int patch, float *levels) {
    double values[MOST * MOST], spectrum[MOST * MOST];
    for (int y = 0; y < patch; y++)
        for (int x = 0; x < patch; x++) values[y * patch + x] = token->pixels[y * stride + x];
    token_frequencies(values, net->dct, net->half_dct, token->quartered, patch, spectrum);
    double least = rounded((double)token->step * net->least);
    least = least < 1 ? 1 : least;
    int base = eighths((float)least);
    float sums[MOST * MOST];
    int32_t bits[MOST * MOST]; /* of them, each as a step of its own, or compilers use no vectors */
    for (int i = 0; i < patch * patch; i++) {
        double magnitude = spectrum[i] < 0 ? -spectrum[i] : spectrum[i];
        sums[i] = (float)(rounded(magnitude * UNITS) + least);
    }
    memcpy(bits, sums, (size_t)(patch * patch) * sizeof *bits);
    for (int i = 0; i < patch * patch; i += FLOATS) {
        Ints level;
        memcpy(&level, bits + i, sizeof level);
        level = (level >> EIGHTHS) - (EXPONENT + base);
        Ints above = level > LIMIT;
        Floats whole = __builtin_convertvector((level & ~above) | (LIMIT & above), Floats);
        memcpy(levels + i, &whole, sizeof whole);
    }
}

/* The largest levels `[cells, cells]` of cells of `side` along both axes. */
INLINED void largest(const float *levels, int cells, int side, float *found) {
    float rows[MOST];
    int patch = cells * side;
    for (int y = 0; y < cells; y++) {
        memcpy(rows, levels + y * side * patch, (size_t)patch * sizeof *rows);
        for (int line = 1; line < side; line++)
            for (int x = 0; x < patch; x++) {
                float level = levels[(y * side + line) * patch + x];
                rows[x] = level > rows[x] ? level : rows[x];
            }
        for (int x = 0; x < cells; x++) {
            float most = rows[x * side];
            for (int k = 1; k < side; k++) most = rows[x * side + k] > most ? rows[x * side + k] : most;
            found[y * cells + x] = most;
        }
    }
}

INLINED Floats floats_at(const float *from) {
    Floats found;
    memcpy(&found, from, sizeof found);
    return found;
}

/* Add the products of some hidden units with their weights `[HIDDEN, WIDE]`, in registers meanwhile. */
INLINED void add_products(const float *hidden, const int *places, int active, const float *weights, Floats *sums) {
    Floats a = sums[0], b = sums[1], c = sums[2], d = sums[3];
    for (int i = 0; i < active; i++) {
        const float *mine = weights + places[i] * WIDE, unit = hidden[places[i]];
        a += unit * floats_at(mine), b += unit * floats_at(mine + FLOATS);
        c += unit * floats_at(mine + 2 * FLOATS), d += unit * floats_at(mine + 3 * FLOATS);
    }
    sums[0] = a, sums[1] = b, sums[2] = c, sums[3] = d;
}

/* Numbers between 0 and LIMIT. */
INLINED Ints limited(Ints x) {
    x &= ~(x >> 31);
    Ints above = x > LIMIT;
    return (x & ~above) | (LIMIT & above);
}

/* What sums expect: `magnitudes` of them over WEIGHT_ONE. */
INLINED Ints magnitudes(Floats sums) {
    Ints outcome = limited(__builtin_convertvector(sums, Ints) >> 7);
    return (16 + 2 * (outcome & 7)) << (outcome >> 3);
}

#ifdef __clang__
#define CHOSEN(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define CHOSEN(a, b, ...) __builtin_shuffle(a, b, (Ints){__VA_ARGS__})
#endif

/* Of each the sum of all up to it. */
INLINED Ints summed(Ints x) {
    const Ints none = {0};
    x += CHOSEN(none, x, 0, 8, 9, 10, 11, 12, 13, 14);
    x += CHOSEN(none, x, 0, 0, 8, 9, 10, 11, 12, 13);
    return x + CHOSEN(none, x, 0, 0, 0, 0, 8, 9, 10, 11);
}

/* What the network sees of a token: its levels, the hidden units, and the places of those of these that are not 0. */
typedef struct {
    float levels[MOST * MOST], hidden[HIDDEN];
    int places[HIDDEN], active;
} Seen;

/* Where numbers are not 0; returns how many. */
INLINED int nonzero(const float *values, int count, int *places) {
    int n = 0;
    for (int i = 0; i < count; i++) {
        int32_t bits;
        memcpy(&bits, values + i, sizeof bits);
        places[n] = i, n += bits != 0;
    }
    return n;
}

INLINED void see(const EnvelopeNet *net, const Token *token, int64_t stride, Seen *seen) {
    const int patch = (int)net->patch, cells = patch < CELLS ? patch : CELLS, inputs = cells * cells + 1;
    float input[CELLS * CELLS + 1];
    int places[CELLS * CELLS + 1];
    TOKEN_SIZED(patch, levels_of(net, token, stride, SIZE, seen->levels));
    if (patch > cells) largest(seen->levels, CELLS, 2, input);
    else memcpy(input, seen->levels, (size_t)(cells * cells) * sizeof *input);
    input[inputs - 1] = (float)(LIMIT * token->quartered);
    Floats sums[HIDDEN / FLOATS];
    memcpy(sums, net->inner_bias, sizeof sums);
    for (int i = 0, active = nonzero(input, inputs, places); i < active; i++)
        for (int k = 0; k < HIDDEN / FLOATS; k++)
            sums[k] += input[places[i]] * floats_at(net->inner + places[i] * HIDDEN + k * FLOATS);
    for (int k = 0; k < HIDDEN / FLOATS; k++) {
        Ints whole = __builtin_convertvector(sums[k], Ints) >> 7; /* over WEIGHT_ONE */
        Floats kept = __builtin_convertvector(limited(whole), Floats);
        memcpy(seen->hidden + k * FLOATS, &kept, sizeof kept);
    }
    seen->active = nonzero(seen->hidden, HIDDEN, seen->places);
}

/* What is expected of `WIDE` channels from `first` on, added to what is of those before. */
INLINED void expect_part(const EnvelopeNet *net, const Seen *seen, const float *own, int quartered, int64_t first,
                         int32_t *below) {
    Floats sums[4];
    for (int k = 0; k < 4; k++) {
        int64_t c = first + k * FLOATS;
        sums[k] = floats_at(net->outer_bias + c) + (float)quartered * floats_at(net->shape_bias + c) +
                  floats_at(own + k * FLOATS) * floats_at(net->own + c);
    }
    add_products(seen->hidden, seen->places, seen->active, net->outer + first * HIDDEN, sums);
    int32_t sum = below[first];
    for (int k = 0; k < 4; k++) {
        Ints found = summed(magnitudes(sums[k])) + sum;
        memcpy(below + first + k * FLOATS + 1, &found, sizeof found);
        sum = found[FLOATS - 1];
    }
}

CLONED void expect_tokens(const EnvelopeNet *net, const Token *tokens, int64_t count, int64_t stride, int32_t *below) {
    Seen seen[TOGETHER];
    float own[TOGETHER][WIDE];
    const int64_t apart = net->channels + 1;
    for (int64_t n = 0; n < count; n++)
        if (tokens[n].parts) see(net, tokens + n, stride, seen + n);
    for (int64_t first = 0; first < net->channels; first += WIDE) { /* whose weights stay in the cache for all tokens */
        uint32_t part = 1u << (first / WIDE);
        for (int64_t n = 0; n < count; n++) /* at once, as vectors cannot be read right after their numbers are written */
            for (int c = 0; (tokens[n].parts & part) && c < WIDE; c++)
                own[n][c] = seen[n].levels[net->frequency_of[first + c]];
        for (int64_t n = 0; n < count; n++) {
            int32_t *mine = below + n * apart;
            if (!(tokens[n].parts & part)) continue;
            if (!(tokens[n].parts & part >> 1)) mine[first] = 0;
            expect_part(net, seen + n, own[n], tokens[n].quartered, first, mine);
        }
    }
}

/* What is expected before each place of the order of channels, int32 `[count, channels + 1]`.
 *
 * luma: of the prediction, `columns patch` wide.  tokens: their numbers.  quartered: which of them are.
 * steps: of all tokens of the picture. */
EXPORT void expect(const EnvelopeNet *net, const uint8_t *luma, const int64_t *tokens, const uint8_t *quartered,
                   const float *steps, int64_t count, int64_t columns, int32_t *below) {
    int64_t stride = columns * net->patch;
    for (int64_t start = 0; start < count; start += TOGETHER) {
        Token some[TOGETHER];
        int64_t n = 0;
        for (; n < TOGETHER && start + n < count; n++) {
            int64_t at = tokens[start + n];
            some[n] = token_at(net, luma, columns, at, steps[at], quartered[start + n], ALL_PARTS);
        }
        expect_tokens(net, some, n, stride, below + start * (net->channels + 1));
    }
}
