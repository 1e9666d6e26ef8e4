/* Restoration of coded tokens: the same integers as `mptvc.model.restoration`, where it is explained.
 *
 * Tokens that lie side by side are worked on at once, a strip of them. */

#include "kernels.h"
#include <stdlib.h>
#include <string.h>

enum { AROUND = 3, CELL = 4, PAIRS = 6, TAPS = 2 * PAIRS + 1, DIRECTIONS = 9, OCTAVES = 8, LEAST = 40, FLAT = 13, BITS = 10 };
/* Pixels of a strip along x, and of the largest token along y; both with what is around. */
enum { STRIP = 64, TALL = 16, LONG = STRIP + 2 * AROUND + 2, HIGH = TALL + 2 * AROUND, WAYS = 4 };

typedef int16_t Window[HIGH][LONG];
typedef int Classes[TALL / CELL][STRIP / CELL];

/* Fetch a strip of one colour and what is around it; beyond the border are the last pixels. */
INLINED void fetch(Window window, const uint8_t *plane, int64_t height, int64_t width, int64_t top, int64_t left, int size, int length) {
    int64_t first = left - AROUND;
    int inside = first >= 0 && first + length + 2 * AROUND <= width;
    for (int y = 0; y < size + 2 * AROUND; y++) {
        const uint8_t *line = plane + clamped(top - AROUND + y, 0, height - 1) * width;
        if (inside)
            for (int x = 0; x < length + 2 * AROUND; x++) window[y][x] = line[first + x];
        else
            for (int x = 0; x < length + 2 * AROUND; x++) window[y][x] = line[clamped(first + x, 0, width - 1)];
    }
}

INLINED int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }
INLINED int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

/* The class of a block, from its bends along the row, the column and both diagonals. */
INLINED int class_of(const int *bends, int64_t units) {
    int64_t along = bends[0] + FLAT, across = bends[1] + FLAT, falling = bends[2] + FLAT, rising = bends[3] + FLAT;
    int64_t high = larger(along, across), low = smaller(along, across);
    int64_t high_diagonal = larger(falling, rising), low_diagonal = smaller(falling, rising);
    int way = along > across, degree, sharpness = 0;
    if (high_diagonal * low > high * low_diagonal)
        way = 2 + (falling > rising), high = high_diagonal, low = low_diagonal;
    degree = (2 * high > 3 * low) + (2 * high > 5 * low);
    int64_t bend = LEAST * (int64_t)(bends[0] + bends[1]);
    for (int octave = 0; octave < OCTAVES - 1; octave++) sharpness += bend >= units << octave;
    return sharpness * DIRECTIONS + (degree ? 2 * way + degree : 0);
}

INLINED int16_t bend(int16_t before, int16_t middle, int16_t behind) {
    int16_t apart = (int16_t)(2 * middle - before - behind);
    return (int16_t)(apart < 0 ? -apart : apart);
}

/* Classes of the blocks of a strip; units: the step of each token. */
INLINED void classify(Classes classes, const Window *colours, const int32_t *units, int size, int length) {
    Window luma;
    int16_t parts[TALL / CELL + 1][WAYS][STRIP / CELL + 1];
    for (int y = 0; y < size + 2 * AROUND; y++)
        for (int x = 0; x < length + 2 * AROUND; x++)
            luma[y][x] = (int16_t)(colours[0][y][x] + 2 * colours[1][y][x] + colours[2][y][x]);
    for (int part = 0; part < size / CELL + 1; part++) {
        int16_t sums[WAYS][STRIP + CELL];
        memset(sums, 0, sizeof sums);
        for (int y = CELL * part + 1; y < CELL * (part + 1); y += 2) {
            const int16_t *up = luma[y - 1] + 1, *line = luma[y] + 1, *down = luma[y + 1] + 1;
            for (int x = 0; x < length + CELL; x++) {
                sums[0][x] += bend(line[x - 1], line[x], line[x + 1]);
                sums[1][x] += bend(up[x], line[x], down[x]);
                sums[2][x] += bend(up[x - 1], line[x], down[x + 1]);
                sums[3][x] += bend(up[x + 1], line[x], down[x - 1]);
            }
        }
        for (int way = 0; way < WAYS; way++)
            for (int cell = 0; cell < length / CELL + 1; cell++) {
                const int16_t *four = sums[way] + CELL * cell;
                parts[part][way][cell] = (int16_t)(four[0] + four[1] + four[2] + four[3]);
            }
    }
    for (int y = 0; y < size / CELL; y++)
        for (int x = 0; x < length / CELL; x++) {
            int bends[WAYS];
            for (int way = 0; way < WAYS; way++)
                bends[way] = parts[y][way][x] + parts[y][way][x + 1] + parts[y + 1][way][x] + parts[y + 1][way][x + 1];
            classes[y][x] = class_of(bends, units[CELL * x / size]);
        }
}

INLINED int16_t kept(int16_t x, int16_t limit) {
    int16_t low = (int16_t)-limit;
    return x < low ? low : x > limit ? limit : x;
}

