/* Cluster addresses and node ports: each is held by a key written in the Service's own transaction, so that several API
   servers never give one out twice. An address is an IPAddress object, as upstream has it; a port is a plain key. */
#include "controlplane/apiserver/registry/strategy_internal.h"

#include <arpa/inet.h>

#define PORT_PREFIX "/registry/kprov.dev/nodeports/"
#define RANGES_MAX 2
#define PICK_ATTEMPTS_MAX 256
#define NODE_PORTS_PER_SERVICE_MAX 50

struct ip_range {
    const char *cidr;
    int family;
    unsigned char base[16];
    int prefix_len;
    uint64_t size; /* addresses, capped at 2^32 */
};
struct ip_ranges {
    struct ip_range items[RANGES_MAX];
    size_t count;
    char *text;
    uint16_t port_min, port_max;
};

static int parse_range(char *cidr, struct ip_range *range, struct kp_error *error)
{
    char address[64];
    int64_t len;
    const char *slash = strchr(cidr, '/');
    if (!slash || (size_t)(slash - cidr) >= sizeof(address) || kp_parse_i64(slash + 1, &len) < 0)
        return kp_fail(error, KP_EUSAGE, "--service-cluster-ip-range: %s is no CIDR", cidr);
    memcpy(address, cidr, (size_t)(slash - cidr));
    address[slash - cidr] = '\0';
    range->cidr = cidr;
    range->family = strchr(address, ':') ? AF_INET6 : AF_INET;
    int bits = range->family == AF_INET ? 32 : 128;
    if (inet_pton(range->family, address, range->base) != 1 || len < 0 || len > bits - 2)
        return kp_fail(error, KP_EUSAGE, "--service-cluster-ip-range: %s is no usable CIDR", cidr);
    range->prefix_len = (int)len;
    range->size = bits - len >= 32 ? UINT32_MAX : (uint64_t)1 << (bits - len);
    for (int bit = (int)len; bit < bits; bit++)
        range->base[bit / 8] &= (unsigned char)~(0x80 >> (bit % 8));
    return 0;
}

int ip_ranges_new(const char *cidrs, uint16_t port_min, uint16_t port_max, struct ip_ranges **ret, struct kp_error *error)
{
    struct ip_ranges *ranges = kp_calloc(1, sizeof(*ranges));
    ranges->text = kp_strdup(cidrs);
    ranges->port_min = port_min;
    ranges->port_max = port_max;
    char *save = NULL;
    int code = 0;
    for (char *word = strtok_r(ranges->text, ",", &save); word && code == 0; word = strtok_r(NULL, ",", &save)) {
        if (ranges->count == RANGES_MAX)
            code = kp_fail(error, KP_EUSAGE, "--service-cluster-ip-range: more than two ranges");
        else
            code = parse_range(word, &ranges->items[ranges->count++], error);
    }
    if (code == 0 && !ranges->count)
        code = kp_fail(error, KP_EUSAGE, "--service-cluster-ip-range: no range given");
    if (code < 0)
        ip_ranges_free(KP_TAKE(ranges));
    *ret = ranges;
    return code;
}

void ip_ranges_free(struct ip_ranges *ranges)
{
    if (!ranges)
        return;
    free(ranges->text);
    free(ranges);
}

static const char *address_at(const struct ip_range *range, uint64_t offset, struct kp_arena *arena)
{
    unsigned char address[16];
    char text[INET6_ADDRSTRLEN];
    memcpy(address, range->base, sizeof(address));
    int last = range->family == AF_INET ? 3 : 15;
    for (int i = 0; i < 4; i++)
        address[last - i] = (unsigned char)(address[last - i] | ((offset >> (8 * i)) & 0xff));
    return kp_arena_strdup(arena, inet_ntop(range->family, address, text, sizeof(text)));
}

const char *ip_ranges_first(const struct ip_ranges *ranges, struct kp_arena *arena)
{
    return address_at(&ranges->items[0], 1, arena);
}

void ip_ranges_list(const struct ip_ranges *ranges, struct kp_arena *arena, struct kp_string_list *ret)
{
    for (size_t i = 0; i < ranges->count; i++)
        kp_string_list_add(arena, ret, kp_arena_strdup(arena, ranges->items[i].cidr));
}

static const struct ip_range *range_of(const struct ip_ranges *ranges, const char *ip)
{
    int family = strchr(ip, ':') ? AF_INET6 : AF_INET;
    unsigned char address[16];
    if (inet_pton(family, ip, address) != 1)
        return NULL;
    for (size_t i = 0; i < ranges->count; i++) {
        const struct ip_range *range = &ranges->items[i];
        int whole = range->prefix_len / 8, rest = range->prefix_len % 8;
        if (range->family == family && memcmp(address, range->base, (size_t)whole) == 0 &&
            (!rest || ((address[whole] ^ range->base[whole]) & (0xff << (8 - rest)) & 0xff) == 0))
            return range;
    }
    return NULL;
}

