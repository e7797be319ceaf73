/* What a Service's annotations and fields ask of its balancer. Beside our own names those of the clouds' own controllers are understood, on
 * every cloud: a manifest means the same wherever it is applied. */
#include "cloud-controller/service/service.h"

#include "cloud-controller/balancer/balancer.h"

#define OURS "kprov.dev/load-balancer-"
#define AWS "service.beta.kubernetes.io/aws-load-balancer-"
#define OPENSTACK "loadbalancer.openstack.org/"
#define HETZNER "load-balancer.hetzner.cloud/"
#define NAMES_MAX 4
#define SECONDS_MAX 3600
#define COUNT_MAX 100

enum wish { INTERNAL, PROXY, ALGORITHM, HEALTH_KIND, HEALTH_PATH, HEALTH_PORT, HEALTH_INTERVAL, HEALTH_TIMEOUT, HEALTHY, UNHEALTHY, RANGES, WISHES };

/* The first that is there counts. */
static const char *const names[WISHES][NAMES_MAX] = {
    [INTERNAL] = {OURS "internal", "service.beta.kubernetes.io/openstack-internal-load-balancer", AWS "internal", HETZNER "disable-public-network"},
    [PROXY] = {OURS "proxy-protocol", OPENSTACK "proxy-protocol", AWS "proxy-protocol", HETZNER "uses-proxyprotocol"},
    [ALGORITHM] = {OURS "algorithm", OPENSTACK "lb-method", HETZNER "algorithm-type"},
    [HEALTH_KIND] = {OURS "health-check-protocol", AWS "healthcheck-protocol", HETZNER "health-check-protocol"},
    [HEALTH_PATH] = {OURS "health-check-path", AWS "healthcheck-path", HETZNER "health-check-http-path"},
    [HEALTH_PORT] = {OURS "health-check-port", AWS "healthcheck-port", HETZNER "health-check-port"},
    [HEALTH_INTERVAL] = {OURS "health-check-interval", AWS "healthcheck-interval", OPENSTACK "health-monitor-delay", HETZNER "health-check-interval"},
    [HEALTH_TIMEOUT] = {OURS "health-check-timeout", AWS "healthcheck-timeout", OPENSTACK "health-monitor-timeout", HETZNER "health-check-timeout"},
    [HEALTHY] = {OURS "health-check-healthy-threshold", AWS "healthcheck-healthy-threshold"},
    [UNHEALTHY] = {OURS "health-check-unhealthy-threshold", AWS "healthcheck-unhealthy-threshold", OPENSTACK "health-monitor-max-retries",
                   HETZNER "health-check-retries"},
    [RANGES] = {"service.beta.kubernetes.io/load-balancer-source-ranges"},
};

/* The value, or NULL; *ret_name is of the annotation. */
static const char *look_up(const struct k8s_service *service, enum wish wish, const char **ret_name)
{
    for (size_t i = 0; i < NAMES_MAX && names[wish][i]; i++) {
        const char *value = kp_string_map_get(&service->metadata->annotations, names[wish][i]);
        *ret_name = names[wish][i];
        if (value)
            return value;
    }
    return NULL;
}

static int fail(struct kp_error *error, const char *name, const char *value, const char *must)
{
    return kp_fail(error, KP_EINVALID, "annotation %s: \"%s\" must be %s", name, value, must);
}

/* Upstream's own forms of yes: "true", the version of the protocol, "*" for all ports, the network of everybody. */
static int read_bool(const struct k8s_service *service, enum wish wish, bool *ret, struct kp_error *error)
{
    static const char *const yes[] = {"true", "True", "1", "v1", "v2", "*", "0.0.0.0/0"}, *const no[] = {"false", "False", "0", ""};
    const char *name, *value = look_up(service, wish, &name);
    *ret = false;
    if (!value)
        return 0;
    for (size_t i = 0; i < KP_ARRAY_LEN(no); i++)
        if (kp_streq(value, no[i]))
            return 0;
    for (size_t i = 0; i < KP_ARRAY_LEN(yes) && !*ret; i++)
        *ret = kp_streq(value, yes[i]);
    return *ret ? 0 : fail(error, name, value, "true or false");
}

static int read_scheme(const struct k8s_service *service, bool *internal, struct kp_error *error)
{
    static const char name[] = AWS "scheme";
    const char *value = kp_string_map_get(&service->metadata->annotations, name);
    if (!value)
        return 0;
    if (!kp_streq(value, "internal") && !kp_streq(value, "internet-facing"))
        return fail(error, name, value, "internal or internet-facing");
    *internal |= kp_streq(value, "internal");
    return 0;
}

static int read_algorithm(const struct k8s_service *service, enum cloud_algorithm *ret, struct kp_error *error)
{
    static const struct {
        const char *word;
        enum cloud_algorithm algorithm;
    } words[] = {
        {"round-robin", CLOUD_ROUND_ROBIN},             {"round_robin", CLOUD_ROUND_ROBIN},             {"ROUND_ROBIN", CLOUD_ROUND_ROBIN},
        {"least-connections", CLOUD_LEAST_CONNECTIONS}, {"least_connections", CLOUD_LEAST_CONNECTIONS}, {"LEAST_CONNECTIONS", CLOUD_LEAST_CONNECTIONS},
        {"source-ip", CLOUD_SOURCE_IP},                 {"SOURCE_IP", CLOUD_SOURCE_IP},
    };
    const char *name, *value = look_up(service, ALGORITHM, &name);
    *ret = CLOUD_ROUND_ROBIN;
    if (!value)
        return 0;
    for (size_t i = 0; i < KP_ARRAY_LEN(words); i++) {
        if (!kp_streq(words[i].word, value))
            continue;
        *ret = words[i].algorithm;
        return 0;
    }
    return fail(error, name, value, "round-robin, least-connections or source-ip");
}