/* What two taps give for a pixel and two on opposite sides of it. */
INLINED int32_t of_pair(int16_t one, int16_t opposite, int16_t limit, int16_t all, int16_t small) {
    int16_t sum = (int16_t)(one + opposite), part = (int16_t)(kept(one, limit) + kept(opposite, limit));
    return (int32_t)all * sum + (int32_t)small * part;
}

/* Restore one row of a strip of one colour, with the filter and the limit of every pixel. */
INLINED void restore_row(uint8_t *restrict out, const int16_t *restrict middle, const uint8_t *restrict prediction,
                         const int16_t filters[TAPS][STRIP], const int16_t *restrict limits, int strength, int length) {
#define PAIR(number, down, right)                                                                          \
    of_pair((int16_t)(middle[x + (down) * LONG + (right)] - middle[x]),                                    \
            (int16_t)(middle[x - (down) * LONG - (right)] - middle[x]), limits[x], filters[2 * number][x], \
            filters[2 * number + 1][x])
    for (int x = 0; x < length; x++) {
        int32_t total = PAIR(0, 0, 1) + PAIR(1, 1, 0) + PAIR(2, 1, 1) + PAIR(3, 1, -1) + PAIR(4, 0, 2) + PAIR(5, 2, 0);
        total += (int32_t)filters[TAPS - 1][x] * kept((int16_t)(prediction[x] - middle[x]), (int16_t)(2 * limits[x]));
        int32_t found = middle[x] + ((total * strength + (1 << (BITS + 1))) >> (BITS + 2));
        out[x] = (uint8_t)(found < 0 ? 0 : found > 255 ? 255 : found);
    }
#undef PAIR
}

/* Some tokens side by side: with what is around them, what they were predicted from, and where they go. */
typedef struct {
    const Window *colours;
    const uint8_t *prediction;
    uint8_t *out;
    const int16_t *limits, *filters;
    int64_t stride, plane; /* bytes from row to row and from colour to colour, of the last two */
    int strength, length;
} Strip;

/* Restore the blocks of a strip from some row of pixels on, of which each has a class. */
INLINED void restore_blocks(const Strip *s, const int *classes, int y) {
    int16_t mine[TAPS][STRIP];
    for (int x = 0; x < s->length / CELL; x++) {
        const int16_t *filter = s->filters + classes[x] * TAPS;
        for (int tap = 0; tap < TAPS; tap++)
            for (int i = 0; i < CELL; i++) mine[tap][CELL * x + i] = filter[tap];
    }
    for (int c = 0; c < 3; c++)
        for (int line = y; line < y + CELL; line++) {
            int64_t at = c * s->plane + line * s->stride;
            restore_row(s->out + at, s->colours[c][line + AROUND] + AROUND, s->prediction + at,
                        (const int16_t(*)[STRIP])mine, s->limits, s->strength, s->length);
        }
}

#ifdef FOR_AVX2
#include <immintrin.h>

enum { LANES = 16 };

INLINED FOR_AVX2 __m256i at_most(__m256i x, __m256i limit) {
    return _mm256_max_epi16(_mm256_min_epi16(x, limit), _mm256_sub_epi16(_mm256_setzero_si256(), limit));
}

INLINED FOR_AVX2 __m256i loaded(const int16_t *from) { return _mm256_loadu_si256((const __m256i *)from); }

/* The next pixels, of which a strip's last ones may be fewer. */
INLINED FOR_AVX2 __m256i pixels_at(const uint8_t *from, int left) {
    __m128i found = _mm_setzero_si128();
    if (left < LANES) memcpy(&found, from, (size_t)left);
    else found = _mm_loadu_si128((const __m128i *)from);
    return _mm256_cvtepu8_epi16(found);
}

/* How much of totals counts, in pixels' units. */
INLINED FOR_AVX2 __m256i counted(__m256i totals, int strength) {
    __m256i found = _mm256_mullo_epi32(totals, _mm256_set1_epi32(strength));
    return _mm256_srai_epi32(_mm256_add_epi32(found, _mm256_set1_epi32(1 << (BITS + 1))), BITS + 2);
}

/* Filters of pixels, two taps side by side, in the order of blocks in which halves of vectors are interleaved; the last
 * tap goes with none. */
typedef int16_t Pairs[PAIRS + 1][2 * STRIP];

/* Add the products of what two taps take with these. */
INLINED FOR_AVX2 void add_products(__m256i totals[2], __m256i one, __m256i other, const int16_t *taps) {
    __m256i low = _mm256_madd_epi16(_mm256_unpacklo_epi16(one, other), loaded(taps));
    __m256i high = _mm256_madd_epi16(_mm256_unpackhi_epi16(one, other), loaded(taps + LANES));
    totals[0] = _mm256_add_epi32(totals[0], low), totals[1] = _mm256_add_epi32(totals[1], high);
}

