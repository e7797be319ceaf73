/* "Did you mean": the known word that is the fewest edits away from one that is not known. */
#include "lib/base/base.h"

#define WORD_MAX 64

/* Levenshtein's distance; longer words than WORD_MAX are never close. */
static size_t distance(const char *a, const char *b)
{
    size_t row[WORD_MAX + 1], a_len = strlen(a), b_len = strlen(b);
    if (a_len > WORD_MAX || b_len > WORD_MAX)
        return SIZE_MAX;
    for (size_t j = 0; j <= b_len; j++)
        row[j] = j;
    for (size_t i = 1; i <= a_len; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= b_len; j++) {
            size_t replaced = diagonal + (a[i - 1] != b[j - 1]);
            diagonal = row[j];
            row[j] = KP_MIN(replaced, KP_MIN(row[j], row[j - 1]) + 1);
        }
    }
    return row[b_len];
}

const char *kp_closest(const char *word, const char *const *known)
{
    const char *best = NULL;
    size_t best_distance = KP_MAX(strlen(word) / 3, (size_t)1) + 1; /* further away is another word, not a slip */
    for (; *known; known++) {
        size_t d = distance(word, *known);
        if (d < best_distance) {
            best = *known;
            best_distance = d;
        }
    }
    return best;
}