/* Upstream leaves the lower part of a range to addresses chosen by hand: min(max(16, size/16), 256). */
static const char *pick_address(struct registry_write *write, const struct ip_range *range)
{
    struct wcache *cache = wcache_find(write->registry->caches, "networking.k8s.io", "ipaddresses");
    uint64_t low = KP_MIN(KP_MAX((uint64_t)16, range->size / 16), (uint64_t)256);
    if (low + 2 >= range->size)
        low = 1;
    for (int i = 0; i < PICK_ATTEMPTS_MAX; i++) {
        uint64_t from = i < PICK_ATTEMPTS_MAX / 2 ? low : 1;
        const char *ip = address_at(range, from + kp_random_u64() % (range->size - 1 - from), write->rq->arena);
        struct wcache_object *taken = cache ? wcache_get(cache, ip) : NULL;
        if (!taken)
            return ip;
        wcache_object_unref(taken);
    }
    return NULL;
}

static int invalid(struct registry_request *rq, struct field_errors *errors)
{
    return status_invalid(rq->status, "", "Service", rq->name, errors);
}

static void hold_address(struct registry_write *write, const struct k8s_service *service, const char *ip)
{
    struct registry_request *rq = write->rq;
    struct k8s_ip_address *address = KP_OBJECT_NEW(rq->arena, k8s_ip_address);
    char uid[37];
    kp_uuid4(uid);
    address->metadata->name = ip;
    address->metadata->uid = kp_arena_strdup(rq->arena, uid);
    address->metadata->creation_timestamp = KP_TIME_OF(rq->now_s);
    KP_SET(address->metadata, generation, 1);
    kp_string_map_set(rq->arena, &address->metadata->labels, "ipaddress.kubernetes.io/ip-family", strchr(ip, ':') ? "IPv6" : "IPv4");
    kp_string_map_set(rq->arena, &address->metadata->labels, "ipaddress.kubernetes.io/managed-by", "ipallocator.k8s.io");
    address->spec->parent_ref = KP_OBJECT_NEW(rq->arena, k8s_parent_reference);
    address->spec->parent_ref->resource = "services";
    address->spec->parent_ref->namespace = rq->ns;
    address->spec->parent_ref->name = service->metadata->name;
    KP_AUTO_BUF struct kp_buf json = {0};
    kp_json_encode(&k8s_ip_address_type, address, &json);
    write_add(write, kp_arena_printf(rq->arena, "/registry/ipaddresses/%s", ip), 0, kp_arena_strdup(rq->arena, json.data), json.len);
}

static void let_go(struct registry_write *write, const char *key)
{
    write_add(write, key, STORE_ANY, NULL, 0);
}

static bool wants_address(const struct k8s_service_spec *spec)
{
    return !kp_streq(spec->type, "ExternalName") && !kp_streq(spec->cluster_ip, "None");
}

static void set_families(struct registry_write *write, struct k8s_service_spec *spec)
{
    struct kp_arena *arena = write->rq->arena;
    if (kp_empty(spec->ip_family_policy))
        spec->ip_family_policy = "SingleStack";
    if (spec->ip_families.len)
        return;
    bool six = spec->cluster_ips.len && strchr(spec->cluster_ips.items[0], ':');
    if (kp_streq(spec->cluster_ip, "None"))
        six = write->registry->ranges->items[0].family == AF_INET6;
    kp_string_list_add(arena, &spec->ip_families, six ? "IPv6" : "IPv4");
}

