/* Check with an application: a pod that serves, a Service before it, a pod that asks for both names and pages. */
#include "api/k8s.h"
#include "client/client.h"
#include "provisioner/cli/validate_internal.h"

#define IMAGE BOOTSTRAP_REGISTRY "/busybox:1.35" /* in every node image */
#define START_MS 30000                           /* from the first object to the last answer */
#define GONE_MS 30000
#define POLL_MS 100
#define LEFTOVER_AGE_S 600 /* namespaces of a validation that was killed */
#define LABEL "kprov.dev/purpose=validate"

static const char objects[] =
    "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: %1$s}\n"
    "spec: {selector: {app: web}, ports: [{port: 80}]}\n"
    "---\napiVersion: v1\nkind: Pod\nmetadata: {name: web, namespace: %1$s, labels: {app: web}}\n"
    "spec:\n  terminationGracePeriodSeconds: 0\n  tolerations: [{key: node-role.kubernetes.io/control-plane, operator: Exists}]\n"
    "  containers:\n  - name: web\n    image: " IMAGE "\n    imagePullPolicy: IfNotPresent\n"
    "    command: [sh, -c, 'mkdir -p /tmp/www && echo kprov-answers > /tmp/www/index.html && exec httpd -f -p 80 -h /tmp/www']\n";
/* Each container tries for its 20 s, and its exit status tells; nc speaks HTTP/1.0 because busybox's wget of Debian 12 crashes. */
static const char asker[] =
    "apiVersion: v1\nkind: Pod\nmetadata: {name: client, namespace: %1$s}\n"
    "spec:\n  terminationGracePeriodSeconds: 0\n  restartPolicy: Never\n"
    "  tolerations: [{key: node-role.kubernetes.io/control-plane, operator: Exists}]\n"
    "  containers:\n  - name: dns\n    image: " IMAGE "\n    imagePullPolicy: IfNotPresent\n"
    "    command: [sh, -c, 'n=0; until nslookup web.%1$s.svc.%2$s | grep -q \"%3$s\"; do n=$((n+1)); [ $n -lt 100 ] || exit 11; sleep 0.2; done']\n"
    "  - name: service\n    image: " IMAGE "\n    imagePullPolicy: IfNotPresent\n"
    "    command: [sh, -c, 'n=0; until printf \"GET / HTTP/1.0\\r\\n\\r\\n\" | nc -w 2 %3$s 80 | grep -q kprov-answers; do n=$((n+1)); [ $n -lt 100 ] || exit 12; sleep 0.2; done']\n";

struct workload {
    struct validate *v;
    struct client *client;
    const char *ns;
    int64_t deadline_ms;
};

static int remove_namespace(struct workload *w, const char *name, struct kp_error *error)
{
    int r = client_delete(w->client, &k8s_namespaces_resource, NULL, name, CLIENT_DELETE_DEFAULT, error);
    return r == KP_ENOTFOUND ? 0 : r;
}

/* What a validation that was killed could not remove. */
static void remove_leftovers(struct workload *w)
{
    static const struct client_list_options options = {.label_selector = LABEL};
    struct kp_error error = {0};
    void *answer = NULL;
    if (client_list(w->client, &k8s_namespaces_resource, NULL, &options, w->v->arena, &answer, &error) < 0)
        return; /* what follows fails on the same and says so */
    const struct k8s_namespace_list *list = answer;
    for (size_t i = 0; i < list->items.len; i++) {
        const struct k8s_object_meta *meta = list->items.items[i].metadata;
        if (meta->creation_timestamp.seconds + LEFTOVER_AGE_S < kp_now_s() && remove_namespace(w, meta->name, &error) < 0)
            validate_add(w->v, "leftovers", VALIDATE_WARNING, "kubectl delete namespace NAME", "%s: %s", meta->name, error.message);
    }
}

static int apply(struct workload *w, const char *yaml, struct kp_error *error)
{
    int r;
    /* The namespace's service account comes a moment after it. */
    while ((r = cli_api_apply(w->v->api, yaml, error)) == KP_EFORBIDDEN && kp_mono_ms() < w->deadline_ms && !cli_was_interrupted())
        kp_sleep_ms(POLL_MS);
    return r;
}

static int service_address(struct workload *w, const char **ret, struct kp_error *error)
{
    void *found = NULL;
    int r = client_get(w->client, &k8s_services_resource, w->ns, "web", w->v->arena, &found, error);
    if (r == 0)
        *ret = ((const struct k8s_service *)found)->spec->cluster_ip;
    return r == 0 && kp_empty(*ret) ? kp_fail(error, KP_EINTERNAL, "the Service has no address") : r;
}

static int make(struct workload *w, struct kp_error *error)
{
    struct kp_arena *arena = w->v->arena;
    const char *address = NULL;
    int r = cli_api_apply(w->v->api, kp_arena_printf(arena, "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: %s\n  labels: {kprov.dev/purpose: validate}\n", w->ns), error);
    if (r == 0)
        r = apply(w, kp_arena_printf(arena, objects, w->ns), error);
    if (r == 0)
        r = service_address(w, &address, error);
    if (r == 0)
        r = apply(w, kp_arena_printf(arena, asker, w->ns, w->v->cluster.config.network.dns_domain, address), error);
    return r;
}

