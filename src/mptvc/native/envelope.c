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

enum { HIDDEN = 48, CELLS = 8, LIMIT = 127, FLOATS = 8, WIDE = 4 * FLOATS };
typedef float Floats __attribute__((vector_size(FLOATS * sizeof(float))));
typedef int32_t Ints __attribute__((vector_size(FLOATS * sizeof(int32_t))));
static const double UNITS = 64.0 / (1 << 26);

/* Levels `[patch^2]` of the spectrum of a token. */
INLINED void levels_of(const uint8_t *pixels, int64_t stride, int quartered, const EnvelopeNet *net, float step,
                             float *levels) {
    double values[MOST * MOST], spectrum[MOST * MOST];
    const int64_t patch = net->patch;
    for (int64_t y = 0; y < patch; y++)
        for (int64_t x = 0; x < patch; x++) values[y * patch + x] = pixels[y * stride + x];
    TOKEN_SIZED(patch, token_frequencies(values, net->dct, net->half_dct, quartered, SIZE, spectrum));
    double least = rounded((double)step * net->least);
    least = least < 1 ? 1 : least;
    int base = eighths((float)least);
    for (int i = 0; i < patch * patch; i++) {
        double magnitude = spectrum[i] < 0 ? -spectrum[i] : spectrum[i];
        int level = eighths((float)(rounded(magnitude * UNITS) + least)) - base;
        levels[i] = (float)(level < LIMIT ? level : LIMIT);
    }
}

INLINED float floored(float accumulator) {
    int value = (int)accumulator >> 7; /* over WEIGHT_ONE */
    return (float)(value < 0 ? 0 : value > LIMIT ? LIMIT : value);
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
        const float *mine = weights + places[i] * WIDE;
        a += hidden[i] * floats_at(mine), b += hidden[i] * floats_at(mine + FLOATS);
        c += hidden[i] * floats_at(mine + 2 * FLOATS), d += hidden[i] * floats_at(mine + 3 * FLOATS);
    }
    sums[0] = a, sums[1] = b, sums[2] = c, sums[3] = d;
}

/* What sums expect: `magnitudes` of them over WEIGHT_ONE, between 0 and LIMIT. */
INLINED Ints magnitudes(Floats sums) {
    Ints outcome = __builtin_convertvector(sums, Ints) >> 7;
    outcome &= ~(outcome >> 31);
    Ints above = outcome > LIMIT;
    outcome = (outcome & ~above) | (LIMIT & above);
    return (16 + 2 * (outcome & 7)) << (outcome >> 3);
}

CLONED void expect_token(const EnvelopeNet *net, const uint8_t *pixels, int64_t stride, int quartered, float step,
                         int32_t *below) {
    const int64_t patch = net->patch, channels = net->channels;
    const int64_t cells = patch < CELLS ? patch : CELLS, side = patch / cells, inputs = cells * cells + 1;
    float levels[MOST * MOST], input[CELLS * CELLS + 1], hidden[HIDDEN];
    levels_of(pixels, stride, quartered, net, step, levels);
    for (int64_t i = 0; i < cells * cells; i++) {
        const float *cell = levels + i / cells * side * patch + i % cells * side;
        float most = 0;
        for (int64_t y = 0; y < side; y++)
            for (int64_t x = 0; x < side; x++) most = cell[y * patch + x] > most ? cell[y * patch + x] : most;
        input[i] = most;
    }
    input[inputs - 1] = (float)(LIMIT * quartered);
    memcpy(hidden, net->inner_bias, sizeof hidden);
    for (int64_t i = 0; i < inputs; i++)
        if (input[i] != 0)
            for (int j = 0; j < HIDDEN; j++) hidden[j] += input[i] * net->inner[i * HIDDEN + j];
    int active = 0, places[HIDDEN];
    for (int j = 0; j < HIDDEN; j++) {
        hidden[active] = floored(hidden[j]), places[active] = j;
        active += hidden[active] != 0;
    }
    int32_t sum = below[0] = 0;
    for (int64_t first = 0; first < channels; first += WIDE) { /* as many as registers hold */
        float own[WIDE];
        Floats sums[4];
        for (int c = 0; c < WIDE; c++) own[c] = levels[net->frequency_of[first + c]];
        for (int k = 0; k < 4; k++) {
            int64_t c = first + k * FLOATS;
            sums[k] = floats_at(net->outer_bias + c) + (float)quartered * floats_at(net->shape_bias + c) +
                      floats_at(own + k * FLOATS) * floats_at(net->own + c);
        }
        add_products(hidden, places, active, net->outer + first * HIDDEN, sums);
        int32_t expected[WIDE];
        for (int k = 0; k < 4; k++) {
            Ints found = magnitudes(sums[k]);
            memcpy(expected + k * FLOATS, &found, sizeof found);
        }
        for (int c = 0; c < WIDE; c++) below[first + c + 1] = sum += expected[c];
    }
}

/* What is expected before each place of the order of channels, int32 `[count, channels + 1]`.
 *
 * luma: of the prediction, `columns patch` wide.  tokens: their numbers.  quartered: which of them are.
 * steps: of all tokens of the picture. */
EXPORT void expect(const EnvelopeNet *net, const uint8_t *luma, const int64_t *tokens, const uint8_t *quartered,
                   const float *steps, int64_t count, int64_t columns, int32_t *below) {
    int64_t stride = columns * net->patch;
    for (int64_t n = 0; n < count; n++) {
        int64_t at = tokens[n];
        const uint8_t *pixels = luma + at / columns * net->patch * stride + at % columns * net->patch;
        expect_token(net, pixels, stride, quartered[n], steps[at], below + n * (net->channels + 1));
    }
}