/* The same as `restore_row`; at: where the row starts. */
INLINED FOR_AVX2 void restore_row_at_once(const Strip *s, const int16_t *row, int64_t at, Pairs filters) {
    static const int offsets[PAIRS] = {1, LONG, LONG + 1, LONG - 1, 2, 2 * LONG};
    const __m256i none = _mm256_setzero_si256();
    for (int x = 0; x < s->length; x += LANES) {
        __m256i middle = loaded(row + x), limit = loaded(s->limits + x), totals[2] = {none, none};
        for (int n = 0; n < PAIRS; n++) {
            __m256i one = _mm256_sub_epi16(loaded(row + x + offsets[n]), middle);
            __m256i opposite = _mm256_sub_epi16(loaded(row + x - offsets[n]), middle);
            __m256i part = _mm256_add_epi16(at_most(one, limit), at_most(opposite, limit));
            add_products(totals, _mm256_add_epi16(one, opposite), part, filters[n] + 2 * x);
        }
        __m256i apart = _mm256_sub_epi16(pixels_at(s->prediction + at + x, s->length - x), middle);
        add_products(totals, at_most(apart, _mm256_add_epi16(limit, limit)), none, filters[PAIRS] + 2 * x);
        __m256i change = _mm256_packs_epi32(counted(totals[0], s->strength), counted(totals[1], s->strength));
        __m256i found = _mm256_adds_epi16(middle, change);
        found = _mm256_permute4x64_epi64(_mm256_packus_epi16(found, found), 0x08);
        if (s->length - x < LANES) memcpy(s->out + at + x, &found, (size_t)(s->length - x));
        else _mm_storeu_si128((__m128i *)(s->out + at + x), _mm256_castsi256_si128(found));
    }
}

/* The same as `restore_blocks`. */
FOR_AVX2 static void restore_blocks_at_once(const Strip *s, const int *classes, int y) {
    static const int order[] = {0, 2, 1, 3};
    Pairs mine;
    for (int x = 0; x < s->length / CELL; x++) {
        const int16_t *filter = s->filters + classes[x] * TAPS;
        for (int n = 0; n <= PAIRS; n++) {
            int32_t both = (uint16_t)filter[2 * n] | (n < PAIRS ? filter[2 * n + 1] : 0) * (1 << 16);
            _mm_storeu_si128((__m128i *)(mine[n] + 2 * CELL * ((x & ~3) + order[x & 3])), _mm_set1_epi32(both));
        }
    }
    for (int c = 0; c < 3; c++)
        for (int line = y; line < y + CELL; line++)
            restore_row_at_once(s, s->colours[c][line + AROUND] + AROUND, c * s->plane + line * s->stride, mine);
}
#endif

INLINED void restore_strip(uint8_t *out, const uint8_t *picture, const uint8_t *prediction, int64_t height, int64_t width,
                           int64_t top, int64_t left, const int32_t *units, const int16_t *filters, int strength,
                           int size, int count) {
    Window colours[3];
    Classes classes;
    int length = size * count;
    int16_t limits[STRIP];
    int64_t start = top * width + left;
    Strip strip = {(const Window *)colours, prediction + start, out + start, limits, filters, width, height * width,
                   strength, length};
    for (int c = 0; c < 3; c++) fetch(colours[c], picture + c * height * width, height, width, top, left, size, length);
    for (int c = 0; c < 3; c++)
        for (int y = 0; y < size; y++) { /* which no processor foresees: rows are far apart */
            __builtin_prefetch(strip.prediction + c * strip.plane + y * width + length - 1);
            __builtin_prefetch(strip.out + c * strip.plane + y * width + length - 1, 1);
        }
    classify(classes, (const Window *)colours, units, size, length);
    for (int token = 0; token < count; token++)
        for (int x = 0; x < size; x++) limits[size * token + x] = (int16_t)clamped(((int64_t)units[token] + 512) >> 10, 1, 255);
    for (int cell = 0; cell < size / CELL; cell++) {
#ifdef FOR_AVX2
        if (has_avx2()) {
            restore_blocks_at_once(&strip, classes[cell], CELL * cell);
            continue;
        }
#endif
        restore_blocks(&strip, classes[cell], CELL * cell);
    }
}

/* Restore the coded tokens in some rows of a picture `[3, rows patch, columns patch]`, into a copy of it.
 *
 * units: steps of all tokens in 256ths; filters: int16 `[classes, TAPS]`; strength: in quarters, up to 8. */
CLONED EXPORT void restore(uint8_t *out, const uint8_t *picture, const uint8_t *prediction, const uint8_t *coded,
                           const int32_t *units, const int16_t *filters, int64_t rows, int64_t columns, int64_t patch,
                           int strength, int64_t first, int64_t last) {
    for (int64_t row = first; row < last; row++) {
        const uint8_t *mine = coded + row * columns;
        for (int64_t column = 0, count; column < columns; column += count) {
            for (count = 0; column + count < columns && count < STRIP / patch && mine[column + count]; count++) continue;
            if (count)
                SIZED(patch, restore_strip(out, picture, prediction, rows * patch, columns * patch, row * patch,
                                           column * patch, units + row * columns + column, filters, strength, SIZE,
                                           (int)count));
            else
                count = 1;
        }
    }
}