static int reserve_address(struct registry_write *write, struct k8s_service *service, const struct k8s_service *old)
{
    const struct ip_ranges *ranges = write->registry->ranges;
    struct k8s_service_spec *spec = service->spec;
    struct registry_request *rq = write->rq;
    struct field_errors errors = {.arena = rq->arena};
    const char *held = old && wants_address(old->spec) ? old->spec->cluster_ip : NULL;
    if (!wants_address(spec) && !kp_empty(held))
        let_go(write, kp_arena_printf(rq->arena, "/registry/ipaddresses/%s", held));
    if (!wants_address(spec)) {
        if (!kp_streq(spec->type, "ExternalName"))
            set_families(write, spec);
        return 0;
    }
    if (write->attempt && write->address_picked) { /* the one of the last attempt was taken meanwhile */
        spec->cluster_ip = NULL;
        spec->cluster_ips = (struct kp_string_list){0};
    } else if (write->attempt && !write->address_picked && kp_empty(held)) {
        struct wcache_object *taken = wcache_get(wcache_find(write->registry->caches, "networking.k8s.io", "ipaddresses"), spec->cluster_ip);
        wcache_object_unref(taken);
        if (taken || write->attempt > 3) {
            KP_AUTO_BUF struct kp_buf value = {0};
            kp_buf_printf(&value, "[\"%s\"]", spec->cluster_ip);
            field_invalid_raw(&errors, kp_arena_strdup(rq->arena, value.data),
                              kp_arena_printf(rq->arena, "failed to allocate IP %s: provided IP is already allocated", spec->cluster_ip), "spec.clusterIPs");
            return invalid(rq, &errors);
        }
    }
    if (kp_empty(spec->cluster_ip)) {
        const struct ip_range *range = &ranges->items[0];
        for (size_t i = 0; i < ranges->count && spec->ip_families.len; i++)
            if ((ranges->items[i].family == AF_INET6) == (strcmp(spec->ip_families.items[0], "IPv6") == 0))
                range = &ranges->items[i];
        spec->cluster_ip = pick_address(write, range);
        if (!spec->cluster_ip)
            return status_internal(rq->status, "failed to allocate a serviceIP: range is full");
        kp_string_list_add(rq->arena, &spec->cluster_ips, spec->cluster_ip);
        write->address_picked = true;
    } else if (!range_of(ranges, spec->cluster_ip)) {
        field_invalid_raw(&errors, kp_arena_printf(rq->arena, "[\"%s\"]", spec->cluster_ip),
                          kp_arena_printf(rq->arena, "failed to allocate IP %s: the provided IP (%s) is not in the valid range. The range of valid IPs is %s",
                                          spec->cluster_ip, spec->cluster_ip, ranges->items[0].cidr),
                          "spec.clusterIPs");
        return invalid(rq, &errors);
    }
    set_families(write, spec);
    if (!kp_streq(held, spec->cluster_ip))
        hold_address(write, service, spec->cluster_ip);
    return 0;
}

/* ---- node ports ------------------------------------------------------------------------------------------------------ */
static bool wants_ports(const struct k8s_service_spec *spec)
{
    return kp_streq(spec->type, "NodePort") ||
           (kp_streq(spec->type, "LoadBalancer") && (!spec->has_allocate_load_balancer_node_ports || spec->allocate_load_balancer_node_ports));
}

static bool uses_port(const struct k8s_service *service, size_t until, int32_t port)
{
    for (size_t i = 0; service && i < until && i < service->spec->ports.len; i++)
        if (service->spec->ports.items[i].node_port == port)
            return true;
    return false;
}

/* One of its ports, or the one of its health check. */
static bool holds_port(const struct k8s_service *service, int32_t port)
{
    return uses_port(service, SIZE_MAX, port) || (service && service->spec->health_check_node_port == port);
}

static const char *port_key(struct registry_write *write, int32_t port)
{
    return kp_arena_printf(write->rq->arena, PORT_PREFIX "%d", port);
}

static int port_in_use(struct registry_write *write, size_t i, int32_t port)
{
    struct field_errors errors = {.arena = write->rq->arena};
    field_invalid_int(&errors, port, "provided port is already allocated", "spec.ports[%zu].nodePort", i);
    return invalid(write->rq, &errors);
}

static int port_of_others(struct registry_write *write, int32_t port, bool *ret_taken)
{
    struct store_kv kv;
    int64_t revision;
    struct kp_error error = {0};
    if (store_get(write->registry->store, port_key(write, port), write->rq->arena, &kv, &revision, &error) < 0)
        return registry_store_failed(write->rq, &error);
    *ret_taken = kv.mod_revision != 0;
    return 0;
}

static int32_t pick_port(const struct ip_ranges *ranges, const struct k8s_service *service, size_t until, const struct k8s_service *holder)
{
    uint32_t span = (uint32_t)(ranges->port_max - ranges->port_min) + 1;
    int32_t port;
    do
        port = (int32_t)(ranges->port_min + kp_random_u64() % span);
    while (uses_port(service, until, port) || holds_port(holder, port));
    return port;
}

static const char *range_text(struct registry_write *write)
{
    return kp_arena_printf(write->rq->arena, "provided port is not in the valid range. The range of valid ports is %u-%u",
                           write->registry->ranges->port_min, write->registry->ranges->port_max);
}

