/* Promises about load balancers. What the cloud has made of one is read from its targets' health: a line for each target and listener. */
#include <arpa/inet.h>

#include "tests/contract/contract.h"

#define NAME "web"

/* The cloud is asked again until it is done. */
static int ensure(struct contract *c, const struct cloud_balancer_spec *spec, struct cloud_balancer *ret, struct kp_error *error)
{
    int64_t deadline_ms = kp_mono_ms() + c->wait_ms;
    int r;
    while ((r = cloud_balancer_ensure(c->cloud, spec, c->arena, ret, error)) == KP_EAGAIN && kp_mono_ms() < deadline_ms) {
        c->waits++;
        kp_sleep_ms(c->wait_ms > 60000 ? 1000 : 50);
    }
    return r;
}

static int delete_it(struct contract *c, const char *uid, const char *name, struct kp_error *error)
{
    int64_t deadline_ms = kp_mono_ms() + c->wait_ms;
    int r;
    while ((r = cloud_balancer_delete(c->cloud, uid, name, error)) == KP_EAGAIN && kp_mono_ms() < deadline_ms) {
        c->waits++;
        kp_sleep_ms(c->wait_ms > 60000 ? 1000 : 50);
    }
    return r;
}

static bool has(const struct cloud_target_health_list *list, const char *address, int port)
{
    size_t n = 0;
    for (size_t i = 0; i < list->len; i++)
        n += kp_streq(list->items[i].address, address) && list->items[i].port == port;
    return n == 1;
}

/* Whether the cloud sends to exactly the targets and listeners of the spec. */
static bool converged(struct contract *c, const struct cloud_balancer_spec *spec, struct kp_error *error)
{
    struct cloud_target_health_list list = {0};
    int r = cloud_balancer_health(c->cloud, spec->cluster_uid, spec->name, c->arena, &list, error);
    bool all = r == 0 && list.len == spec->n_targets * spec->n_listeners;
    for (size_t t = 0; all && t < spec->n_targets; t++)
        for (size_t l = 0; all && l < spec->n_listeners; l++)
            all = has(&list, spec->targets[t].address, spec->listeners[l].target_port);
    return all;
}

static bool same(const struct cloud_balancer *a, const struct cloud_balancer *b)
{
    return kp_streq(a->id, b->id) && kp_streq(a->name, b->name) && kp_streq(a->cluster_uid, b->cluster_uid) && kp_streq(a->address, b->address) &&
           kp_streq(a->host_name, b->host_name) && a->state == b->state;
}

static void no_balancers(struct contract *c, const struct cloud_balancer_spec *spec)
{
    static const char *const names[] = {"balancer_ensure", "balancer_get", "balancer_health", "balancer_list", "balancer_delete"};
    struct kp_error error = {0};
    struct cloud_balancer balancer;
    struct cloud_target_health_list health;
    struct cloud_balancer_list list;
    const int got[] = {
        cloud_balancer_ensure(c->cloud, spec, c->arena, &balancer, &error), cloud_balancer_get(c->cloud, c->uid, NAME, c->arena, &balancer, &error),
        cloud_balancer_health(c->cloud, c->uid, NAME, c->arena, &health, &error), cloud_balancer_list(c->cloud, c->uid, c->arena, &list, &error),
        cloud_balancer_delete(c->cloud, c->uid, NAME, &error),
    };
    for (size_t i = 0; i < KP_ARRAY_LEN(names); i++) {
        under(c, names[i]);
        check_code(c, got[i], KP_ENOTSUPPORTED, &error, "this cloud has no load balancers");
        unsupported(c, names[i]);
    }
}

static void nothing_yet(struct contract *c)
{
    struct kp_error error = {0};
    struct cloud_balancer balancer;
    struct cloud_target_health_list health;
    struct cloud_balancer_list list = {0};
    under(c, "balancer_get");
    check_code(c, cloud_balancer_get(c->cloud, c->uid, NAME, c->arena, &balancer, &error), KP_ENOTFOUND, &error, "one that is not there is not found");
    under(c, "balancer_health");
    check_code(c, cloud_balancer_health(c->cloud, c->uid, NAME, c->arena, &health, &error), KP_ENOTFOUND, &error, "nor has it health");
    under(c, "balancer_list");
    check(c, cloud_balancer_list(c->cloud, c->uid, c->arena, &list, &error) == 0 && list.len == 0, &error, "a cluster begins with none");
    under(c, "balancer_delete");
    check_code(c, cloud_balancer_delete(c->cloud, c->uid, NAME, &error), 0, &error, "deleting what is not there succeeds");
}

