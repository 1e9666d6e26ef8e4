/* What an encoder makes of what prediction leaves, as `mptvc.codec.quantization` does, where it is explained.
 *
 * No decoder needs it, so it may differ in the last digits of floating point. */

#pragma GCC optimize("fast-math", "fp-contract=fast")

#define NUMBER float
#include "envelope.h"
#include "kernels.h"
#include "transform.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { CHANNELS = 3 * MOST * MOST, GROUPS = 64, CONTEXTS = 16 };

/* Constants of `mptvc.codec.quantization`, and an entropy model with the bits of all that its tables code. */
typedef struct {
    int64_t groups, channels, activities, contexts, alphabet, shapes, small, row_of_one, last_row, most_sum, largest,
        has_flags;
    float rounding_low, rounding, least_energy, bit_price, few, group_price, one_bits, outward, digit_bits;
    const float *activity_bits, *symbol_bits, *shape_bits, *coded_bits, *log_factorials;
    const uint8_t *row_of;
    const int64_t *thresholds, *group_of, *place_of, *starts, *order;
    const float *dct, *half_dct, *colours;
} Quantizer;

typedef int32_t Ints __attribute__((vector_size(32)));
typedef int16_t Shorts __attribute__((vector_size(16)));

typedef struct {
    float latents[CHANNELS];
    int16_t symbols[CHANNELS];
    int32_t nonzero[CHANNELS]; /* channels whose symbol is not 0 */
    int64_t count;             /* of these */
    float explained;
} Try;

/* Symbols for latents; groups with little in them only where they pay. */
INLINED void round_try(const Quantizer *q, const float *rounding, Try *t) {
    const int32_t largest = (int32_t)q->largest;
    int64_t count = 0;
    for (int64_t c = 0; c < q->channels; c += LANES) {
        Lanes latents = load(t->latents + c), added = load(rounding + c);
        Lanes away = (Lanes)((Ints)added | ((Ints)latents & INT32_MIN));
        Ints symbols = __builtin_convertvector(latents + away, Ints);
        Ints above = symbols > largest, below = symbols < -largest;
        symbols = (symbols & ~(above | below)) | (largest & above) | (-largest & below);
        Shorts narrow = __builtin_convertvector(symbols, Shorts);
        memcpy(t->symbols + c, &narrow, sizeof narrow);
        uint64_t parts[2];
        memcpy(parts, &narrow, sizeof narrow);
        if (!(parts[0] | parts[1])) continue; /* as of most */
        for (int64_t k = c; k < c + LANES; k++) {
            t->nonzero[count] = (int32_t)k;
            count += t->symbols[k] != 0;
        }
    }
    t->count = 0, t->explained = 0;
    if (!count) return;
    float sums[GROUPS], saved[GROUPS], kept[GROUPS];
    for (int64_t g = 0; g < q->groups; g++) sums[g] = saved[g] = 0;
    for (int64_t i = 0; i < count; i++) {
        int64_t c = t->nonzero[i];
        float magnitude = fabsf((float)t->symbols[c]), restored = magnitude + q->outward;
        sums[q->group_of[c]] += magnitude;
        saved[q->group_of[c]] += (2 * fabsf(t->latents[c]) - restored) * restored;
    }
    for (int64_t g = 0; g < q->groups; g++) {
        if (sums[g] == 0) continue;
        float bits = sums[g] * (log2f((float)(q->starts[g + 1] - q->starts[g])) + q->one_bits) + q->one_bits;
        kept[g] = sums[g] > q->few || saved[g] > q->group_price * bits;
        if (kept[g]) t->explained += saved[g];
    }
    for (int64_t i = 0; i < count; i++) {
        int32_t c = t->nonzero[i];
        if (kept[q->group_of[c]]) t->nonzero[t->count++] = c;
        else t->symbols[c] = 0;
    }
}

INLINED float activity_bits(const Quantizer *q, const int *found, const int64_t *outer) {
    float bits = 0;
    int any = 0, before = 0;
    for (int64_t g = 0; g < q->groups; g++) any |= found[g];
    if (q->has_flags) bits = q->coded_bits[3 * outer[q->groups] + (any ? 2 : 0)];
    for (int64_t g = 0; g < q->groups && (any || !q->has_flags); g++) {
        int inner = q->has_flags && !before ? CONTEXTS - 1 : 0;
        for (int64_t k = g < 2 ? 0 : g - 2; k < g; k++) inner = found[k] > inner ? found[k] : inner;
        int64_t context = outer[g] + (inner < CONTEXTS ? inner : CONTEXTS - 1);
        before |= found[g];
        bits += q->activity_bits[q->row_of[2 * g * q->contexts + context] * q->activities + found[g]];
    }
    return bits;
}

