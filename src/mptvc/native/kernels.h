/* What all kernels share. */

#ifndef MPTVC_KERNELS_H
#define MPTVC_KERNELS_H

#include <stdint.h> /* with glibc it says so */

#define EXPORT __attribute__((visibility("default")))

/* What is compiled together with whoever calls it: for the same instruction set. */
#define INLINED static inline __attribute__((always_inline))

/* A call with the side of a token, 8 or 16, that the compiler knows, so that it unrolls loops. */
#define TOKEN_SIZED(size, call)     \
    do {                            \
        if ((size) == 16) {         \
            enum { SIZE = 16 };     \
            call;                   \
        } else {                    \
            enum { SIZE = 8 };      \
            call;                   \
        }                           \
    } while (0)

/* The same with a size of 4 too. */
#define SIZED(size, call)                      \
    do {                                       \
        if ((size) == 4) {              \
            enum { SIZE = 4 };                 \
            call;                              \
        } else TOKEN_SIZED(size, call);        \
    } while (0)

/* CLONED: a function that is compiled for several instruction sets, one of which the loader picks.
 * FOR_AVX2: one that is written for AVX2, to be called where `has_avx2()`; there is none for other processors and
 * compilers, and none with PLAIN, so that tests see what these do. */
#if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && !defined(__clang__) && !defined(PLAIN)
#define CLONED __attribute__((target_clones("default", "arch=x86-64-v3", "arch=x86-64-v4")))
#define FOR_AVX2 __attribute__((target("arch=x86-64-v3")))
INLINED int has_avx2(void) { return __builtin_cpu_supports("avx2"); }
#else
#define CLONED
#endif

INLINED int64_t clamped(int64_t x, int64_t low, int64_t high) { return x < low ? low : x > high ? high : x; }

/* The same of 16 bits, of which twice as many are computed at once as of 32. */
INLINED int16_t within(int16_t x, int16_t low, int16_t high) {
    x = x < low ? low : x;
    return x > high ? high : x;
}

INLINED uint8_t clipped(int16_t x) { return (uint8_t)within(x, 0, 255); }

/* To the nearest integer, of two to the even one, for less than 2^51. */
INLINED double rounded(double x) {
    const double magic = 6755399441055744.0; /* 1.5 2^52 */
    return (x + magic) - magic;
}

#endif
