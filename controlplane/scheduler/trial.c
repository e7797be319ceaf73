/* What if: a node with other pods than it has, for the filters, while the counts of others follow. */
#include "controlplane/scheduler/scheduler.h"

void sched_trial_begin(struct sched_trial *ret, const struct sched_question *question, const struct sched_node *node, size_t more)
{
    *ret = (struct sched_trial){.node = *node, .real = node, .question = question};
    ret->node.cap_pods = node->n_pods + more;
    ret->node.pods = kp_calloc(ret->node.cap_pods + 1, sizeof(*ret->node.pods));
    if (node->n_pods)
        memcpy(ret->node.pods, node->pods, node->n_pods * sizeof(*node->pods));
}

static void count(struct sched_trial *trial, const struct sched_pod *pod, int sign)
{
    sched_resources_add(&trial->node.requested, &pod->requests, sign);
    sched_resources_add(&trial->node.nonzero, &pod->nonzero, sign);
    sched_spread_count(trial->question->spread, trial->real, pod, sign);
    sched_affinity_count(trial->question->affinity, trial->real, pod, sign);
    sched_claims_count(trial->question->claims, pod, sign);
}

static size_t find(const struct sched_node *node, const char *key)
{
    size_t i = 0;
    while (i < node->n_pods && strcmp(node->pods[i].key, key) != 0)
        i++;
    return i;
}

void sched_trial_take(struct sched_trial *trial, const struct sched_assigned *pod)
{
    size_t at = find(&trial->node, pod->key);
    if (at == trial->node.n_pods)
        return;
    count(trial, &trial->node.pods[at].info, -1);
    trial->node.pods[at] = trial->node.pods[--trial->node.n_pods];
}

void sched_trial_bring(struct sched_trial *trial, const struct sched_assigned *pod)
{
    trial->node.pods[trial->node.n_pods++] = *pod;
    count(trial, &pod->info, 1);
}

void sched_trial_end(struct sched_trial *trial)
{
    for (size_t i = 0; i < trial->node.n_pods; i++)
        if (find(trial->real, trial->node.pods[i].key) == trial->real->n_pods)
            count(trial, &trial->node.pods[i].info, -1);
    for (size_t i = 0; i < trial->real->n_pods; i++)
        if (find(&trial->node, trial->real->pods[i].key) == trial->node.n_pods)
            count(trial, &trial->real->pods[i].info, 1);
    free(trial->node.pods);
}
