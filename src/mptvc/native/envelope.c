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

static inline double rounded(double x) {
    const double magic = 6755399441055744.0; /* 1.5 2^52 */
    return (x + magic) - magic;
}

/* The transform of pixels `[size, size]`, rows `stride` apart, to frequencies `[x, y]`, `apart` and `next` apart. */
static inline void frequencies(const uint8_t *pixels, int64_t stride, const double *dct, const int size, double *out,
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
static inline void levels_of(const uint8_t *pixels, int64_t stride, int quartered, const EnvelopeNet *net, float step,
                             float *levels) {
    double spectrum[MOST * MOST];
    const int patch = (int)net->patch, half = patch / 2;
    if (!quartered && patch == 16) frequencies(pixels, stride, net->dct, 16, spectrum, 16, 1);
    else if (!quartered) frequencies(pixels, stride, net->dct, patch, spectrum, patch, 1);
    else
        for (int x = 0; x < 2; x++)
            for (int y = 0; y < 2; y++)
                frequencies(pixels + y * half * stride + x * half, stride, net->half_dct, half,
                            spectrum + x * patch + y, 2 * patch, 2);
    double least = rounded((double)step * net->least);
    least = least < 1 ? 1 : least;
    int base = eighths((float)least);
    for (int i = 0; i < patch * patch; i++) {
        double magnitude = spectrum[i] < 0 ? -spectrum[i] : spectrum[i];
        int level = eighths((float)(rounded(magnitude * UNITS) + least)) - base;
        levels[i] = (float)(level < LIMIT ? level : LIMIT);
    }
}

static inline float floored(float accumulator) {
    int value = (int)accumulator >> 7; /* over WEIGHT_ONE */
    return (float)(value < 0 ? 0 : value > LIMIT ? LIMIT : value);
}

/* What is expected before each place of the order of channels, int32 `[count, channels + 1]`.
 *
 * luma: of the prediction, `columns patch` wide.  tokens: their numbers.  quartered: which of them are.
 * steps: of all tokens of the picture. */
CLONED EXPORT void expect(const EnvelopeNet *net, const uint8_t *luma, const int64_t *tokens, const uint8_t *quartered,
                          const float *steps, int64_t count, int64_t columns, int32_t *below) {
    const int64_t patch = net->patch, channels = net->channels, stride = columns * patch;
    const int64_t cells = patch < CELLS ? patch : CELLS, side = patch / cells, inputs = cells * cells + 1;
    for (int64_t n = 0; n < count; n++) {
        float levels[MOST * MOST], input[CELLS * CELLS + 1], hidden[HIDDEN], total[3 * MOST * MOST];
        int64_t at = tokens[n], shape = quartered[n];
        levels_of(luma + at / columns * patch * stride + at % columns * patch, stride, (int)shape, net, steps[at], levels);
        for (int64_t i = 0; i < cells * cells; i++) {
            const float *cell = levels + i / cells * side * patch + i % cells * side;
            float most = 0;
            for (int64_t y = 0; y < side; y++)
                for (int64_t x = 0; x < side; x++) most = cell[y * patch + x] > most ? cell[y * patch + x] : most;
            input[i] = most;
        }
        input[inputs - 1] = (float)(LIMIT * shape);
        memcpy(hidden, net->inner_bias, sizeof hidden);
        for (int64_t i = 0; i < inputs; i++)
            if (input[i] != 0)
                for (int j = 0; j < HIDDEN; j++) hidden[j] += input[i] * net->inner[i * HIDDEN + j];
        for (int64_t c = 0; c < channels; c++)
            total[c] = net->outer_bias[c] + shape * net->shape_bias[c] + levels[net->frequency_of[c]] * net->own[c];
        for (int j = 0; j < HIDDEN; j++) {
            float active = floored(hidden[j]);
            if (active == 0) continue;
            for (int64_t c = 0; c < channels; c++) total[c] += active * net->outer[j * channels + c];
        }
        int32_t *mine = below + n * (channels + 1), sum = 0;
        mine[0] = 0;
        for (int64_t c = 0; c < channels; c++) {
            int outcome = (int)floored(total[c]);
            sum += (16 + 2 * (outcome & 7)) << (outcome >> 3);
            mine[c + 1] = sum;
        }
    }
}
