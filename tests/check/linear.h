/* What check_linear searches: the operations of a history, each reduced to what it says of a few keys. */
#ifndef CHECK_LINEAR_H
#define CHECK_LINEAR_H

#include "reader.h"

#define GROUP_KEYS_MAX 4

enum step_kind {
    STEP_IS,         /* the key has this value and mod revision */
    STEP_IS_VALUE,
    STEP_IS_MOD,
    STEP_IS_NOT_MOD, /* or is not there */
    STEP_ABSENT,
    STEP_PRESENT,
    STEP_PUT,
    STEP_DELETE,
};
struct step {
    enum step_kind kind;
    uint32_t slot; /* the key among the group's */
    text_id value;
    bool leased;
    int64_t mod; /* of a put: as it was answered or seen; 0: not known */
};
struct linear_op {
    uint32_t call, invoke_line, return_line;
    uint32_t step_count, step_cap;
    struct step *steps;
};
struct group {
    text_id keys[GROUP_KEYS_MAX];
    uint32_t key_count;
    /* From these lines on, a delete without an answer may take the key away, and a put without an answer that nobody
       read may have come in between. */
    uint32_t vanish_line[GROUP_KEYS_MAX], put_line[GROUP_KEYS_MAX];
    struct linear_op *ops;
    size_t op_count, op_cap;
};
/* Gives the number of groups. *ret_skipped: keys with a value that was written twice, which are left out. */
size_t linear_groups(const struct check_history *history, struct group **ret_groups, size_t *ret_skipped);

#endif
