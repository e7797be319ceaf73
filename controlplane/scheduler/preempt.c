/* Preemption, as upstream's DefaultPreemption: which pods of lower priority have to go, and from which node, so that a pod fits. */
#include "controlplane/scheduler/scheduler.h"

#define CANDIDATES_MIN 100     /* upstream's minCandidateNodesAbsolute */
#define CANDIDATES_PERCENT 10  /* and minCandidateNodesPercentage */

struct candidate {
    const struct sched_node *node;
    const struct sched_assigned **victims;
    size_t n_victims, n_violating; /* of them, those that a disruption budget would keep */
};

struct search {
    struct sched_question question;
    const struct k8s_pod_disruption_budget *const *budgets;
    struct kp_selector *selectors; /* of the budgets */
    int32_t *allowed;              /* by budget, while the victims of one node are looked at */
    size_t n_budgets;
    struct kp_arena *arena;
};

/* ---- which pods ---------------------------------------------------------------------------------------------------------- */
/* When a pod began; one that did not yet is the last. */
static int64_t began(const struct sched_assigned *pod)
{
    const struct kp_time *start = &pod->info.pod->status->start_time;
    return start->set ? start->seconds : INT64_MAX;
}

/* Upstream's MoreImportantPod: of two with the same priority the older one. */
static int by_importance(const void *a, const void *b)
{
    const struct sched_assigned *x = *(const struct sched_assigned *const *)a, *y = *(const struct sched_assigned *const *)b;
    if (x->info.priority != y->info.priority)
        return x->info.priority > y->info.priority ? -1 : 1;
    if (began(x) != began(y))
        return began(x) < began(y) ? -1 : 1;
    return strcmp(x->key, y->key);
}

static bool is_disrupted(const struct k8s_pod_disruption_budget *budget, const char *name)
{
    for (size_t i = 0; i < budget->status->disrupted_pods.len; i++)
        if (strcmp(budget->status->disrupted_pods.items[i].key, name) == 0)
            return true;
    return false;
}

/* Whether the pod's going is more than its budgets allow, with those that were asked before it gone. An empty selector means nobody here, and who has
   no labels nobody means: upstream's filterPodsWithPDBViolation. */
static bool violates(struct search *s, const struct k8s_pod *pod)
{
    bool found = false;
    for (size_t i = 0; pod->metadata->labels.len && i < s->n_budgets; i++) {
        const struct k8s_pod_disruption_budget *budget = s->budgets[i];
        if (!kp_streq(budget->metadata->namespace, pod->metadata->namespace) || s->selectors[i].len == 0 ||
            !kp_selector_matches(&s->selectors[i], &pod->metadata->labels) || is_disrupted(budget, pod->metadata->name))
            continue;
        found |= --s->allowed[i] < 0;
    }
    return found;
}

/* The pods that would have to go, sorted by importance. */
static size_t less_important(const struct search *s, const struct sched_node *node, const struct sched_assigned **ret)
{
    size_t n = 0;
    for (size_t i = 0; i < node->n_pods; i++)
        if (node->pods[i].info.priority < s->question.pod->priority)
            ret[n++] = &node->pods[i];
    qsort(ret, n, sizeof(*ret), by_importance);
    return n;
}

/* Those of violating or others that must stay away from the trial's node for the pod to fit become victims; the rest is there again. */
static size_t keep_what_fits(struct search *s, struct sched_trial *trial, const struct sched_assigned *const *pods, const bool *violating, size_t n,
                             bool which, struct candidate *candidate)
{
    struct sched_reasons why;
    size_t before = candidate->n_victims;
    for (size_t i = 0; i < n; i++) {
        if (violating[i] != which)
            continue;
        sched_trial_bring(trial, pods[i]);
        if (sched_fits(&s->question, &trial->node, &why))
            continue;
        sched_trial_take(trial, pods[i]);
        candidate->victims[candidate->n_victims++] = pods[i];
    }
    return candidate->n_victims - before;
}