/* About the bits of a token whose neighbours are not known yet; see `ActivityModel.bits_apart`. */
INLINED float bits_apart(const Quantizer *q, const Try *t, int quartered, const int32_t *expected,
                               const int64_t *outer) {
    int64_t sums[GROUPS], total = 0;
    int found[GROUPS], octaves[GROUPS];
    for (int64_t g = 0; g < q->groups; g++) sums[g] = 0;
    for (int64_t i = 0; i < t->count; i++) sums[q->group_of[t->nonzero[i]]] += abs(t->symbols[t->nonzero[i]]);
    for (int64_t g = 0; g < q->groups; g++) {
        found[g] = 0;
        while (found[g] < q->activities - 1 && sums[g] >= q->thresholds[found[g]]) found[g]++;
        total += found[g];
        if (found[g]) octaves[g] = eighths((float)(expected[q->starts[g + 1]] - expected[q->starts[g]]));
    }
    float bits = activity_bits(q, found, outer);
    if (!total) return bits;
    int64_t shape = total < q->shapes - 1 ? total : q->shapes - 1;
    bits += q->shape_bits[3 * shape + 2 * quartered];
    for (int64_t g = 0; g < q->groups; g++)
        if (found[g] && found[g] <= q->small) {
            int64_t last = found[g] == q->activities - 1;
            int64_t choices = last ? 1 : q->thresholds[found[g]] - q->thresholds[found[g] - 1];
            bits += log2f((float)choices) - q->log_factorials[sums[g] < q->most_sum ? sums[g] : q->most_sum];
        }
    for (int64_t i = 0; i < t->count; i++) { /* of small sums */
        int64_t c = t->nonzero[i], g = q->group_of[c], place = q->place_of[c];
        if (found[g] > q->small) continue;
        int magnitude = abs(t->symbols[c]);
        int octave = eighths((float)(expected[place + 1] - expected[place])) - octaves[g];
        bits += q->log_factorials[magnitude < q->most_sum ? magnitude : q->most_sum] - magnitude * octave / 8.0f + 1;
    }
    int64_t reach = q->alphabet / 2;
    for (int64_t g = 0; g < q->groups; g++) {
        if (found[g] <= q->small) continue;
        int base = eighths((float)q->thresholds[found[g] - 1]) - octaves[g];
        for (int64_t place = q->starts[g]; place < q->starts[g + 1]; place++) {
            int64_t symbol = t->symbols[q->order[place]];
            int64_t row = ((eighths((float)(expected[place + 1] - expected[place])) + base) >> 1) + q->row_of_one;
            row = row < 0 ? 0 : row > q->last_row ? q->last_row : row;
            if (symbol <= -reach || symbol >= reach) symbol = symbol < 0 ? -reach : reach, bits += q->digit_bits;
            bits += q->symbol_bits[row * q->alphabet + symbol + reach];
        }
    }
    return bits;
}

/* Symbols `[count, channels]` and shapes of some rows of the tokens of a picture, of which error and bits are small
 * together.
 *
 * difference: what prediction left, `[3, rows patch, columns patch]`.  luma: of the prediction.  steps: of the
 * tokens.  outer: contexts of tokens `[count, groups + 1]`. */
CLONED EXPORT void quantize(const Quantizer *q, const EnvelopeNet *net, const float *difference, const uint8_t *luma,
                            const float *steps, const int64_t *outer, int64_t rows, int64_t columns, int16_t *symbols,
                            uint8_t *quartered, int64_t first, int64_t last) {
    int64_t patch = net->patch, width = columns * patch, size = rows * patch * width, cells = patch * patch;
    int nothing[GROUPS] = {0};
    float rounding[CHANNELS];
    uint32_t parts_of[GROUPS];
    find_parts(q->starts, q->groups, parts_of);
    for (int64_t c = 0; c < q->channels; c++) rounding[c] = q->group_of[c] < 2 ? q->rounding_low : q->rounding;
    symbols += first * columns * q->channels, outer += first * columns * (q->groups + 1);
    for (int64_t at = first * columns; at < last * columns; at++, symbols += q->channels, outer += q->groups + 1) {
        float left[CHANNELS], mixed[CHANNELS], energy = 0, scale = 1 / steps[at];
        int64_t start = at / columns * patch * width + at % columns * patch;
        quartered[at] = 0;
        memset(symbols, 0, (size_t)q->channels * sizeof *symbols);
        for (int c = 0; c < 3; c++)
            for (int64_t y = 0; y < patch; y++) {
                const float *from = difference + c * size + start + y * width;
                float *line = left + c * cells + y * patch;
                for (int64_t x = 0; x < patch; x++) {
                    line[x] = from[x] * scale;
                    energy += line[x] * line[x];
                }
            }
        if (energy < q->least_energy) continue;
        for (int d = 0; d < 3; d++)
            for (int64_t i = 0; i < cells; i++)
                mixed[d * cells + i] = q->colours[3 * d] * left[i] + q->colours[3 * d + 1] * left[cells + i] +
                                       q->colours[3 * d + 2] * left[2 * cells + i];
        Try tries[2];
        for (int shape = 0; shape < 2; shape++) {
            for (int d = 0; d < 3; d++) {
                float *latents = tries[shape].latents + d * cells;
                TOKEN_SIZED(patch, token_frequencies(mixed + d * cells, q->dct, q->half_dct, shape, SIZE, latents));
            }
            round_try(q, rounding, &tries[shape]);
        }
        float best = energy + q->bit_price * activity_bits(q, nothing, outer);
        for (int shape = 0; shape < 2; shape++) {
            int32_t expected[CHANNELS + 1];
            const Try *t = &tries[shape];
            uint32_t parts = 0;
            if (!t->count) continue;
            for (int64_t i = 0; i < t->count; i++) parts |= parts_of[q->group_of[t->nonzero[i]]];
            expect_tokens(net, &(Token){luma + start, steps[at], shape, parts}, 1, width, expected);
            float cost = energy - t->explained + q->bit_price * bits_apart(q, t, shape, expected, outer);
            if (cost >= best) continue;
            best = cost, quartered[at] = (uint8_t)shape;
            memcpy(symbols, t->symbols, (size_t)q->channels * sizeof *symbols);
        }
    }
}
