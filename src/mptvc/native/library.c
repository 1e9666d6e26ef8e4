/* What the library says of itself. */

#include "kernels.h"

/* SHA-256 of all sources (see `mptvc.native.library`). */
EXPORT const char *const sources = SOURCES;
