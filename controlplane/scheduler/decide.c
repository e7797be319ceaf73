/* Where a pod goes, and what is said when it fits nowhere. */
#include "controlplane/scheduler/scheduler.h"

/* ---- why not ------------------------------------------------------------------------------------------------------------- */
void sched_tally_add(struct sched_tally *tally, const char *text, struct kp_arena *arena)
{
    for (size_t i = 0; i < tally->len; i++)
        if (strcmp(tally->items[i].text, text) == 0) {
            tally->items[i].count++;
            return;
        }
    *KP_LIST_ADD(arena, tally) = (struct sched_tally_line){kp_arena_strdup(arena, text), 1};
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

const char *sched_tally_text(const struct sched_tally *tally, size_t n_nodes, struct kp_arena *arena)
{
    KP_AUTO_BUF struct kp_buf out = {0};
    const char **lines = KP_NEW_ARRAY(arena, const char *, tally->len + 1);
    for (size_t i = 0; i < tally->len; i++)
        lines[i] = kp_arena_printf(arena, "%zu %s", tally->items[i].count, tally->items[i].text);
    qsort(lines, tally->len, sizeof(*lines), by_text);
    if (n_nodes == 0)
        return "no nodes available to schedule pods";
    kp_buf_printf(&out, "0/%zu nodes are available: ", n_nodes);
    for (size_t i = 0; i < tally->len; i++)
        kp_buf_printf(&out, "%s%s", i ? ", " : "", lines[i]);
    kp_buf_putc(&out, '.');
    return kp_arena_strdup(arena, out.data);
}

/* ---- where --------------------------------------------------------------------------------------------------------------- */
size_t sched_nominated_node(const struct sched_pod *pod, const struct sched_cluster *cluster)
{
    const char *name = NULL;
    for (size_t i = 0; i < cluster->n_nominations; i++)
        if (kp_streq(cluster->nominations[i].pod.uid, pod->pod->metadata->uid))
            name = cluster->nominations[i].node;
    for (size_t i = 0; name && i < cluster->n; i++)
        if (strcmp(cluster->nodes[i]->name, name) == 0)
            return i;
    return cluster->n;
}

/* Those of the cluster's nodes that fit; why the others do not, and which of them for good. */
static size_t filter_all(const struct sched_question *question, struct sched_node **fitting, bool *final, struct sched_tally *tally,
                         struct kp_arena *arena)
{
    const struct sched_cluster *cluster = question->cluster;
    struct sched_reasons why;
    size_t n = 0, nominated = sched_nominated_node(question->pod, cluster);
    if (nominated < cluster->n && sched_fits(question, cluster->nodes[nominated], &why)) {
        fitting[0] = cluster->nodes[nominated];
        return 1;
    }
    for (size_t i = 0; i < cluster->n; i++) {
        if (sched_fits(question, cluster->nodes[i], &why)) {
            fitting[n++] = cluster->nodes[i];
            continue;
        }
        final[i] = why.final;
        for (size_t k = 0; k < why.n; k++)
            sched_tally_add(tally, why.text[k], arena);
    }
    return n;
}

/* Nothing about nodes: told once, not counted over them. */
static void refuse_all(const struct sched_cluster *cluster, const char *why, struct kp_arena *arena, bool *final, struct sched_decision *ret)
{
    for (size_t i = 0; i < cluster->n; i++)
        final[i] = true;
    ret->message = kp_arena_printf(arena, "0/%zu nodes are available: %s.", cluster->n, why);
}

void sched_decide(const struct sched_pod *pod, const struct sched_cluster *cluster, uint64_t tie, struct kp_arena *arena,
                  struct sched_decision *ret)
{
    struct sched_node **fitting = KP_NEW_ARRAY(arena, struct sched_node *, cluster->n + 1);
    bool *final = KP_NEW_ARRAY(arena, bool, cluster->n + 1);
    struct sched_tally tally = {0};
    struct sched_question question;
    sched_question_init(&question, pod, cluster, arena);
    const char *refusal = cluster->n ? sched_claims_refusal(question.claims) : NULL;
    size_t n_fitting = refusal ? 0 : filter_all(&question, fitting, final, &tally, arena);
    sched_question_done(&question);
    *ret = (struct sched_decision){.final = final};
    if (refusal) {
        refuse_all(cluster, refusal, arena, final, ret);
        return;
    }
    if (n_fitting == 0) {
        ret->message = sched_tally_text(&tally, cluster->n, arena);
        return;
    }
    int64_t *scores = KP_NEW_ARRAY(arena, int64_t, n_fitting);
    sched_score(pod, cluster, fitting, n_fitting, scores, arena);
    int64_t best = scores[0];
    size_t n_best = 0;
    for (size_t i = 1; i < n_fitting; i++)
        best = KP_MAX(best, scores[i]);
    for (size_t i = 0; i < n_fitting; i++)
        if (scores[i] == best)
            fitting[n_best++] = fitting[i];
    ret->node = fitting[tie % n_best]->name;
}
