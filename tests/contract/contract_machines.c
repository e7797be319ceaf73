/* Promises about machines, their power, several clusters, several threads, and that nothing is left. */
#include <pthread.h>
#include <unistd.h>

#include "tests/contract/contract.h"

#define THREADS 6

static bool same(const struct cloud_machine *a, const struct cloud_machine *b)
{
    return kp_streq(a->name, b->name) && kp_streq(a->cluster_uid, b->cluster_uid) && kp_streq(a->role, b->role) && kp_streq(a->pool, b->pool) &&
           kp_streq(a->image, b->image) && kp_streq(a->address, b->address) && kp_streq(a->provider_id, b->provider_id) && a->power == b->power;
}

void contract_machines(struct contract *c)
{
    struct kp_error error = {0};
    struct cloud_machine made = {0}, got = {0}, again = {0}, first = {0};
    struct cloud_machine_list list = {0};
    struct kp_strings owned = {0}, uids = {0};
    under(c, "machine_create");
    if (!check_code(c, make_machine(c, c->uid, "w-2", &made, &error), 0, &error, "a machine is made"))
        return;
    check(c, kp_streq(made.name, "w-2") && kp_streq(made.role, "worker") && kp_streq(made.pool, "pool-a") && kp_streq(made.image, c->image) &&
             kp_streq(made.cluster_uid, c->uid) && made.created_s > 0, NULL, "it is what was asked for, with its cluster's tag");
    check(c, made.power == CLOUD_POWER_ON, NULL, "it is on");
    const char *scheme = kp_streq(cloud_name(c->cloud), "hetzner") ? "hcloud" : cloud_name(c->cloud); /* as Hetzner's own controller writes it */
    check(c, kp_starts_with(made.provider_id, kp_arena_printf(c->arena, "%s://", scheme)) &&
             (kp_ends_with(made.provider_id, "/w-2") || kp_ends_with(made.provider_id, kp_arena_printf(c->arena, "/%s", made.id))), NULL,
          "its provider id names the driver and the machine, by name or id");
    under(c, "machine_get");
    int r = cloud_machine_get(c->cloud, c->uid, "w-2", c->arena, &got, &error);
    check(c, r == 0 && same(&made, &got), &error, "getting it gives the same");
    under(c, "machine_create");
    const struct cloud_machine_spec other = {.cluster_uid = c->uid, .name = "w-2", .role = "control-plane", .pool = "", .machine_type = c->machine_type, .image = c->other_image,
                                             .address = made.address, .user_data = "{}", .user_data_len = 2};
    r = cloud_machine_create(c->cloud, &other, c->arena, &again, &error);
    check(c, r == 0 && same(&made, &again), &error, "making it again gives what exists, whatever is asked for");
    check_code(c, make_machine(c, c->uid, "w-1", &first, &error), 0, &error, "another one is made");
    under(c, "machine_list");
    r = cloud_machine_list(c->cloud, c->uid, c->arena, &list, &error);
    check(c, r == 0 && list.len == 2 && same(&list.items[0], &first) && same(&list.items[1], &made), &error, "all are listed, in order of name");
    under(c, "network_delete");
    check_code(c, cloud_network_delete(c->cloud, c->uid, &error), KP_ECONFLICT, &error, "a network with machines in it is not deleted");
    under(c, "owned");
    r = cloud_owned(c->cloud, c->uid, c->arena, &owned, &error);
    bool named = false;
    for (size_t i = 0; i < owned.len; i++)
        named |= strstr(owned.items[i], "w-2") != NULL;
    check(c, r == 0 && named, &error, "what the cluster owns names them");
    under(c, "clusters");
    r = cloud_clusters(c->cloud, &uids, &error);
    bool known = false;
    for (size_t i = 0; i < uids.len; i++)
        known |= kp_streq(uids.items[i], c->uid);
    check(c, r == 0 && known, &error, "the cluster is among those that own something");
    under(c, "machine_delete");
    check_code(c, cloud_machine_delete(c->cloud, c->uid, "w-1", &error), 0, &error, "a machine is deleted");
    check_code(c, cloud_machine_get(c->cloud, c->uid, "w-1", c->arena, &got, &error), KP_ENOTFOUND, &error, "it is not found any more");
    check_code(c, cloud_machine_delete(c->cloud, c->uid, "w-1", &error), 0, &error, "deleting it again succeeds");
    const char *kept = NULL;
    under(c, "address_reserve");
    r = cloud_address_reserve(c->cloud, c->uid, "w-1", c->arena, &kept, &error);
    check(c, r == 0 && kp_streq(kept, first.address), &error, "the address of a machine that is gone is kept until it is released");
    kp_strings_done(&owned);
    kp_strings_done(&uids);
}

static void power_is(struct contract *c, enum cloud_power wanted, const char *what)
{
    struct kp_error error = {0};
    struct cloud_machine machine = {0};
    int r = cloud_machine_get(c->cloud, c->uid, "w-2", c->arena, &machine, &error);
    check(c, r == 0 && machine.power == wanted, &error, what);
}

