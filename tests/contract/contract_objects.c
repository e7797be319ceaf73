/* Promises about arguments, clusters that nobody knows, networks and addresses. */
#include <arpa/inet.h>

#include "tests/contract/contract.h"

#define LONG_NAME "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
_Static_assert(sizeof(LONG_NAME) - 1 == CLOUD_NAME_MAX, "one too long");

void contract_arguments(struct contract *c)
{
    static const char *const wrong[] = {"", "Upper", "a/b", "../a", "-a", "a-", "a.b", "a b", LONG_NAME};
    struct cloud_machine machine;
    struct cloud_machine_list list;
    struct cloud_network network;
    struct kp_strings left = {0};
    under(c, "arguments");
    for (size_t i = 0; i < KP_ARRAY_LEN(wrong); i++) {
        const struct cloud_network_spec spec = {.cluster_uid = wrong[i]};
        const struct cloud_machine_spec of_cluster = {.cluster_uid = wrong[i], .name = "w-1"}, of_name = {.cluster_uid = c->uid, .name = wrong[i]};
        struct kp_error error = {0};
        const char *what = kp_arena_printf(c->arena, "\"%s\" is no uid and no name", wrong[i]);
        bool refused = cloud_network_ensure(c->cloud, &spec, c->arena, &network, &error) == KP_EINVALID &&
                       cloud_machine_create(c->cloud, &of_cluster, c->arena, &machine, &error) == KP_EINVALID &&
                       cloud_machine_create(c->cloud, &of_name, c->arena, &machine, &error) == KP_EINVALID &&
                       cloud_machine_list(c->cloud, wrong[i], c->arena, &list, &error) == KP_EINVALID &&
                       cloud_machine_delete(c->cloud, c->uid, wrong[i], &error) == KP_EINVALID &&
                       cloud_purge(c->cloud, wrong[i], &error) == KP_EINVALID;
        check(c, refused, &error, what);
    }
    struct kp_error error = {0};
    const struct cloud_machine_spec large = {.cluster_uid = c->uid, .name = "w-1", .user_data = "", .user_data_len = CLOUD_USER_DATA_MAX + 1};
    check_code(c, cloud_machine_create(c->cloud, &large, c->arena, &machine, &error), KP_ETOOLARGE, &error, "too much user data is refused");
    int r = cloud_owned(c->cloud, c->uid, c->arena, &left, &error);
    check(c, r == 0 && left.len == 0, &error, "what was refused made nothing");
    kp_strings_done(&left);
}

/* A wish that can be fulfilled, and, where the cloud sells sizes, one for a size that it does not. */
void contract_check(struct contract *c)
{
    static const char *const names[] = {"w-1", "w-2"}, *const strange[] = {"no-such-type", "no-such-type"};
    struct kp_error error = {0};
    struct cloud_machine_type_list types = {0};
    struct kp_strings left = {0};
    const char *const own[] = {c->machine_type, c->machine_type};
    struct cloud_wish wish = {.machines = names, .machine_types = own, .n_machines = KP_ARRAY_LEN(names), .existing = c->network.existing,
                              .external = c->network.external, .zones = c->network.zones};
    under(c, "check");
    check_code(c, cloud_check(c->cloud, &wish, &error), 0, &error, "two machines could be made");
    wish.machine_types = strange;
    if (cloud_machine_types(c->cloud, c->arena, &types, &error) == 0)
        check_code(c, cloud_check(c->cloud, &wish, &error), KP_EINVALID, &error, "but not of a type that the cloud does not sell");
    int r = cloud_owned(c->cloud, c->uid, c->arena, &left, &error);
    check(c, r == 0 && left.len == 0, &error, "asking made nothing");
    kp_strings_done(&left);
}

void contract_unknown_cluster(struct contract *c)
{
    struct kp_error error = {0};
    struct cloud_machine machine;
    struct cloud_machine_list list = {.len = 9};
    struct cloud_network network;
    struct kp_strings left = {0};
    KP_AUTO_BUF struct kp_buf text = {0};
    under(c, "network_get");
    check_code(c, cloud_network_get(c->cloud, c->uid, c->arena, &network, &error), KP_ENOTFOUND, &error, "the network of an unknown cluster is not found");
    under(c, "machine_get");
    check_code(c, cloud_machine_get(c->cloud, c->uid, "w-1", c->arena, &machine, &error), KP_ENOTFOUND, &error, "a machine of it is not found");
    under(c, "machine_list");
    check(c, cloud_machine_list(c->cloud, c->uid, c->arena, &list, &error) == 0 && list.len == 0, &error, "it has no machines");
    under(c, "machine_power");
    check_code(c, cloud_machine_power(c->cloud, c->uid, "w-1", CLOUD_POWER_START, &error), KP_ENOTFOUND, &error, "a machine that is not there cannot be started");
    under(c, "machine_console");
    if (cloud_can(c->cloud, CLOUD_CAN_CONSOLE))
        check_code(c, cloud_machine_console(c->cloud, c->uid, "w-1", &text, &error), KP_ENOTFOUND, &error, "nor has it a console");
    else
        unsupported(c, "machine_console");
    under(c, "machine_delete");
    check_code(c, cloud_machine_delete(c->cloud, c->uid, "w-1", &error), 0, &error, "deleting a machine that is gone succeeds");
    under(c, "address_release");
    check_code(c, cloud_address_release(c->cloud, c->uid, "w-1", &error), 0, &error, "releasing its address succeeds too");
    under(c, "network_delete");
    check_code(c, cloud_network_delete(c->cloud, c->uid, &error), 0, &error, "and deleting the network");
    under(c, "purge");
    check_code(c, cloud_purge(c->cloud, c->uid, &error), 0, &error, "and purging the cluster");
    under(c, "owned");
    check(c, cloud_owned(c->cloud, c->uid, c->arena, &left, &error) == 0 && left.len == 0, &error, "it owns nothing");
    kp_strings_done(&left);
}

