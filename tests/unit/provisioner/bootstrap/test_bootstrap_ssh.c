/* What of SSH is in a machine's bootstrap data. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "provisioner/bootstrap/bootstrap.h"
#include "provisioner/remote/remote.h"

struct world {
    struct kp_arena *arena;
    struct config config;
    struct pki *pki;
    struct bootstrap_node node;
    struct bootstrap_cluster cluster;
};

static int setup(void **state)
{
    struct world *world = kp_calloc(1, sizeof(*world));
    world->arena = kp_arena_new(0);
    config_default("demo", 1, 1, world->arena, &world->config);
    world->node = (struct bootstrap_node){.name = "demo-worker-1", .address = "10.89.0.11", .gateway = "10.89.0.1", .prefix_len = 24,
                                          .pool = &world->config.pools[0], .provider_id = "local://u/demo-worker-1"};
    if (pki_create(&world->pki, NULL) < 0)
        return -1;
    world->cluster = (struct bootstrap_cluster){.config = &world->config, .pki = world->pki, .endpoint = "https://10.89.0.9:6443",
                                                .api_address = "10.89.0.9", .uid = "u", .nodes = &world->node, .n_nodes = 1};
    *state = world;
    return 0;
}

static int teardown(void **state)
{
    struct world *world = *state;
    pki_free(world->pki);
    kp_arena_free(world->arena);
    free(world);
    return 0;
}

static const struct kp_value *user_data(struct world *world)
{
    KP_AUTO_BUF struct kp_buf text = {0};
    struct kp_value *root = NULL;
    struct kp_error error = {0};
    if (bootstrap_user_data(&world->cluster, &world->node, &text, &error) < 0 ||
        kp_value_parse(text.data, text.len, world->arena, NULL, &root, &error) < 0)
        fail_msg("%s", error.message);
    return root;
}

static const struct kp_value *find(const struct kp_value *list, const char *key, const char *value)
{
    for (size_t i = 0; i < list->array.len; i++)
        if (kp_streq(kp_value_str(kp_value_get(list->array.items[i], key)), value))
            return list->array.items[i];
    return NULL;
}

static void machine_gets_its_host_key_and_who_may_log_in(void **state)
{
    struct world *world = *state;
    struct remote_keys keys;
    struct sshc_key host;
    KP_AUTO_BUF struct kp_buf expected = {0}, blob = {0}, line = {0};
    remote_keys_make(&keys);
    world->cluster.ssh = &keys;
    const struct kp_value *root = user_data(world), *files = kp_value_get(root, "files");
    const struct kp_value *key = find(files, "path", "/etc/dropbear/dropbear_ed25519_host_key");
    const struct kp_value *authorized = find(files, "path", "/root/.ssh/authorized_keys");
    assert_true(key && authorized && find(kp_value_get(root, "services"), "name", "sshd"));
    remote_host_key(&keys, "demo-worker-1", &host);
    sshc_key_dropbear(&host, &blob);
    kp_base64_encode(&expected, blob.data, blob.len);
    assert_string_equal(kp_value_str(kp_value_get(key, "content")), expected.data);
    assert_string_equal(kp_value_str(kp_value_get(key, "encoding")), "base64");
    assert_string_equal(kp_value_str(kp_value_get(key, "mode")), "0600");
    sshc_key_public_line(&keys.identity, "kprov-demo", &line);
    assert_string_equal(kp_value_str(kp_value_get(authorized, "content")), line.data);
    assert_string_equal(kp_value_str(kp_value_get(authorized, "mode")), "0600");
}

static void machine_with_an_sshd_of_its_own_gets_none(void **state)
{
    struct world *world = *state;
    world->cluster.ssh = NULL;
    world->node.gateway = "";
    world->node.nameservers = "";
    const struct kp_value *root = user_data(world), *files = kp_value_get(root, "files");
    assert_null(find(files, "path", "/root/.ssh/authorized_keys"));
    assert_null(find(files, "path", "/etc/dropbear/dropbear_ed25519_host_key"));
    assert_null(find(kp_value_get(root, "services"), "name", "sshd"));
    assert_null(kp_value_get(root, "network")); /* which is the machine's own, too */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(machine_gets_its_host_key_and_who_may_log_in, setup, teardown),
        cmocka_unit_test_setup_teardown(machine_with_an_sshd_of_its_own_gets_none, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
