/* What all kernels share. */

#ifndef MPTVC_KERNELS_H
#define MPTVC_KERNELS_H

#include <stdint.h>

#define EXPORT __attribute__((visibility("default")))

/* A function that is compiled for several instruction sets, one of which the loader picks. */
#if defined(__x86_64__) && defined(__linux__) && defined(__GNUC__) && !defined(__clang__)
#define CLONED __attribute__((target_clones("default", "arch=x86-64-v3", "arch=x86-64-v4")))
#else
#define CLONED
#endif

#endif