static bool is_within(const char *address, const struct cloud_network *network)
{
    struct in_addr one, other;
    uint32_t mask = network->prefix_len ? ~0u << (32 - network->prefix_len) : 0;
    return inet_pton(AF_INET, address, &one) == 1 && inet_pton(AF_INET, network->gateway, &other) == 1 &&
           (ntohl(one.s_addr) & mask) == (ntohl(other.s_addr) & mask);
}

void contract_network(struct contract *c)
{
    struct kp_error error = {0};
    struct cloud_network first = {0}, again = {0}, got = {0};
    struct kp_strings uids = {0};
    under(c, "network_ensure");
    if (!check_code(c, make_network(c, c->uid, &first, &error), 0, &error, "a network is made"))
        return;
    int prefix = 0;
    check(c, sscanf(strchr(first.cidr, '/') ? strchr(first.cidr, '/') : "", "/%d", &prefix) == 1 && prefix == first.prefix_len, NULL, "its CIDR has its prefix length");
    check(c, is_within(first.gateway, &first) && kp_streq(first.cluster_uid, c->uid) && first.nameservers, NULL, "it has a gateway, its cluster's uid and name servers");
    int r = make_network(c, c->uid, &again, &error);
    check(c, r == 0 && kp_streq(first.cidr, again.cidr) && kp_streq(first.gateway, again.gateway) && kp_streq(first.id, again.id), &error, "ensuring it again gives the same");
    under(c, "network_get");
    r = cloud_network_get(c->cloud, c->uid, c->arena, &got, &error);
    check(c, r == 0 && kp_streq(first.cidr, got.cidr) && kp_streq(first.gateway, got.gateway) && kp_streq(first.id, got.id), &error, "getting it gives the same");
    bool known = false;
    under(c, "clusters");
    r = cloud_clusters(c->cloud, &uids, &error);
    for (size_t i = 0; i < uids.len; i++)
        known |= kp_streq(uids.items[i], c->uid);
    check(c, r == 0 && known, &error, "a cluster with a network is among those that own something");
    kp_strings_done(&uids);
}

void contract_addresses(struct contract *c)
{
    struct kp_error error = {0};
    struct cloud_network network = {0};
    const char *one = NULL, *again = NULL, *other = NULL, *later = NULL;
    under(c, "address_reserve");
    int r = cloud_network_get(c->cloud, c->uid, c->arena, &network, &error);
    if (r == 0)
        r = cloud_address_reserve(c->cloud, c->uid, "w-1", c->arena, &one, &error);
    if (!check_code(c, r, 0, &error, "an address is reserved"))
        return;
    check(c, is_within(one, &network) && !kp_streq(one, network.gateway), NULL, "it is of the network and not the gateway's");
    r = cloud_address_reserve(c->cloud, c->uid, "w-1", c->arena, &again, &error);
    check(c, r == 0 && kp_streq(one, again), &error, "reserving it again gives the same");
    r = cloud_address_reserve(c->cloud, c->uid, "w-2", c->arena, &other, &error);
    check(c, r == 0 && !kp_streq(one, other), &error, "another name gets another one");
    under(c, "address_release");
    check_code(c, cloud_address_release(c->cloud, c->uid, "w-1", &error), 0, &error, "an address is released");
    check_code(c, cloud_address_release(c->cloud, c->uid, "w-1", &error), 0, &error, "releasing it again succeeds");
    r = cloud_address_reserve(c->cloud, c->uid, "w-3", c->arena, &later, &error);
    check(c, r == 0 && !kp_streq(later, other), &error, "what is reserved next is not one that is taken");
    r = cloud_address_release(c->cloud, c->uid, "w-2", &error);
    if (r == 0)
        r = cloud_address_release(c->cloud, c->uid, "w-3", &error);
    check_code(c, r, 0, &error, "the others are released");
}
