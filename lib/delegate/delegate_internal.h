/* What the two halves of lib/delegate share: answers that count for a while. */
#ifndef KP_DELEGATE_INTERNAL_H
#define KP_DELEGATE_INTERNAL_H

#include "api/k8s.h"
#include "lib/delegate/delegate.h"

#include <pthread.h>

/* A review takes no longer: who waits for one has a thread of the server's, which health is told by as well. */
#define DELEGATE_REVIEW_MS 5000

struct delegate {
    struct delegate_config config;
    pthread_mutex_t lock;
    struct kp_strmap *users;    /* struct delegate_answer by SHA-256 of the token */
    struct kp_strmap *verdicts; /* struct delegate_answer by user, groups and attributes */
};

struct delegate_answer {
    struct kp_arena *arena; /* of the user's strings; may be NULL */
    struct delegate_user user;
    bool allowed;
    int64_t until_ms;
};

/* Takes the answer over. */
void delegate_remember(struct delegate *delegate, struct kp_strmap **answers, const char *key, struct delegate_answer *answer);
/* With the lock: one that still counts, or NULL. */
const struct delegate_answer *delegate_known(const struct kp_strmap *answers, const char *key);

#endif