static int reserve_ports(struct registry_write *write, struct k8s_service *service, const struct k8s_service *old)
{
    const struct ip_ranges *ranges = write->registry->ranges;
    struct registry_request *rq = write->rq;
    const struct k8s_service *holder = old && old->spec ? old : NULL;
    if (service->spec->ports.len > NODE_PORTS_PER_SERVICE_MAX && wants_ports(service->spec))
        return status_bad_request(rq->status, "a Service may have at most %d node ports", NODE_PORTS_PER_SERVICE_MAX);
    for (size_t i = 0; wants_ports(service->spec) && i < service->spec->ports.len; i++) {
        struct k8s_service_port *port = &service->spec->ports.items[i];
        bool picked = write->picked_ports & ((uint64_t)1 << i), taken = false;
        if (write->attempt && !picked && port->node_port && !holds_port(holder, port->node_port)) {
            int rc = port_of_others(write, port->node_port, &taken);
            if (rc < 0 || taken)
                return rc < 0 ? rc : port_in_use(write, i, port->node_port);
        }
        if (!port->node_port || (write->attempt && picked)) {
            KP_SET(port, node_port, pick_port(ranges, service, i, holder));
            write->picked_ports |= (uint64_t)1 << i;
        } else if (port->node_port < ranges->port_min || port->node_port > ranges->port_max) {
            struct field_errors errors = {.arena = rq->arena};
            field_invalid_int(&errors, port->node_port, range_text(write), "spec.ports[%zu].nodePort", i);
            return invalid(rq, &errors);
        }
        if (!holds_port(holder, port->node_port) && !uses_port(service, i, port->node_port)) {
            const char *owner = kp_arena_printf(rq->arena, "%s/%s", rq->ns, service->metadata->name);
            write_add(write, port_key(write, port->node_port), 0, owner, strlen(owner));
        }
    }
    return 0;
}

#define HEALTH_PORT_BIT ((uint64_t)1 << 63) /* of picked_ports; the ports of a Service take fewer */

static int health_port_fault(struct registry_write *write, int32_t port, const char *text)
{
    struct field_errors errors = {.arena = write->rq->arena};
    field_invalid_int(&errors, port, text, "spec.healthCheckNodePort");
    return invalid(write->rq, &errors);
}

static int reserve_health_port(struct registry_write *write, struct k8s_service *service, const struct k8s_service *old)
{
    const struct ip_ranges *ranges = write->registry->ranges;
    const struct k8s_service *holder = old && old->spec ? old : NULL;
    struct k8s_service_spec *spec = service->spec;
    bool picked = write->picked_ports & HEALTH_PORT_BIT, taken = false;
    if (!service_has_health_port(spec))
        return 0;
    if (write->attempt && !picked && spec->health_check_node_port && !holds_port(holder, spec->health_check_node_port)) {
        int rc = port_of_others(write, spec->health_check_node_port, &taken);
        if (rc < 0 || taken)
            return rc < 0 ? rc : health_port_fault(write, spec->health_check_node_port, "provided port is already allocated");
    }
    if (!spec->health_check_node_port || (write->attempt && picked)) {
        KP_SET(spec, health_check_node_port, pick_port(ranges, service, SIZE_MAX, holder));
        write->picked_ports |= HEALTH_PORT_BIT;
    } else if (spec->health_check_node_port < ranges->port_min || spec->health_check_node_port > ranges->port_max) {
        return health_port_fault(write, spec->health_check_node_port, range_text(write));
    } else if (uses_port(service, SIZE_MAX, spec->health_check_node_port)) {
        return health_port_fault(write, spec->health_check_node_port, "provided port is already allocated");
    }
    if (!holds_port(holder, spec->health_check_node_port)) {
        const char *owner = kp_arena_printf(write->rq->arena, "%s/%s", write->rq->ns, service->metadata->name);
        write_add(write, port_key(write, spec->health_check_node_port), 0, owner, strlen(owner));
    }
    return 0;
}

static void release_ports(struct registry_write *write, const struct k8s_service *service, const struct k8s_service *old)
{
    int32_t health = old->spec->health_check_node_port;
    for (size_t i = 0; i < old->spec->ports.len; i++) {
        int32_t port = old->spec->ports.items[i].node_port;
        if (port && !holds_port(service, port) && !uses_port(old, i, port))
            let_go(write, port_key(write, port));
    }
    if (health && !holds_port(service, health))
        let_go(write, port_key(write, health));
}

int service_reserve(struct registry_write *write, void *obj, const void *before)
{
    struct k8s_service *service = obj;
    const struct k8s_service *old = before;
    if (!service) {
        if (wants_address(old->spec) && !kp_empty(old->spec->cluster_ip))
            let_go(write, kp_arena_printf(write->rq->arena, "/registry/ipaddresses/%s", old->spec->cluster_ip));
        release_ports(write, NULL, old);
        return 0;
    }
    if (reserve_address(write, service, old) < 0 || reserve_ports(write, service, old) < 0 ||
        reserve_health_port(write, service, old) < 0)
        return write->rq->status->code;
    if (old)
        release_ports(write, service, old);
    return 0;
}