static const struct k8s_container_state_terminated *ended(const struct k8s_pod *pod, const char *container)
{
    for (size_t i = 0; pod->status && i < pod->status->container_statuses.len; i++) {
        const struct k8s_container_status *status = &pod->status->container_statuses.items[i];
        if (kp_streq(status->name, container))
            return status->state->terminated;
    }
    return NULL;
}

/* Why a pod does not run: what the scheduler says, or what a container waits for. */
static const char *why_not(const struct k8s_pod *pod, struct kp_arena *arena)
{
    for (size_t i = 0; pod->status && i < pod->status->conditions.len; i++) {
        const struct k8s_pod_condition *condition = &pod->status->conditions.items[i];
        if (kp_streq(condition->type, "PodScheduled") && !kp_streq(condition->status, "True"))
            return kp_arena_printf(arena, "not scheduled: %s", condition->message ? condition->message : "no reason given");
    }
    for (size_t i = 0; pod->status && i < pod->status->container_statuses.len; i++) {
        const struct k8s_container_state_waiting *waiting = pod->status->container_statuses.items[i].state->waiting;
        if (waiting)
            return kp_arena_printf(arena, "%s: %s", waiting->reason ? waiting->reason : "waiting", waiting->message ? waiting->message : "");
    }
    return pod->spec->node_name ? kp_arena_printf(arena, "does not start on %s", pod->spec->node_name) : "nobody has scheduled it";
}

/* The rows of what one container of the asking pod found out; false while it runs. */
static bool report(struct workload *w, const struct k8s_pod *pod, const char *container, const char *row, const char *remedy, const char *good)
{
    const struct k8s_container_state_terminated *end = ended(pod, container);
    if (!end)
        return false;
    if (end->exit_code == 0)
        validate_add(w->v, row, VALIDATE_OK, "", "%s, asked from %s", good, pod->spec->node_name);
    else
        validate_add(w->v, row, VALIDATE_FAILED, remedy, "a pod on %s gets no answer (status %d)", pod->spec->node_name, end->exit_code);
    return true;
}

static void watch(struct workload *w)
{
    bool started = false, dns = false, service = false;
    const char *why = "it was not there";
    struct kp_error error = {0};
    while (!(started && dns && service) && kp_mono_ms() < w->deadline_ms && !cli_was_interrupted()) {
        void *found = NULL;
        kp_sleep_ms(POLL_MS);
        if (client_get(w->client, &k8s_pods_resource, w->ns, "client", w->v->arena, &found, &error) < 0) {
            why = kp_arena_strdup(w->v->arena, error.message);
            continue;
        }
        const struct k8s_pod *pod = found;
        bool runs = pod->status && pod->status->phase && !kp_streq(pod->status->phase, "Pending");
        why = why_not(pod, w->v->arena);
        if (runs && !started)
            validate_add(w->v, "test pod", VALIDATE_OK, "", "runs on %s", pod->spec->node_name);
        started |= runs;
        if (!dns)
            dns = report(w, pod, "dns", "DNS", "kubectl -n kube-system logs deployment/kprov-dns", "the Service's name is found");
        if (!service)
            service = report(w, pod, "service", "Service", "kubectl -n kube-system logs daemonset/kube-proxy", "the pod behind it answers");
    }
    if (cli_was_interrupted())
        return;
    if (!started)
        validate_add(w->v, "test pod", VALIDATE_FAILED, "kubectl get events -A", "%s", why);
    if (!dns)
        validate_add(w->v, "DNS", VALIDATE_FAILED, "mend the test pod first", "no answer was seen");
    if (!service)
        validate_add(w->v, "Service", VALIDATE_FAILED, "mend the test pod first", "no answer was seen");
}

/* Always, interrupted or not: asked until it is gone. */
static void clean_up(struct workload *w)
{
    struct kp_error error = {0};
    int64_t deadline_ms = kp_mono_ms() + GONE_MS;
    w->v->check_start_ms = kp_mono_ms();
    int r = KP_EUNAVAILABLE;
    for (void *found = NULL; kp_mono_ms() < deadline_ms; kp_sleep_ms(POLL_MS)) {
        if (r < 0)
            r = remove_namespace(w, w->ns, &error);
        if (r == 0 && client_get(w->client, &k8s_namespaces_resource, NULL, w->ns, w->v->arena, &found, &error) == KP_ENOTFOUND)
            return;
    }
    validate_add(w->v, "clean-up", VALIDATE_FAILED, kp_arena_printf(w->v->arena, "kubectl delete namespace %s", w->ns),
                 "namespace %s is still there: %s", w->ns, r < 0 ? error.message : "it does not go");
}

void validate_workload(struct validate *v)
{
    char suffix[6];
    struct kp_error error = {0};
    if (!v->api) {
        validate_add(v, "test pod", VALIDATE_FAILED, "mend the endpoint first", "not checked: the API does not answer");
        return;
    }
    kp_random_suffix(suffix, sizeof(suffix) - 1);
    struct workload w = {
        .v = v, .client = cli_api_client(v->api), .ns = kp_arena_printf(v->arena, "kprov-validate-%s", suffix),
        .deadline_ms = kp_mono_ms() + START_MS,
    };
    remove_leftovers(&w);
    if (make(&w, &error) < 0)
        validate_add(v, "test pod", VALIDATE_FAILED, kp_arena_printf(v->arena, "kprov logs %s NODE kube-apiserver", v->cluster.name), "%s", error.message);
    else
        watch(&w);
    clean_up(&w);
}