static void refused(struct contract *c, const struct cloud_balancer_spec *good)
{
    static const char *const ranges[] = {"10.0.0.0/33"};
    static const struct cloud_listener twice[] = {{CLOUD_TCP, 80, 30080}, {CLOUD_TCP, 80, 30081}}, zero[] = {{CLOUD_TCP, 0, 30080}};
    static const struct cloud_target nowhere[] = {{"w-2", "here"}};
    struct cloud_balancer_spec wrong[7];
    struct kp_error error = {0};
    struct cloud_balancer balancer;
    for (size_t i = 0; i < KP_ARRAY_LEN(wrong); i++)
        wrong[i] = *good;
    wrong[0].name = "Web";
    wrong[1].n_listeners = 0;
    wrong[2].listeners = zero, wrong[2].n_listeners = 1;
    wrong[3].listeners = twice, wrong[3].n_listeners = 2;
    wrong[4].targets = nowhere, wrong[4].n_targets = 1;
    wrong[5].source_ranges = ranges, wrong[5].n_source_ranges = 1;
    wrong[6].address = "everywhere";
    static const char *const what[] = {"a name is a DNS label", "it has a listener", "port 0 is none", "a port has one listener", "a target has an address",
                                       "a source range is a network", "the address wanted is one"};
    under(c, "arguments");
    for (size_t i = 0; i < KP_ARRAY_LEN(wrong); i++)
        check_code(c, cloud_balancer_ensure(c->cloud, &wrong[i], c->arena, &balancer, &error), KP_EINVALID, &error, kp_arena_printf(c->arena, "balancer: %s", what[i]));
    check_code(c, cloud_balancer_get(c->cloud, c->uid, NAME, c->arena, &balancer, &error), KP_ENOTFOUND, &error, "what was refused made no balancer");
}

static bool made(struct contract *c, const struct cloud_balancer_spec *spec)
{
    struct kp_error error = {0};
    struct cloud_balancer balancer = {0}, again = {0}, got = {0};
    struct kp_strings owned = {0};
    struct in_addr parsed;
    under(c, "balancer_ensure");
    if (!check_code(c, ensure(c, spec, &balancer, &error), 0, &error, "one is made"))
        return false;
    check(c, balancer.state == CLOUD_BALANCER_ACTIVE && kp_streq(balancer.name, NAME) && kp_streq(balancer.cluster_uid, c->uid) && !kp_empty(balancer.id) &&
             kp_empty(balancer.problem), NULL, "it is active, with its name and its cluster's tag");
    check(c, !kp_empty(balancer.host_name) || inet_pton(AF_INET, balancer.address ? balancer.address : "", &parsed) == 1, NULL, "it has an address or a host name");
    int r = cloud_balancer_ensure(c->cloud, spec, c->arena, &again, &error);
    check(c, r == 0 && same(&balancer, &again), &error, "ensuring it again gives the same, at once");
    under(c, "balancer_get");
    r = cloud_balancer_get(c->cloud, c->uid, NAME, c->arena, &got, &error);
    check(c, r == 0 && same(&balancer, &got), &error, "getting it gives the same");
    under(c, "balancer_health");
    check(c, converged(c, spec, &error), &error, "each target is there with each listener");
    under(c, "owned");
    r = cloud_owned(c->cloud, c->uid, c->arena, &owned, &error);
    bool named = false;
    for (size_t i = 0; i < owned.len; i++)
        named |= strstr(owned.items[i], NAME) != NULL;
    check(c, r == 0 && named, &error, "the load balancer is named among what the cluster owns");
    kp_strings_done(&owned);
    return true;
}

/* What the cloud cannot do is refused, and what it had is as it was. */
static void may_refuse(struct contract *c, const struct cloud_balancer_spec *wanted, const struct cloud_balancer_spec *before, const char *what)
{
    struct kp_error error = {0};
    struct cloud_balancer balancer = {0};
    int r = ensure(c, wanted, &balancer, &error);
    if (r == KP_EINVALID) {
        check(c, converged(c, before, &error), &error, kp_arena_printf(c->arena, "%s: refused, and what was is untouched", what));
        return;
    }
    check(c, r == 0 && converged(c, wanted, &error), &error, kp_arena_printf(c->arena, "%s: done", what));
    check_code(c, ensure(c, before, &balancer, &error), 0, &error, kp_arena_printf(c->arena, "%s: and taken back", what));
    check(c, converged(c, before, &error), &error, "it is what it was");
}

