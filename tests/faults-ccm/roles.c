/* Gives the controllers the rights that kprov gives them, and no others. */
#include "provisioner/bootstrap/bootstrap.h"
#include "tests/faults-ccm/world.h"

int add_roles(struct client *admin, struct kp_error *error)
{
    static const char name[] = "kprov:cloud-controller-manager", group[] = "/apis/rbac.authorization.k8s.io/v1";
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct config config;
    struct kp_value **documents = NULL;
    size_t count = 0;
    int n = 0;
    config_default("f", 1, 1, arena, &config);
    const struct bootstrap_cluster cluster = {.config = &config, .endpoint = "https://127.0.0.1:1", .api_address = "127.0.0.1", .uid = "u"};
    const char *text = bootstrap_addons(&cluster, arena);
    int r = kp_yaml_parse(text, strlen(text), arena, &documents, &count, error);
    for (size_t i = 0; r == 0 && i < count; i++) {
        KP_AUTO_BUF struct kp_buf body = {0};
        const char *kind = kp_value_str(kp_value_get(documents[i], "kind"));
        bool role = kp_streq(kind, "ClusterRole"), binding = kp_streq(kind, "ClusterRoleBinding");
        if ((!role && !binding) || !kp_streq(kp_value_str(kp_value_path(documents[i], "metadata", "name", NULL)), name))
            continue;
        kp_value_print(documents[i], &body);
        r = client_raw(admin, "POST", kp_arena_printf(arena, "%s/%s", group, role ? "clusterroles" : "clusterrolebindings"), NULL, body.data, body.len, NULL, NULL,
                       error);
        n += r == 0;
    }
    return r == 0 && n != 2 ? kp_fail(error, KP_EINTERNAL, "kprov's add-ons have %d documents %s instead of two", n, name) : r;
}
