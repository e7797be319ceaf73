/* Handing finished calls from the raft thread to the loop that sends them: one wake-up for all that a batch answers. */
#include "controlplane/etcd/server/rpc_internal.h"

/*   raft thread: hold, add ..., release --one post--> loop: run all, in order

   Added outside a hold, an answer wakes the loop at once. Without a loop (before it runs, or when it has ended) what is
   added runs where it is: its stream is closed by then and takes nothing. */

static void run_all(void *arg)
{
    struct answers *answers = arg;
    pthread_mutex_lock(&answers->mutex);
    struct answer *first = answers->first;
    answers->first = NULL;
    answers->last = &answers->first;
    answers->posted = false;
    pthread_mutex_unlock(&answers->mutex);
    for (struct answer *next; first; first = next) {
        next = first->next;
        first->fn(first);
    }
}

void answers_open(struct answers *answers, struct loop *loop)
{
    pthread_mutex_init(&answers->mutex, NULL);
    answers->last = &answers->first;
    answers->loop = loop;
    atomic_store(&answers->opened, true);
}

void answers_close(struct answers *answers)
{
    pthread_mutex_lock(&answers->mutex);
    answers->loop = NULL;
    pthread_mutex_unlock(&answers->mutex);
    run_all(answers);
}

void answers_done(struct answers *answers)
{
    if (!atomic_load(&answers->opened))
        return;
    KP_ASSERT(!answers->first);
    pthread_mutex_destroy(&answers->mutex);
}

/* With the mutex held. */
static void post(struct answers *answers)
{
    if (answers->posted || answers->held || !answers->first)
        return;
    answers->posted = true;
    loop_post(answers->loop, run_all, answers);
}

void answers_add(struct answers *answers, struct answer *answer)
{
    answer->next = NULL;
    pthread_mutex_lock(&answers->mutex);
    bool open = answers->loop != NULL;
    if (open) {
        *answers->last = answer;
        answers->last = &answer->next;
        post(answers);
    }
    pthread_mutex_unlock(&answers->mutex);
    if (!open)
        answer->fn(answer);
}

void answers_hold(struct answers *answers)
{
    if (!atomic_load(&answers->opened))
        return;
    pthread_mutex_lock(&answers->mutex);
    answers->held = true;
    pthread_mutex_unlock(&answers->mutex);
}

void answers_release(struct answers *answers)
{
    if (!atomic_load(&answers->opened))
        return;
    pthread_mutex_lock(&answers->mutex);
    answers->held = false;
    if (answers->loop)
        post(answers);
    pthread_mutex_unlock(&answers->mutex);
}
