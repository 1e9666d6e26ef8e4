/* What a token's prediction lets expect of its channels: the same integers as `mptvc.model.envelope`.
 *
 * Sums of the network are of integers and below 2^24, so single precision holds them; those of the transforms
 * are below 2^53. */

#pragma GCC optimize("fp-contract=fast") /* fused or not, sums are the same */

#include "envelope.h"
#include "kernels.h"
#include <string.h>

enum { MOST = 16, HIDDEN = 48, CELLS = 8, LIMIT = 127 };
static const double UNITS = 64.0 / (1 << 26);

/* The transform of pixels `[size, size]`, rows `stride` apart, to frequencies `[x, y]`, `apart` and `next` apart. */
INLINED void frequencies(const uint8_t *pixels, int64_t stride, const double *dct, const int size, double *out,
                               int64_t apart, int64_t next) {
    double along_y[MOST][MOST], transposed[MOST][MOST]; /* [ky][x] */
    float values[MOST][MOST];
    for (int y = 0; y < size; y++)
        for (int x = 0; x < size; x++) values[y][x] = pixels[y * stride + x];
    for (int k = 0; k < size; k++) {
        float sums[MOST] = {0}; /* below 2^24: single precision holds them */
        for (int y = 0; y < size; y++)
            for (int x = 0; x < size; x++) sums[x] += (float)dct[k * size + y] * values[y][x];
        for (int x = 0; x < size; x++) along_y[k][x] = sums[x];
    }
    for (int k = 0; k < size; k++)
        for (int x = 0; x < size; x++) transposed[x][k] = along_y[k][x];
    for (int k = 0; k < size; k++) {
        double sums[MOST] = {0}; /* [ky] */
        for (int x = 0; x < size; x++)
            for (int l = 0; l < size; l++) sums[l] += dct[k * size + x] * transposed[x][l];
        for (int l = 0; l < size; l++) out[k * apart + l * next] = sums[l];
    }
}

/* Levels `[patch^2]` of the spectrum of a token. */
INLINED void levels_of(const uint8_t *pixels, int64_t stride, int quartered, const EnvelopeNet *net, float step,
                             float *levels) {
    double spectrum[MOST * MOST];
    const int patch = (int)net->patch, half = patch / 2;
    if (!quartered) SIZED(patch, frequencies(pixels, stride, net->dct, SIZE, spectrum, SIZE, 1));
    else
        for (int x = 0; x < 2; x++)
            for (int y = 0; y < 2; y++) {
                const uint8_t *quarter = pixels + y * half * stride + x * half;
                double *out = spectrum + x * patch + y;
                SIZED(half, frequencies(quarter, stride, net->half_dct, SIZE, out, 4 * SIZE, 2));
            }
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

CLONED void expect_token(const EnvelopeNet *net, const uint8_t *pixels, int64_t stride, int quartered, float step,
                         int32_t *below) {
    const int64_t patch = net->patch, channels = net->channels;
    const int64_t cells = patch < CELLS ? patch : CELLS, side = patch / cells, inputs = cells * cells + 1;
    float levels[MOST * MOST], input[CELLS * CELLS + 1], hidden[HIDDEN], total[3 * MOST * MOST];
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
    for (int64_t c = 0; c < channels; c++)
        total[c] = net->outer_bias[c] + quartered * net->shape_bias[c] + levels[net->frequency_of[c]] * net->own[c];
    for (int j = 0; j < HIDDEN; j++) {
        float active = floored(hidden[j]);
        if (active == 0) continue;
        for (int64_t c = 0; c < channels; c++) total[c] += active * net->outer[j * channels + c];
    }
    int32_t sum = below[0] = 0;
    for (int64_t c = 0; c < channels; c++) {
        int outcome = (int)floored(total[c]);
        sum += (16 + 2 * (outcome & 7)) << (outcome >> 3);
        below[c + 1] = sum;
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