static void changed(struct contract *c, const struct cloud_balancer_spec *spec)
{
    static const struct cloud_listener two[] = {{CLOUD_TCP, 80, 30080}, {CLOUD_TCP, 443, 30443}}, moved[] = {{CLOUD_TCP, 80, 30081}, {CLOUD_TCP, 443, 30443}},
                                       mixed[] = {{CLOUD_TCP, 80, 30080}, {CLOUD_UDP, 53, 30053}};
    static const char *const ranges[] = {"192.0.2.0/24", "198.51.100.0/24"};
    struct kp_error error = {0};
    struct cloud_balancer before = {0}, after = {0};
    struct cloud_balancer_spec wanted = *spec;
    under(c, "balancer_ensure");
    check_code(c, ensure(c, spec, &before, &error), 0, &error, "it is there");
    wanted.listeners = two, wanted.n_listeners = 2;
    check_code(c, ensure(c, &wanted, &after, &error), 0, &error, "a listener is added");
    check(c, converged(c, &wanted, &error), &error, "there are two for each target");
    check(c, kp_streq(before.id, after.id) && kp_streq(before.address, after.address) && kp_streq(before.host_name, after.host_name), NULL, "its id and address stay");
    wanted.listeners = moved;
    check_code(c, ensure(c, &wanted, &after, &error), 0, &error, "a listener's target port is another");
    check(c, converged(c, &wanted, &error), &error, "it is used");
    wanted.n_targets = 1;
    check_code(c, ensure(c, &wanted, &after, &error), 0, &error, "a target is taken away");
    check(c, converged(c, &wanted, &error), &error, "it is gone from every listener");
    wanted.n_targets = 0;
    check_code(c, ensure(c, &wanted, &after, &error), 0, &error, "so are all");
    check(c, converged(c, &wanted, &error), &error, "none is left");
    check_code(c, ensure(c, spec, &after, &error), 0, &error, "back to the beginning");
    check(c, converged(c, spec, &error), &error, "it is as it was");
    wanted = *spec;
    wanted.listeners = mixed, wanted.n_listeners = 2;
    may_refuse(c, &wanted, spec, "TCP and UDP");
    wanted = *spec;
    wanted.source_ranges = ranges, wanted.n_source_ranges = 2;
    may_refuse(c, &wanted, spec, "source ranges");
    wanted = *spec;
    wanted.health = (struct cloud_health_check){.kind = CLOUD_HEALTH_HTTP, .port = 32000, .path = "/healthz", .interval_s = 10, .timeout_s = 5, .healthy = 2, .unhealthy = 3};
    may_refuse(c, &wanted, spec, "an HTTP health check of another port");
    wanted = *spec;
    wanted.algorithm = CLOUD_LEAST_CONNECTIONS;
    may_refuse(c, &wanted, spec, "another algorithm");
    wanted = *spec;
    wanted.sticky = true;
    may_refuse(c, &wanted, spec, "sticky clients");
    wanted = *spec;
    wanted.proxy_protocol = true;
    may_refuse(c, &wanted, spec, "the PROXY protocol");
}

/* The fake cloud's document without its listeners; elsewhere whatever the command of --damage does. */
static int damage(struct contract *c, struct kp_error *error)
{
    if (!c->world) {
        const char *const argv[] = {"/bin/sh", "-c", c->damage, NULL};
        int status = -1;
        setenv("CONTRACT_CLUSTER", c->uid, true);
        setenv("CONTRACT_BALANCER", NAME, true);
        int r = kp_run(argv, c->wait_ms, NULL, NULL, &status, error);
        return r < 0 || status == 0 ? r : kp_fail(error, KP_EIO, "the command of --damage ended with status %d", status);
    }
    const char *path = kp_arena_printf(c->arena, "%s/%s/balancers/%s/spec", c->world, c->uid, NAME), *text = "{\"listeners\":[],\"targets\":[]}";
    return kp_write_file(path, text, strlen(text), 0600, error);
}

static void mended(struct contract *c, const struct cloud_balancer_spec *spec)
{
    struct kp_error error = {0};
    struct cloud_balancer balancer;
    under(c, "balancer_ensure");
    if (!c->world && !c->damage) {
        skipped(c, "balancer_ensure", "nobody damages it");
        return;
    }
    if (!check_code(c, damage(c, &error), 0, &error, "somebody damages it"))
        return;
    check(c, !converged(c, spec, &error), &error, "it is not what it was");
    check_code(c, ensure(c, spec, &balancer, &error), 0, &error, "it is ensured as before");
    check(c, converged(c, spec, &error), &error, "the damage is mended");
}