void contract_power(struct contract *c)
{
    struct kp_error error = {0};
    struct cloud_machine machine = {0};
    under(c, "machine_power");
    check_code(c, cloud_machine_power(c->cloud, c->uid, "w-2", CLOUD_POWER_START, &error), 0, &error, "starting a machine that runs is fine");
    check_code(c, cloud_machine_power(c->cloud, c->uid, "w-2", CLOUD_POWER_KILL, &error), 0, &error, "the plug is pulled");
    power_is(c, CLOUD_POWER_OFF, "it is off then");
    check_code(c, cloud_machine_power(c->cloud, c->uid, "w-2", CLOUD_POWER_KILL, &error), 0, &error, "pulling it again is fine");
    check_code(c, cloud_machine_power(c->cloud, c->uid, "w-2", CLOUD_POWER_STOP, &error), 0, &error, "so is stopping what is off");
    int r = make_machine(c, c->uid, "w-2", &machine, &error);
    check(c, r == 0 && machine.power == CLOUD_POWER_OFF, &error, "making a machine that exists leaves it off");
    check_code(c, cloud_machine_power(c->cloud, c->uid, "w-2", CLOUD_POWER_START, &error), 0, &error, "it is started");
    power_is(c, CLOUD_POWER_ON, "it is on again");
    check_code(c, cloud_machine_power(c->cloud, c->uid, "w-2", CLOUD_POWER_STOP, &error), 0, &error, "it is stopped in order");
    power_is(c, CLOUD_POWER_OFF, "it is off again");
    check_code(c, cloud_machine_power(c->cloud, c->uid, "w-2", CLOUD_POWER_START, &error), 0, &error, "and started once more");
}

void contract_reimage(struct contract *c)
{
    struct kp_error error = {0};
    struct cloud_machine before = {0}, after = {0}, got = {0};
    struct cloud_network network;
    under(c, "machine_reimage");
    int r = cloud_machine_get(c->cloud, c->uid, "w-2", c->arena, &before, &error);
    if (r == 0)
        r = cloud_network_get(c->cloud, c->uid, c->arena, &network, &error);
    if (!check_code(c, r, 0, &error, "the machine is there"))
        return;
    const char *user_data = make_user_data(c, "w-2", &network, before.address);
    struct cloud_machine_spec spec = {.cluster_uid = c->uid, .name = "w-2", .image = c->other_image, .user_data = user_data, .user_data_len = strlen(user_data)};
    r = cloud_machine_reimage(c->cloud, &spec, c->arena, &after, &error);
    if (r == KP_ENOTSUPPORTED) {
        unsupported(c, "machine_reimage");
        return;
    }
    check(c, r == 0 && kp_streq(after.image, c->other_image) && after.power == CLOUD_POWER_ON, &error, "a machine is given another image, and runs");
    check(c, kp_streq(after.address, before.address) && kp_streq(after.role, before.role) && kp_streq(after.pool, before.pool), NULL, "address, role and pool stay");
    r = cloud_machine_get(c->cloud, c->uid, "w-2", c->arena, &got, &error);
    check(c, r == 0 && same(&after, &got), &error, "getting it gives the same");
    check_code(c, cloud_machine_reimage(c->cloud, &spec, c->arena, &after, &error), 0, &error, "doing it again is fine");
    spec.name = "w-9";
    check_code(c, cloud_machine_reimage(c->cloud, &spec, c->arena, &after, &error), KP_ENOTFOUND, &error, "a machine that is not there gets no image");
}

/* With the output of this process: what the command says is seen. */
void contract_commands(struct contract *c)
{
    static const char *const fine[] = {"/bin/true", NULL}, *const bad[] = {"/bin/false", NULL};
    struct cloud_exec exec = {.argv = fine, .stdin_fd = STDIN_FILENO, .stdout_fd = STDOUT_FILENO, .stderr_fd = STDERR_FILENO};
    struct kp_error error = {0};
    KP_AUTO_BUF struct kp_buf text = {0};
    int status = -1;
    if (cloud_can(c->cloud, CLOUD_CAN_CONSOLE)) {
        under(c, "machine_console");
        check_code(c, cloud_machine_console(c->cloud, c->uid, "w-2", &text, &error), 0, &error, "a machine has one");
        check(c, text.len <= CLOUD_CONSOLE_MAX, NULL, "it is not longer than it may be");
    }
    under(c, "machine_exec");
    int r = cloud_machine_exec(c->cloud, c->uid, "w-2", &exec, &status, &error);
    if (!cloud_can(c->cloud, CLOUD_CAN_EXEC)) {
        check_code(c, r, KP_ENOTSUPPORTED, &error, "no commands run in machines");
        unsupported(c, "machine_exec");
        return;
    }
    check(c, r == 0 && status == 0, &error, "a command runs in the machine");
    exec.argv = bad;
    r = cloud_machine_exec(c->cloud, c->uid, "w-2", &exec, &status, &error);
    check(c, r == 0 && status == 1, &error, "its status is told");
    r = cloud_machine_power(c->cloud, c->uid, "w-2", CLOUD_POWER_KILL, &error);
    if (r == 0)
        r = cloud_machine_exec(c->cloud, c->uid, "w-2", &exec, &status, &error);
    check_code(c, r, KP_EUNAVAILABLE, &error, "none runs in a machine that is off");
    check_code(c, cloud_machine_power(c->cloud, c->uid, "w-2", CLOUD_POWER_START, &error), 0, &error, "which is started again");
}

