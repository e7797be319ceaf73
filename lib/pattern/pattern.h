/* lib/pattern: regular expressions in RE2's syntax (as Go's regexp takes it) on PCRE2's matcher for automata, which does not backtrack: no pattern takes
 * more than some tenths of a second, however it is written. */
#ifndef KP_PATTERN_H
#define KP_PATTERN_H

#include "lib/base/base.h"

#define KP_PATTERN_BYTES_MAX 16384
struct kp_pattern;
/* NULL with *ret_fault (in arena or static) when it does not compile: "error parsing regexp: missing closing ]: `[a`". */
struct kp_pattern *kp_pattern_new(const char *text, struct kp_arena *arena, const char **ret_fault);
/* One to find with: where a match begins and ends takes a matcher that backtracks, whose steps are counted. */
struct kp_pattern *kp_pattern_new_finder(const char *text, struct kp_arena *arena, const char **ret_fault);
void kp_pattern_free(struct kp_pattern *pattern); /* accepts NULL */
KP_DEFINE_AUTO(struct kp_pattern *, kp_pattern_free)
/* Whether some part of the text matches. Never takes long: what would is taken as no match. */
bool kp_pattern_matches(const struct kp_pattern *pattern, const char *text, size_t len);
/* The leftmost match at or after from, of those the one that a backtracking matcher finds first, as Go's Find. 1 with the bytes of the text it covers; 0: there
   is none; -1: it takes too long to say. */
int kp_pattern_find(const struct kp_pattern *pattern, const char *text, size_t len, size_t from, size_t *ret_begin, size_t *ret_end);

#endif
