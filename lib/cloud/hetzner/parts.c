/* What a cluster has one of, everything that carries its label, and its end. */
#include "cloud/hetzner/hetzner_internal.h"

#define GROUP_NAME "control-plane"
#define IN_USE_MS 60000 /* that a part may be in use by what was just deleted */

/* In the order that they go: each is used by the ones before it. */
static const struct {
    const char *collection, *what;
} kinds[] = {{"load_balancers", "load balancer"}, {"servers", "machine"}, {"primary_ips", "primary IP"}, {"firewalls", "firewall"},
             {"placement_groups", "placement group"}, {"networks", "network"}};

static int find_one(struct hz *hz, const char *collection, const char *query, const char *what, int64_t *ret_id, struct kp_error *error)
{
    KP_AUTO(json_decref) json_t *list = NULL;
    int r = hz_list(hz, collection, query, &list, error);
    if (r == 0 && json_array_size(list) == 0)
        return kp_fail(error, KP_ENOTFOUND, "the cluster has no %s", what);
    if (r == 0)
        *ret_id = rest_json_int(list, "0/id");
    return r;
}

/* ---- the firewall of public addresses: the API server and ICMP; private networks are not filtered, and balancers come through these */
static json_t *rule(const char *protocol, const char *port, const char *description)
{
    json_t *ret = json_pack("{s:s, s:s, s:s, s:[s, s]}", "direction", "in", "protocol", protocol, "description", description, "source_ips", "0.0.0.0/0", "::/0");
    if (port)
        json_object_set_new(ret, "port", json_string(port));
    return ret;
}

static json_t *rules(void)
{
    json_t *list = json_array();
    json_array_append_new(list, rule("tcp", "6443", "kube-apiserver"));
    json_array_append_new(list, rule("icmp", NULL, "ICMP"));
    return list;
}

static bool same_rules(const json_t *wanted, const json_t *got)
{
    bool same = json_array_size(wanted) == json_array_size(got);
    for (size_t i = 0; same && i < json_array_size(wanted); i++) {
        const json_t *a = json_array_get(wanted, i);
        bool found = false;
        for (size_t j = 0; j < json_array_size(got) && !found; j++) {
            const json_t *b = json_array_get(got, j);
            found = kp_streq(rest_json_text(a, "direction"), rest_json_text(b, "direction")) &&
                    kp_streq(rest_json_text(a, "protocol"), rest_json_text(b, "protocol")) && kp_streq(rest_json_text(a, "port"), rest_json_text(b, "port")) &&
                    json_equal(rest_json_at(a, "source_ips"), rest_json_at(b, "source_ips"));
        }
        same = found;
    }
    return same;
}

int hz_firewall_find(struct hz *hz, const char *uid, int64_t *ret_id, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    return find_one(hz, "firewalls", hz_owned_query(uid, NULL, arena), "firewall", ret_id, error);
}

static int make_firewall(struct hz *hz, const char *uid, struct kp_arena *arena, struct kp_error *error)
{
    json_t *body = json_pack("{s:s, s:o, s:{s:s}}", "name", kp_arena_printf(arena, "kprov-%s", uid), "rules", rules(), "labels", HZ_CLUSTER_LABEL, uid);
    int64_t id = 0;
    int r = hz_do(hz, "firewalls.create", "POST", "/firewalls", body, NULL, error);
    return r == KP_EEXISTS ? hz_firewall_find(hz, uid, &id, error) : r;
}

int hz_firewall_ensure(struct hz *hz, const char *uid, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    KP_AUTO(json_decref) json_t *list = NULL, *wanted = rules();
    int r = hz_list(hz, "firewalls", hz_owned_query(uid, NULL, arena), &list, error);
    if (r == 0 && json_array_size(list) == 0)
        return make_firewall(hz, uid, arena, error);
    if (r < 0 || same_rules(wanted, rest_json_at(list, "0/rules")))
        return r;
    const char *path = kp_arena_printf(arena, "/firewalls/%lld/actions/set_rules", (long long)rest_json_int(list, "0/id"));
    return hz_act(hz, "firewalls.set_rules", path, json_pack("{s:O}", "rules", wanted), error);
}