static void of_two_clusters(struct contract *c, const struct cloud_balancer_spec *spec)
{
    struct kp_error error = {0};
    struct cloud_network network;
    struct cloud_balancer own = {0}, other = {0}, got = {0};
    const char *address = NULL;
    under(c, "ownership by tag");
    int r = make_network(c, c->other_uid, &network, &error);
    if (r == 0)
        r = cloud_address_reserve(c->cloud, c->other_uid, "w-2", c->arena, &address, &error);
    if (!check_code(c, r, 0, &error, "a second cluster has a network"))
        return;
    struct cloud_balancer_spec same_name = *spec;
    same_name.cluster_uid = c->other_uid;
    same_name.n_targets = 0;
    check_code(c, cloud_balancer_get(c->cloud, c->other_uid, NAME, c->arena, &got, &error), KP_ENOTFOUND, &error, "the balancer of another cluster is not its own");
    r = ensure(c, spec, &own, &error);
    if (r == 0)
        r = ensure(c, &same_name, &other, &error);
    check(c, r == 0 && !kp_streq(own.id, other.id) && kp_streq(other.cluster_uid, c->other_uid), &error, "one of the same name is another one");
    check_code(c, delete_it(c, c->other_uid, NAME, &error), 0, &error, "it is deleted");
    r = cloud_balancer_get(c->cloud, c->uid, NAME, c->arena, &got, &error);
    check(c, r == 0 && same(&own, &got) && converged(c, spec, &error), &error, "the first one is untouched");
    check_code(c, cloud_purge(c->cloud, c->other_uid, &error), 0, &error, "the second cluster is purged");
    r = cloud_balancer_get(c->cloud, c->uid, NAME, c->arena, &got, &error);
    check(c, r == 0 && same(&own, &got), &error, "which leaves the first one's balancer alone");
}

static void listed_and_deleted(struct contract *c, const struct cloud_balancer_spec *spec)
{
    struct kp_error error = {0};
    struct cloud_balancer first, got;
    struct cloud_balancer_list list = {0};
    struct cloud_balancer_spec before = *spec;
    before.name = "api";
    before.internal = true;
    under(c, "balancer_list");
    int r = ensure(c, &before, &first, &error);
    if (r == 0)
        r = cloud_balancer_list(c->cloud, c->uid, c->arena, &list, &error);
    check(c, r == 0 && list.len == 2 && kp_streq(list.items[0].name, "api") && kp_streq(list.items[1].name, NAME), &error, "two are listed, in order of name");
    check(c, r == 0 && list.len == 2 && same(&list.items[0], &first), NULL, "as getting them gives them");
    under(c, "balancer_delete");
    check_code(c, delete_it(c, c->uid, NAME, &error), 0, &error, "one is deleted");
    check_code(c, cloud_balancer_get(c->cloud, c->uid, NAME, c->arena, &got, &error), KP_ENOTFOUND, &error, "it is not found any more");
    check_code(c, cloud_balancer_delete(c->cloud, c->uid, NAME, &error), 0, &error, "deleting it again succeeds");
    r = cloud_balancer_list(c->cloud, c->uid, c->arena, &list, &error);
    check(c, r == 0 && list.len == 1 && kp_streq(list.items[0].name, "api"), &error, "the other one is left"); /* until the cluster is purged */
    if (c->world)
        check(c, c->waits > 0, NULL, "the fake cloud took its time (FAKE_CLOUD_PENDING)");
}

void contract_balancers(struct contract *c)
{
    static const struct cloud_listener listeners[] = {{CLOUD_TCP, 80, 30080}};
    struct cloud_target targets[2] = {{"w-2", "192.0.2.1"}, {"w-1", "192.0.2.2"}};
    struct kp_error error = {0};
    struct cloud_machine machine;
    struct cloud_balancer_spec spec = {.cluster_uid = c->uid, .name = NAME, .description = "default/web", .listeners = listeners, .n_listeners = 1,
                                       .targets = targets, .n_targets = KP_ARRAY_LEN(targets)};
    if (!cloud_can(c->cloud, CLOUD_CAN_LOAD_BALANCE)) {
        no_balancers(c, &spec);
        return;
    }
    under(c, "balancer_ensure");
    for (size_t i = 0; i < KP_ARRAY_LEN(targets); i++) {
        int r = c->machines ? make_machine(c, c->uid, targets[i].machine, &machine, &error) : 0;
        if (r == 0)
            r = cloud_address_reserve(c->cloud, c->uid, targets[i].machine, c->arena, &targets[i].address, &error);
        if (!check_code(c, r, 0, &error, "there is a target"))
            return;
    }
    nothing_yet(c);
    refused(c, &spec);
    if (!made(c, &spec))
        return;
    changed(c, &spec);
    mended(c, &spec);
    of_two_clusters(c, &spec);
    listed_and_deleted(c, &spec);
}