/* True: the pod fits on the node when the candidate's victims have gone. Else *why says why not. */
static bool select_victims(struct search *s, const struct sched_node *node, struct candidate *ret, struct sched_reasons *why)
{
    const struct sched_assigned **pods = KP_NEW_ARRAY(s->arena, const struct sched_assigned *, node->n_pods + 1);
    struct sched_trial trial;
    size_t n = less_important(s, node, pods);
    why->n = 0;
    if (n == 0) {
        snprintf(why->text[why->n++], SCHED_REASON_MAX, "No preemption victims found for incoming pod");
        return false;
    }
    sched_trial_begin(&trial, &s->question, node, 0);
    for (size_t i = 0; i < n; i++)
        sched_trial_take(&trial, pods[i]);
    bool fits = sched_fits(&s->question, &trial.node, why);
    if (fits) {
        bool *violating = KP_NEW_ARRAY(s->arena, bool, n);
        for (size_t i = 0; i < s->n_budgets; i++)
            s->allowed[i] = s->budgets[i]->status->disruptions_allowed;
        for (size_t i = 0; i < n; i++)
            violating[i] = violates(s, pods[i]->info.pod);
        *ret = (struct candidate){.node = node, .victims = KP_NEW_ARRAY(s->arena, const struct sched_assigned *, n)};
        ret->n_violating = keep_what_fits(s, &trial, pods, violating, n, true, ret);
        keep_what_fits(s, &trial, pods, violating, n, false, ret);
        qsort(ret->victims, ret->n_victims, sizeof(*ret->victims), by_importance);
    }
    sched_trial_end(&trial);
    return fits;
}

/* ---- which node ---------------------------------------------------------------------------------------------------------- */
static int64_t sum_of_priorities(const struct candidate *c)
{
    int64_t sum = 0;
    for (size_t i = 0; i < c->n_victims; i++)
        sum += (int64_t)c->victims[i]->info.priority + INT32_MAX + 1; /* so that fewer pods of negative priority are better than many */
    return sum;
}

/* The first that began, of the most important victims. */
static int64_t earliest(const struct candidate *c)
{
    int64_t first = INT64_MAX;
    for (size_t i = 0; i < c->n_victims && c->victims[i]->info.priority == c->victims[0]->info.priority; i++)
        first = KP_MIN(first, began(c->victims[i]));
    return first;
}

/* Upstream's pickOneNodeForPreemption: fewest budgets violated, least important of the most important victims, least sum of priorities, fewest victims,
   then where they began last. */
static bool better(const struct candidate *a, const struct candidate *b)
{
    if (a->n_victims == 0 || b->n_victims == 0)
        return a->n_victims < b->n_victims; /* room came meanwhile */
    if (a->n_violating != b->n_violating)
        return a->n_violating < b->n_violating;
    if (a->victims[0]->info.priority != b->victims[0]->info.priority)
        return a->victims[0]->info.priority < b->victims[0]->info.priority;
    if (sum_of_priorities(a) != sum_of_priorities(b))
        return sum_of_priorities(a) < sum_of_priorities(b);
    if (a->n_victims != b->n_victims)
        return a->n_victims < b->n_victims;
    return earliest(a) > earliest(b);
}