int hz_group_ensure(struct hz *hz, const char *uid, struct kp_arena *arena, int64_t *ret_id, struct kp_error *error)
{
    const char *query = hz_owned_query(uid, GROUP_NAME, arena);
    int r = find_one(hz, "placement_groups", query, "placement group", ret_id, error);
    if (r != KP_ENOTFOUND)
        return r;
    json_t *body = json_pack("{s:s, s:s, s:{s:s, s:s}}", "name", kp_arena_printf(arena, "kprov-%s-" GROUP_NAME, uid), "type", "spread",
                             "labels", HZ_CLUSTER_LABEL, uid, HZ_NAME_LABEL, GROUP_NAME);
    r = hz_do(hz, "placement_groups.create", "POST", "/placement_groups", body, NULL, error);
    return r == 0 || r == KP_EEXISTS ? find_one(hz, "placement_groups", query, "placement group", ret_id, error) : r;
}

/* ---- everything */
int hz_owned(void *state, const char *uid, struct kp_arena *arena, struct kp_strings *ret, struct kp_error *error)
{
    struct hz *hz = state;
    int r = 0;
    for (size_t i = 0; r == 0 && i < KP_ARRAY_LEN(kinds); i++) {
        KP_AUTO(json_decref) json_t *list = NULL;
        r = hz_list(hz, kinds[i].collection, hz_owned_query(uid, NULL, arena), &list, error);
        for (size_t j = 0; r == 0 && j < json_array_size(list); j++) {
            const json_t *item = json_array_get(list, j);
            const char *name = rest_json_text(rest_json_at(item, "labels"), HZ_NAME_LABEL);
            kp_strings_add(ret, kp_arena_printf(arena, "%s %s", kinds[i].what, *name ? name : rest_json_text(item, "name")));
        }
    }
    return r;
}

int hz_clusters(void *state, struct kp_strings *ret_uids, struct kp_error *error)
{
    struct hz *hz = state;
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    int r = 0;
    for (size_t i = 0; r == 0 && i < KP_ARRAY_LEN(kinds); i++) {
        KP_AUTO(json_decref) json_t *list = NULL;
        r = hz_list(hz, kinds[i].collection, hz_owned_query(NULL, NULL, arena), &list, error);
        for (size_t j = 0; r == 0 && j < json_array_size(list); j++) {
            const char *uid = rest_json_text(rest_json_at(json_array_get(list, j), "labels"), HZ_CLUSTER_LABEL);
            bool seen = !*uid;
            for (size_t k = 0; k < ret_uids->len && !seen; k++)
                seen = kp_streq(ret_uids->items[k], uid);
            if (!seen)
                kp_strings_add(ret_uids, uid);
        }
    }
    return r;
}

/* All deletions of a kind are begun before any is waited for. */
static int purge_kind(struct hz *hz, const char *collection, const char *query, struct kp_arena *arena, struct kp_error *error)
{
    KP_AUTO(json_decref) json_t *list = NULL, *answers = json_array();
    const char *operation = kp_arena_printf(arena, "%s.delete", collection);
    int r = hz_list(hz, collection, query, &list, error);
    for (size_t i = 0; r == 0 && i < json_array_size(list); i++) {
        json_t *answer = NULL;
        long long id = (long long)rest_json_int(json_array_get(list, i), "id");
        r = hz_do(hz, operation, "DELETE", kp_arena_printf(arena, "/%s/%lld", collection, id), NULL, &answer, error);
        r = r == KP_ENOTFOUND ? 0 : r;
        if (answer)
            json_array_append_new(answers, answer);
    }
    for (size_t i = 0; r == 0 && i < json_array_size(answers); i++)
        r = hz_wait(hz, operation, json_array_get(answers, i), error);
    return r;
}

int hz_purge(void *state, const char *uid, struct kp_error *error)
{
    struct hz *hz = state;
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    int64_t deadline_ms = kp_mono_ms() + IN_USE_MS, poll_ms = 0;
    int r = 0;
    for (size_t i = 0; r == 0 && i < KP_ARRAY_LEN(kinds); i++) {
        r = purge_kind(hz, kinds[i].collection, hz_owned_query(uid, NULL, arena), arena, error);
        while (r == KP_ECONFLICT && i >= 2 && kp_mono_ms() < deadline_ms) { /* a firewall is in use a while longer than its servers */
            hz_pause(hz, &poll_ms);
            r = purge_kind(hz, kinds[i].collection, hz_owned_query(uid, NULL, arena), arena, error);
        }
    }
    return r;
}
