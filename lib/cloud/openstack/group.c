/* The security group that all of a cluster's machines are in. Rules that are missing are added; what others added is left alone. */
#include "cloud/openstack/openstack_internal.h"

static const struct rule {
    const char *protocol; /* "": any */
    int first, last;      /* 0: any */
    bool from_inside;     /* from the group's own members; else from everywhere */
} rules[] = {
    {"", 0, 0, true},
    {"icmp", 0, 0, false},
    {"tcp", 22, 22, false},
    {"tcp", 6443, 6443, false},
    {"tcp", 30000, 32767, false}, /* node ports: also what the cloud's load balancers connect to */
    {"udp", 30000, 32767, false},
};

static bool is_rule(const json_t *have, const struct rule *rule, const char *group)
{
    const char *prefix = rest_json_text(have, "remote_ip_prefix"), *from = rest_json_text(have, "remote_group_id");
    bool from_all = !*from && (!*prefix || kp_streq(prefix, "0.0.0.0/0"));
    return kp_streq(rest_json_text(have, "direction"), "ingress") && kp_streq(rest_json_text(have, "ethertype"), "IPv4") &&
           kp_streq(rest_json_text(have, "protocol"), rule->protocol) && rest_json_int(have, "port_range_min") == rule->first &&
           rest_json_int(have, "port_range_max") == rule->last && (rule->from_inside ? kp_streq(from, group) : from_all);
}

static int add_rule(struct os *os, const struct rule *rule, const char *group, struct kp_error *error)
{
    json_t *body = json_pack("{s:s, s:s, s:s}", "security_group_id", group, "direction", "ingress", "ethertype", "IPv4");
    if (*rule->protocol)
        json_object_set_new(body, "protocol", json_string(rule->protocol));
    if (rule->first) {
        json_object_set_new(body, "port_range_min", json_integer(rule->first));
        json_object_set_new(body, "port_range_max", json_integer(rule->last));
    }
    if (rule->from_inside)
        json_object_set_new(body, "remote_group_id", json_string(group));
    struct kp_error why = {0};
    int r = os_send(os, "security-group-rules.create", OS_NETWORK, "POST", "/security-group-rules", json_pack("{s:o}", "security_group_rule", body), NULL, &why);
    if (r == 0 || (r == KP_ECONFLICT && strstr(why.message, "already exists"))) /* another made it meanwhile */
        return 0;
    if (error)
        *error = why;
    return kp_wrap(error, "rule for %s of the cluster's security group", *rule->protocol ? rule->protocol : "the cluster's machines");
}

int os_group_ensure(struct os *os, const char *uid, json_t **ret, struct kp_error *error)
{
    KP_AUTO(json_decref) json_t *group = NULL;
    int r = os_ensure(os, &os_groups, uid, "nodes", json_object(), &group, error);
    if (r < 0)
        return r;
    const char *id = rest_json_text(group, "id");
    const json_t *have = rest_json_at(group, "security_group_rules");
    for (size_t i = 0; r == 0 && i < KP_ARRAY_LEN(rules); i++) {
        bool found = false;
        for (size_t j = 0; j < json_array_size(have) && !found; j++)
            found = is_rule(json_array_get(have, j), &rules[i], id);
        if (!found)
            r = add_rule(os, &rules[i], id, error);
    }
    if (r == 0)
        *ret = KP_TAKE(group);
    return r;
}