/* Seconds as "10" or "10s"; counts and ports as numbers. */
static int read_number(const struct k8s_service *service, enum wish wish, int64_t max, int *ret, struct kp_error *error)
{
    const char *name, *value = look_up(service, wish, &name);
    int64_t number, ns;
    if (!value || (wish == HEALTH_PORT && kp_streq(value, "traffic-port")))
        return 0;
    bool seconds = wish == HEALTH_INTERVAL || wish == HEALTH_TIMEOUT;
    if (kp_parse_i64(value, &number) < 0)
        number = seconds && kp_parse_duration_ns(value, &ns) == 0 && ns % 1000000000 == 0 ? ns / 1000000000 : 0;
    if (number < 1 || number > max)
        return kp_fail(error, KP_EINVALID, "annotation %s: \"%s\" must be %s from 1 to %lld", name, value, seconds ? "seconds" : "a number", (long long)max);
    *ret = (int)number;
    return 0;
}

static int read_health_kind(const struct k8s_service *service, struct cloud_health_check *health, struct kp_error *error)
{
    const char *name, *value = look_up(service, HEALTH_KIND, &name), *path_name;
    health->path = look_up(service, HEALTH_PATH, &path_name);
    if (health->path && health->path[0] != '/')
        return fail(error, path_name, health->path, "a path that begins with /");
    if (!value) {
        health->kind = health->path ? CLOUD_HEALTH_HTTP : CLOUD_HEALTH_CONNECT;
    } else if (kp_streq(value, "http") || kp_streq(value, "HTTP")) {
        health->kind = CLOUD_HEALTH_HTTP;
        health->path = health->path ? health->path : "/";
    } else if (kp_streq(value, "tcp") || kp_streq(value, "TCP")) {
        health->kind = CLOUD_HEALTH_CONNECT;
        health->path = NULL;
    } else {
        return fail(error, name, value, "http or tcp");
    }
    return 0;
}

/* With the policy Local each node tells itself, as kube-proxy answers it, whether it has endpoints: only the pace may be chosen. */
static int read_health(const struct k8s_service *service, struct cloud_health_check *health, struct kp_error *error)
{
    *health = (struct cloud_health_check){0};
    if (kp_streq(service->spec->external_traffic_policy, "Local")) {
        health->kind = CLOUD_HEALTH_HTTP;
        health->path = "/healthz";
        health->port = service->spec->health_check_node_port;
        if (health->port == 0)
            return kp_fail(error, KP_EINVALID, "externalTrafficPolicy Local needs a healthCheckNodePort, and none is allocated");
    } else if (read_health_kind(service, health, error) < 0 || read_number(service, HEALTH_PORT, 65535, &health->port, error) < 0) {
        return error->code;
    }
    if (read_number(service, HEALTH_INTERVAL, SECONDS_MAX, &health->interval_s, error) < 0 ||
        read_number(service, HEALTH_TIMEOUT, SECONDS_MAX, &health->timeout_s, error) < 0 ||
        read_number(service, HEALTHY, COUNT_MAX, &health->healthy, error) < 0 || read_number(service, UNHEALTHY, COUNT_MAX, &health->unhealthy, error) < 0)
        return error->code;
    return 0;
}

/* A range of IPv6 lets nobody in here, but one that asks for such ranges alone does not ask for everybody. */
static int read_ranges(const struct k8s_service *service, struct kp_arena *arena, struct kp_string_list *ret, struct kp_error *error)
{
    const char *name, *text = look_up(service, RANGES, &name);
    const struct kp_string_list *field = &service->spec->load_balancer_source_ranges;
    size_t asked = 0;
    *ret = (struct kp_string_list){0};
    for (size_t i = 0; i < field->len; i++) {
        char *range = kp_arena_strdup(arena, field->items[i] + strspn(field->items[i], " "));
        range[strcspn(range, " ")] = '\0';
        asked++;
        if (!strchr(range, ':'))
            kp_string_list_add(arena, ret, range);
    }
    for (char *rest = field->len == 0 ? kp_arena_strdup(arena, text) : NULL, *item; (item = strsep(&rest, ",")) != NULL;) {
        item += strspn(item, " ");
        item[strcspn(item, " ")] = '\0';
        asked += *item != '\0';
        if (*item && !strchr(item, ':'))
            kp_string_list_add(arena, ret, item);
    }
    if (asked > 0 && ret->len == 0)
        return kp_fail(error, KP_EINVALID, "source ranges: none of the %zu is of IPv4", asked);
    return ret->len > CLOUD_SOURCE_RANGES_MAX ? kp_fail(error, KP_EINVALID, "%zu source ranges: at most %d go", ret->len, CLOUD_SOURCE_RANGES_MAX) : 0;
}

int service_read_wishes(const struct k8s_service *service, struct kp_arena *arena, struct service_wishes *ret, struct kp_error *error)
{
    const char *annotated = kp_string_map_get(&service->metadata->annotations, BALANCER_ADDRESS_ANNOTATION);
    *ret = (struct service_wishes){.address = !kp_empty(annotated) ? annotated : service->spec->load_balancer_ip};
    if (kp_empty(ret->address))
        ret->address = NULL;
    if (read_bool(service, INTERNAL, &ret->internal, error) < 0 || read_scheme(service, &ret->internal, error) < 0 ||
        read_bool(service, PROXY, &ret->proxy_protocol, error) < 0 || read_algorithm(service, &ret->algorithm, error) < 0 ||
        read_health(service, &ret->health, error) < 0 || read_ranges(service, arena, &ret->source_ranges, error) < 0)
        return error->code;
    return 0;
}