void contract_two_clusters(struct contract *c)
{
    struct kp_error error = {0};
    struct cloud_network own, other;
    struct cloud_machine machine = {0}, got = {0};
    struct kp_strings left = {0};
    under(c, "ownership by tag");
    int r = cloud_network_get(c->cloud, c->uid, c->arena, &own, &error);
    if (r == 0)
        r = make_network(c, c->other_uid, &other, &error);
    if (!check_code(c, r, 0, &error, "a second cluster has a network"))
        return;
    if (kp_empty(c->network.existing))
        check(c, !kp_streq(own.cidr, other.cidr), NULL, "it is another one");
    if (c->machines) {
        r = make_machine(c, c->other_uid, "w-2", &machine, &error);
        check(c, r == 0 && kp_streq(machine.cluster_uid, c->other_uid), &error, "a machine of the same name is a machine of its own");
    }
    check_code(c, cloud_purge(c->cloud, c->other_uid, &error), 0, &error, "the second cluster is purged");
    check(c, cloud_owned(c->cloud, c->other_uid, c->arena, &left, &error) == 0 && left.len == 0, &error,
          left.len ? kp_arena_printf(c->arena, "nothing of it is left (%s)", left.items[0]) : "nothing of it is left");
    check(c, cloud_network_get(c->cloud, c->uid, c->arena, &own, &error) == 0, &error, "the network of the first is untouched");
    if (c->machines) {
        r = cloud_machine_get(c->cloud, c->uid, "w-2", c->arena, &got, &error);
        check(c, r == 0 && got.power == CLOUD_POWER_ON, &error, "so is its machine");
    }
    kp_strings_done(&left);
}

struct one {
    struct contract *c;
    struct kp_arena *arena;
    char name[16];
    const char *address;
    int result;
    struct kp_error error;
};

static void *reserve(void *arg)
{
    struct one *one = arg;
    one->result = cloud_address_reserve(one->c->cloud, one->c->uid, one->name, one->arena, &one->address, &one->error);
    return NULL;
}

void contract_threads(struct contract *c)
{
    struct one all[THREADS] = {0};
    pthread_t threads[THREADS];
    struct kp_error error = {0};
    bool fine = true, different = true, released = true;
    under(c, "several threads");
    for (size_t i = 0; i < THREADS; i++) {
        all[i].c = c;
        all[i].arena = kp_arena_new(0);
        snprintf(all[i].name, sizeof(all[i].name), "t-%zu", i / 2); /* two ask for each */
        KP_ASSERT(pthread_create(&threads[i], NULL, reserve, &all[i]) == 0);
    }
    for (size_t i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        fine &= all[i].result == 0;
        if (all[i].result < 0)
            error = all[i].error;
    }
    for (size_t i = 0; fine && i < THREADS; i++)
        for (size_t j = 0; j < i; j++)
            different &= kp_streq(all[i].address, all[j].address) == kp_streq(all[i].name, all[j].name);
    check(c, fine, &error, "several threads reserve addresses at once");
    check(c, fine && different, NULL, "each name has one, and no two names the same");
    for (size_t i = 0; i < THREADS; i++) {
        released &= cloud_address_release(c->cloud, c->uid, all[i].name, &error) == 0;
        kp_arena_free(all[i].arena);
    }
    check(c, released, &error, "they are released");
}

void contract_purge(struct contract *c)
{
    struct kp_error error = {0};
    struct kp_strings left = {0}, uids = {0};
    struct cloud_machine_list list = {0};
    struct cloud_network network;
    bool known = false;
    under(c, "purge");
    check_code(c, cloud_purge(c->cloud, c->uid, &error), 0, &error, "the cluster is purged");
    int r = cloud_owned(c->cloud, c->uid, c->arena, &left, &error);
    check(c, r == 0 && left.len == 0, &error, left.len ? kp_arena_printf(c->arena, "it owns nothing (%s)", left.items[0]) : "it owns nothing");
    check(c, cloud_machine_list(c->cloud, c->uid, c->arena, &list, &error) == 0 && list.len == 0, &error, "it has no machines");
    check_code(c, cloud_network_get(c->cloud, c->uid, c->arena, &network, &error), KP_ENOTFOUND, &error, "and no network");
    r = cloud_clusters(c->cloud, &uids, &error);
    for (size_t i = 0; i < uids.len; i++)
        known |= kp_streq(uids.items[i], c->uid);
    check(c, r == 0 && !known, &error, "it is not among those that own something");
    check_code(c, cloud_purge(c->cloud, c->uid, &error), 0, &error, "purging it again succeeds");
    kp_strings_done(&left);
    kp_strings_done(&uids);
}