static void search_nodes(struct search *s, const struct sched_decision *decision, uint64_t tie, struct sched_preemption *ret)
{
    const struct sched_cluster *cluster = s->question.cluster;
    struct candidate best = {0}, candidate;
    struct sched_tally tally = {0};
    struct sched_reasons why;
    size_t n_candidates = 0, enough = KP_MAX(cluster->n * CANDIDATES_PERCENT / 100, (size_t)CANDIDATES_MIN);
    for (size_t i = 0; i < cluster->n && n_candidates < enough; i++) {
        size_t at = (size_t)((tie + i) % cluster->n);
        if (decision->final[at]) {
            sched_tally_add(&tally, "Preemption is not helpful for scheduling", s->arena);
        } else if (select_victims(s, cluster->nodes[at], &candidate, &why)) {
            if (n_candidates++ == 0 || better(&candidate, &best))
                best = candidate;
        } else {
            for (size_t k = 0; k < why.n; k++)
                sched_tally_add(&tally, why.text[k], s->arena);
        }
    }
    if (n_candidates) {
        ret->node = best.node;
        ret->victims = best.victims;
        ret->n_victims = best.n_victims;
    } else {
        ret->message = kp_arena_printf(s->arena, "preemption: %s", sched_tally_text(&tally, cluster->n, s->arena));
    }
}

/* ---- may it ------------------------------------------------------------------------------------------------------------- */
static bool is_preempted(const struct k8s_pod *pod)
{
    if (!pod->metadata->deletion_timestamp.set)
        return false;
    for (size_t i = 0; i < pod->status->conditions.len; i++) {
        const struct k8s_pod_condition *c = &pod->status->conditions.items[i];
        if (kp_streq(c->type, "DisruptionTarget") && kp_streq(c->status, "True") && kp_streq(c->reason, "PreemptionByScheduler"))
            return true;
    }
    return false;
}

/* Whether pods are going for this one already, on the node that it is nominated to. */
static bool room_is_being_made(const struct sched_pod *pod, const struct sched_cluster *cluster, const struct sched_decision *decision)
{
    size_t at = sched_nominated_node(pod, cluster);
    if (at == cluster->n || decision->final[at])
        return false;
    const struct sched_node *node = cluster->nodes[at];
    for (size_t i = 0; i < node->n_pods; i++)
        if (node->pods[i].info.priority < pod->priority && is_preempted(node->pods[i].info.pod))
            return true;
    return false;
}

static bool nobody_is_less_important(const struct sched_pod *pod, const struct sched_cluster *cluster)
{
    for (size_t i = 0; i < cluster->n; i++)
        for (size_t k = 0; k < cluster->nodes[i]->n_pods; k++)
            if (cluster->nodes[i]->pods[k].info.priority < pod->priority)
                return false;
    return true;
}

void sched_preempt(const struct sched_pod *pod, const struct sched_cluster *cluster, const struct sched_decision *decision,
                   const struct k8s_pod_disruption_budget *const *budgets, size_t n_budgets, uint64_t tie, struct kp_arena *arena,
                   struct sched_preemption *ret)
{
    struct search s = {.budgets = budgets, .n_budgets = n_budgets, .arena = arena};
    *ret = (struct sched_preemption){0};
    if (kp_streq(pod->pod->spec->preemption_policy, "Never")) {
        ret->message = "preemption: not eligible due to preemptionPolicy=Never.";
        return;
    }
    if (room_is_being_made(pod, cluster, decision)) {
        ret->message = "preemption: not eligible due to a terminating pod on the nominated node.";
        ret->waits = true;
        return;
    }
    if (cluster->n == 0)
        return;
    s.selectors = KP_NEW_ARRAY(arena, struct kp_selector, n_budgets + 1);
    s.allowed = KP_NEW_ARRAY(arena, int32_t, n_budgets + 1);
    for (size_t i = 0; i < n_budgets; i++)
        if (kp_label_selector_from(budgets[i]->spec->selector, arena, &s.selectors[i], NULL) < 0)
            s.selectors[i] = (struct kp_selector){.nothing = true};
    if (nobody_is_less_important(pod, cluster)) { /* nothing is tried: what filters look at need not be counted */
        s.question = (struct sched_question){.pod = pod, .cluster = cluster};
        search_nodes(&s, decision, tie, ret);
        return;
    }
    sched_question_init(&s.question, pod, cluster, arena);
    search_nodes(&s, decision, tie, ret);
    sched_question_done(&s.question);
}
