/* Tokens, RBAC, the Node authoriser, reviews - over caches with no store. */
#include "tests/unit/controlplane/apiserver/caches_test.h"

#include <unistd.h>

struct fixture {
    struct wcache_set *caches;
    struct kp_arena *arena;
    struct auth *auth;
    struct api_status status;
    char key_file[64];
};

static int set_up(void **state)
{
    struct fixture *f = kp_calloc(1, sizeof(*f));
    struct kp_error error = {0};
    KP_AUTO(tls_key_unref) struct tls_key *key = NULL;
    KP_AUTO_BUF struct kp_buf pem = {0};
    snprintf(f->key_file, sizeof(f->key_file), "/tmp/kprov-auth-%d.key", (int)getpid());
    if (tls_key_generate(TLS_KEY_ECDSA_P256, &key, &error) < 0 || tls_key_to_pem(key, &pem, &error) < 0 ||
        kp_write_file(f->key_file, pem.data, pem.len, 0600, &error) < 0)
        fail_msg("%s", error.message);
    f->arena = kp_arena_new(0);
    f->status = API_STATUS(f->arena);
    f->caches = caches_new();
    const struct auth_config config = {.caches = f->caches, .authorization_modes = "Node,RBAC", .service_account_issuer = "https://issuer",
                                       .service_account_signing_key_file = f->key_file, .anonymous = true};
    if (auth_new(&config, &f->auth, &error) < 0)
        fail_msg("%s", error.message);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    auth_free(f->auth);
    caches_free(f->caches);
    kp_arena_free(f->arena);
    unlink(f->key_file);
    free(f);
    return 0;
}

static struct auth_user user_of(struct fixture *f, const char *name, const char *group)
{
    struct auth_user user = {.name = name, .uid = ""};
    if (group)
        kp_string_list_add(f->arena, &user.groups, group);
    return user;
}

static bool may(struct fixture *f, const struct auth_user *user, const char *verb, const char *group, const char *resource, const char *ns, const char *name)
{
    const char *slash = strchr(resource, '/');
    const struct auth_attributes a = {
        .user = user, .verb = verb, .resource_request = true, .group = group, .version = "v1",
        .resource = slash ? kp_arena_strndup(f->arena, resource, (size_t)(slash - resource)) : resource, .subresource = slash ? slash + 1 : "",
        .ns = ns, .name = name, .path = "", .field_selector = "", .label_selector = ""};
    return auth_authorize(f->auth, &a, f->arena, NULL);
}

static bool may_path(struct fixture *f, const struct auth_user *user, const char *path)
{
    const struct auth_attributes a = {.user = user, .verb = "get", .group = "", .version = "", .resource = "", .subresource = "", .ns = "", .name = "",
                                      .path = path, .field_selector = "", .label_selector = ""};
    return auth_authorize(f->auth, &a, f->arena, NULL);
}

static void rules_match_names_subresources_and_paths(void **state)
{
    struct fixture *f = *state;
    const struct auth_user joe = user_of(f, "joe", NULL);
    caches_put(f->caches, RBAC, "clusterroles", "r",
               RBAC_HEAD("ClusterRole", "r") ",\"rules\":[{\"verbs\":[\"get\"],\"apiGroups\":[\"\"],\"resources\":[\"pods\",\"pods/log\",\"*/scale\"]},"
                                             "{\"verbs\":[\"update\"],\"apiGroups\":[\"apps\"],\"resources\":[\"deployments\"],\"resourceNames\":[\"d\"]},"
                                             "{\"verbs\":[\"get\"],\"nonResourceURLs\":[\"/healthz\",\"/logs/*\"]}]}");
    assert_false(may(f, &joe, "get", "", "pods", "n", "p"));
    bind_cluster(f->caches, "b", "r", "User", "joe");
    assert_true(may(f, &joe, "get", "", "pods", "n", "p"));
    assert_true(may(f, &joe, "get", "", "pods/log", "n", "p"));
    assert_false(may(f, &joe, "get", "", "pods/exec", "n", "p"));
    assert_true(may(f, &joe, "get", "", "anything/scale", "n", "p"));
    assert_false(may(f, &joe, "list", "", "pods", "n", ""));
    assert_true(may(f, &joe, "update", "apps", "deployments", "n", "d"));
    assert_false(may(f, &joe, "update", "apps", "deployments", "n", "e"));
    assert_false(may(f, &joe, "update", "apps", "deployments", "n", ""));
    assert_true(may_path(f, &joe, "/healthz"));
    assert_false(may_path(f, &joe, "/healthz/x"));
    assert_true(may_path(f, &joe, "/logs/x/y"));
    caches_put(f->caches, RBAC, "clusterrolebindings", "b", NULL);
    assert_false(may(f, &joe, "get", "", "pods", "n", "p"));
}

static void role_binding_counts_in_its_namespace(void **state)
{
    struct fixture *f = *state;
    const struct auth_user account = user_of(f, "system:serviceaccount:n:s", NULL);
    caches_put(f->caches, RBAC, "roles", "n/r",
               "{\"metadata\":{\"name\":\"r\",\"namespace\":\"n\"},\"rules\":[{\"verbs\":[\"*\"],\"apiGroups\":[\"*\"],\"resources\":[\"*\"]}]}");
    caches_put(f->caches, RBAC, "rolebindings", "n/b",
               "{\"metadata\":{\"name\":\"b\",\"namespace\":\"n\"},\"roleRef\":{\"kind\":\"Role\",\"name\":\"r\"},\"subjects\":[{\"kind\":\"ServiceAccount\",\"name\":\"s\"}]}");
    assert_true(may(f, &account, "delete", "apps", "deployments/scale", "n", "x"));
    assert_false(may(f, &account, "get", "", "pods", "other", "x"));
    assert_false(may(f, &account, "get", "", "nodes", "", "x"));
}

static void aggregated_role_takes_in_labelled_ones(void **state)
{
    struct fixture *f = *state;
    const struct auth_user member = user_of(f, "x", "team");
    caches_put(f->caches, RBAC, "clusterroles", "sum",
               RBAC_HEAD("ClusterRole", "sum") ",\"aggregationRule\":{\"clusterRoleSelectors\":[{\"matchLabels\":{\"a\":\"b\"}}]}}");
    bind_cluster(f->caches, "b", "sum", "Group", "team");
    assert_false(may(f, &member, "get", "", "pods", "n", "p"));
    caches_put(f->caches, RBAC, "clusterroles", "part",
               "{\"metadata\":{\"name\":\"part\",\"labels\":{\"a\":\"b\"}},\"rules\":[{\"verbs\":[\"get\"],\"apiGroups\":[\"\"],\"resources\":[\"pods\"]}]}");
    assert_true(may(f, &member, "get", "", "pods", "n", "p"));
}

static void masters_may_everything_and_others_nothing(void **state)
{
    struct fixture *f = *state;
    const struct auth_user root = user_of(f, "root", AUTH_GROUP_MASTERS), none = user_of(f, "none", NULL);
    assert_true(may(f, &root, "delete", "", "nodes", "", "n"));
    assert_false(may_path(f, &none, "/version"));
}

static void node_reads_what_its_pods_refer_to(void **state)
{
    struct fixture *f = *state;
    const struct auth_user node = user_of(f, "system:node:w", "system:nodes");
    caches_put(f->caches, "", "pods", "n/p",
               "{\"metadata\":{\"name\":\"p\",\"namespace\":\"n\"},\"spec\":{\"nodeName\":\"w\",\"serviceAccountName\":\"s\",\"containers\":[{\"name\":\"c\","
               "\"envFrom\":[{\"secretRef\":{\"name\":\"e\"}}]}],\"volumes\":[{\"name\":\"v\",\"secret\":{\"secretName\":\"k\"}}]}}");
    caches_put(f->caches, "", "pods", "n/q", "{\"metadata\":{\"name\":\"q\",\"namespace\":\"n\"},\"spec\":{\"nodeName\":\"other\",\"containers\":[]}}");
    assert_true(may(f, &node, "get", "", "secrets", "n", "k"));
    assert_true(may(f, &node, "watch", "", "secrets", "n", "e"));
    assert_false(may(f, &node, "get", "", "secrets", "n", "z"));
    assert_false(may(f, &node, "get", "", "secrets", "m", "k"));
    assert_false(may(f, &node, "list", "", "secrets", "n", ""));
    assert_false(may(f, &node, "update", "", "secrets", "n", "k"));
    assert_true(may(f, &node, "create", "", "serviceaccounts/token", "n", "s"));
    assert_false(may(f, &node, "create", "", "serviceaccounts/token", "n", "t"));
    assert_true(may(f, &node, "get", "", "pods", "n", "p"));
    assert_false(may(f, &node, "get", "", "pods", "n", "q"));
    assert_true(may(f, &node, "update", "coordination.k8s.io", "leases", "kube-node-lease", "w"));
    assert_false(may(f, &node, "update", "coordination.k8s.io", "leases", "kube-node-lease", "v"));
    assert_false(may(f, &node, "update", "coordination.k8s.io", "leases", "kube-system", "w"));
    caches_put(f->caches, "", "pods", "n/p", NULL);
    assert_false(may(f, &node, "get", "", "secrets", "n", "k"));
}

#define ON_HOST(name, host, rest) "{\"metadata\":{\"name\":\"" name "\"},\"spec\":{\"nodeAffinity\":{\"required\":{\"nodeSelectorTerms\":[{\"matchExpressions\":[" \
                                  "{\"key\":\"kubernetes.io/hostname\",\"operator\":\"In\",\"values\":[\"" host "\"]}" rest "]}]}}}}"

static void node_has_to_do_with_the_volumes_of_its_pods(void **state)
{
    struct fixture *f = *state;
    const struct auth_user node = user_of(f, "system:node:w", "system:nodes");
    caches_put(f->caches, "", "pods", "n/p", "{\"metadata\":{\"name\":\"p\",\"namespace\":\"n\"},\"spec\":{\"nodeName\":\"w\",\"containers\":[],\"volumes\":["
               "{\"name\":\"v\",\"persistentVolumeClaim\":{\"claimName\":\"c\"}},{\"name\":\"e\",\"ephemeral\":{}},"
               "{\"name\":\"i\",\"csi\":{\"driver\":\"d.io\",\"nodePublishSecretRef\":{\"name\":\"inline\"}}}]}}");
    caches_put(f->caches, "", "persistentvolumeclaims", "n/c", "{\"metadata\":{\"name\":\"c\",\"namespace\":\"n\"},\"spec\":{\"volumeName\":\"pv\"}}");
    caches_put(f->caches, "", "persistentvolumes", "pv", "{\"metadata\":{\"name\":\"pv\"},\"spec\":{\"claimRef\":{\"namespace\":\"n\",\"name\":\"c\"},\"csi\":{\"driver\":\"d.io\","
               "\"volumeHandle\":\"h\",\"nodeStageSecretRef\":{\"namespace\":\"csi\",\"name\":\"stage\"},\"controllerPublishSecretRef\":{\"namespace\":\"csi\",\"name\":\"publish\"}}}}");
    caches_put(f->caches, "", "persistentvolumes", "other", "{\"metadata\":{\"name\":\"other\"},\"spec\":{\"claimRef\":{\"namespace\":\"m\",\"name\":\"c\"}}}");
    assert_true(may(f, &node, "get", "", "persistentvolumeclaims", "n", "c"));
    assert_true(may(f, &node, "get", "", "persistentvolumeclaims", "n", "p-e"));
    assert_true(may(f, &node, "patch", "", "persistentvolumeclaims/status", "n", "c"));
    assert_false(may(f, &node, "patch", "", "persistentvolumeclaims/status", "n", "d"));
    assert_false(may(f, &node, "update", "", "persistentvolumeclaims", "n", "c"));
    assert_true(may(f, &node, "get", "", "persistentvolumes", "", "pv"));
    assert_false(may(f, &node, "get", "", "persistentvolumes", "", "other"));
    assert_false(may(f, &node, "list", "", "persistentvolumes", "", ""));
    assert_false(may(f, &node, "patch", "", "persistentvolumes", "", "pv"));
    assert_true(may(f, &node, "get", "", "secrets", "n", "inline"));
    assert_true(may(f, &node, "get", "", "secrets", "csi", "stage"));
    assert_false(may(f, &node, "get", "", "secrets", "csi", "publish")); /* for the controller */
    caches_put(f->caches, "storage.k8s.io", "volumeattachments", "a", "{\"metadata\":{\"name\":\"a\"},\"spec\":{\"nodeName\":\"w\",\"source\":{}}}");
    caches_put(f->caches, "storage.k8s.io", "volumeattachments", "b", "{\"metadata\":{\"name\":\"b\"},\"spec\":{\"nodeName\":\"x\",\"source\":{}}}");
    assert_true(may(f, &node, "get", "storage.k8s.io", "volumeattachments", "", "a"));
    assert_false(may(f, &node, "get", "storage.k8s.io", "volumeattachments", "", "b"));
    assert_false(may(f, &node, "update", "storage.k8s.io", "volumeattachments", "", "a"));
    assert_true(may(f, &node, "create", "storage.k8s.io", "csinodes", "", ""));
    assert_true(may(f, &node, "patch", "storage.k8s.io", "csinodes", "", "w"));
    assert_false(may(f, &node, "get", "storage.k8s.io", "csinodes", "", "x"));
    assert_true(may(f, &node, "watch", "storage.k8s.io", "csidrivers", "", ""));
}

static void node_may_let_go_of_volumes_on_its_own_disk(void **state)
{
    struct fixture *f = *state;
    const struct auth_user node = user_of(f, "system:node:w", "system:nodes");
    caches_put(f->caches, "", "nodes", "w", "{\"metadata\":{\"name\":\"w\",\"labels\":{\"kubernetes.io/hostname\":\"host-w\"}}}");
    caches_put(f->caches, "", "persistentvolumes", "mine", ON_HOST("mine", "host-w", ""));
    caches_put(f->caches, "", "persistentvolumes", "theirs", ON_HOST("theirs", "host-x", ""));
    caches_put(f->caches, "", "persistentvolumes", "more", ON_HOST("more", "host-w", ",{\"key\":\"a\",\"operator\":\"Exists\"}"));
    assert_true(may(f, &node, "get", "", "persistentvolumes", "", "mine"));
    assert_true(may(f, &node, "patch", "", "persistentvolumes", "", "mine"));
    assert_false(may(f, &node, "update", "", "persistentvolumes", "", "mine"));
    assert_false(may(f, &node, "delete", "", "persistentvolumes", "", "mine"));
    assert_false(may(f, &node, "patch", "", "persistentvolumes/status", "", "mine"));
    assert_false(may(f, &node, "get", "", "persistentvolumes", "", "theirs"));
    assert_false(may(f, &node, "patch", "", "persistentvolumes", "", "more"));
    assert_false(may(f, &node, "get", "", "persistentvolumes", "", "none"));
}

static void token_names_its_account_and_dies_with_it(void **state)
{
    struct fixture *f = *state;
    struct k8s_token_request *request = kp_object_new(&k8s_token_request_type, f->arena);
    struct auth_user user;
    struct kp_string_list audiences = {0}, other = {0};
    const char *why;
    caches_put(f->caches, "", "serviceaccounts", "n/s", "{\"metadata\":{\"name\":\"s\",\"namespace\":\"n\",\"uid\":\"u1\"}}");
    KP_SET(request->spec, expiration_seconds, 100);
    assert_true(auth_token_request(f->auth, "n", "s", "u1", request, f->arena, &f->status) < 0);
    assert_non_null(strstr(f->status.message, "may not specify a duration less than 10 minutes"));
    f->status = API_STATUS(f->arena);
    KP_SET(request->spec, expiration_seconds, 600);
    assert_int_equal(auth_token_request(f->auth, "n", "s", "u1", request, f->arena, &f->status), 0);
    const char *token = request->status->token;
    assert_int_equal(auth_token_authenticate(f->auth, token, NULL, f->arena, &user, &audiences, &why), 0);
    assert_string_equal(user.name, "system:serviceaccount:n:s");
    assert_true(kp_string_list_has(&user.groups, "system:serviceaccounts:n"));
    kp_string_list_add(f->arena, &other, "somebody-else");
    assert_true(auth_token_authenticate(f->auth, token, &other, f->arena, &user, &audiences, &why) < 0);
    KP_AUTO_FREE char *forged = kp_strdup(token);
    char *middle = strchr(forged, '.') + 5;
    *middle = *middle == 'A' ? 'B' : 'A';
    assert_true(auth_token_authenticate(f->auth, forged, NULL, f->arena, &user, &audiences, &why) < 0);
    caches_put(f->caches, "", "serviceaccounts", "n/s", "{\"metadata\":{\"name\":\"s\",\"namespace\":\"n\",\"uid\":\"u2\"}}"); /* made anew */
    assert_true(auth_token_authenticate(f->auth, token, NULL, f->arena, &user, &audiences, &why) < 0);
}

/* A token of ours with other times or another issuer. */
static bool accepted(struct fixture *f, const char *issuer, int64_t nbf, int64_t exp)
{
    KP_AUTO_BUF struct kp_buf token = {0};
    struct kp_error error = {0};
    struct auth_user user;
    struct kp_string_list audiences = {0};
    const char *why;
    const char *payload = kp_arena_printf(f->arena, "{\"iss\":\"%s\",\"aud\":[\"https://issuer\"],\"nbf\":%lld,\"iat\":%lld,\"exp\":%lld,"
                                                    "\"sub\":\"system:serviceaccount:n:s\",\"kubernetes.io\":{\"namespace\":\"n\",\"serviceaccount\":{\"name\":\"s\",\"uid\":\"u1\"}}}",
                                          issuer, (long long)nbf, (long long)nbf, (long long)exp);
    if (tls_jwt_sign(f->auth->signing_key, NULL, payload, &token, &error) < 0)
        fail_msg("%s", error.message);
    return auth_token_authenticate(f->auth, token.data, NULL, f->arena, &user, &audiences, &why) == 0;
}

static void token_times_and_issuer_are_checked(void **state)
{
    struct fixture *f = *state;
    int64_t now = kp_now_s();
    caches_put(f->caches, "", "serviceaccounts", "n/s", "{\"metadata\":{\"name\":\"s\",\"namespace\":\"n\",\"uid\":\"u1\"}}");
    assert_true(accepted(f, "https://issuer", now - 10, now + 1000));
    assert_false(accepted(f, "https://other", now - 10, now + 1000));
    assert_false(accepted(f, "https://issuer", now - 5000, now - 1000));
    assert_false(accepted(f, "https://issuer", now + 1000, now + 2000));
}

static void rules_review_lists_what_one_may(void **state)
{
    struct fixture *f = *state;
    const struct auth_user joe = user_of(f, "joe", NULL);
    caches_put(f->caches, RBAC, "clusterroles", "r",
               RBAC_HEAD("ClusterRole", "r") ",\"rules\":[{\"verbs\":[\"get\"],\"apiGroups\":[\"\"],\"resources\":[\"pods\"]},{\"verbs\":[\"get\"],\"nonResourceURLs\":[\"/x\"]}]}");
    bind_cluster(f->caches, "b", "r", "User", "joe");
    struct k8s_self_subject_rules_review *review = kp_object_new(&k8s_self_subject_rules_review_type, f->arena);
    review->spec->namespace = "n";
    const struct kp_resource *resource = kp_resource_find("authorization.k8s.io", "v1", "selfsubjectrulesreviews");
    assert_int_equal(auth_review(f->auth, resource, "", &joe, review, f->arena, &f->status), 0);
    assert_int_equal(review->status->resource_rules.len, 1);
    assert_string_equal(review->status->resource_rules.items[0].resources.items[0], "pods");
    assert_int_equal(review->status->non_resource_rules.len, 1);
}

static void impersonation_needs_the_right_for_each_part(void **state)
{
    struct fixture *f = *state;
    const struct http_header headers[] = {{"Impersonate-User", "jane"}, {"Impersonate-Group", "dev"}};
    struct http_request req = {.arena = f->arena, .headers = headers, .header_count = 2, .method = "GET", .path = "/", .query = ""};
    struct auth_user joe = user_of(f, "joe", NULL);
    caches_put(f->caches, RBAC, "clusterroles", "r",
               RBAC_HEAD("ClusterRole", "r") ",\"rules\":[{\"verbs\":[\"impersonate\"],\"apiGroups\":[\"\"],\"resources\":[\"users\"],\"resourceNames\":[\"jane\"]}]}");
    bind_cluster(f->caches, "b", "r", "User", "joe");
    assert_true(auth_impersonate(f->auth, &req, &joe, &f->status) < 0);
    assert_int_equal(f->status.http_status, 403);
    assert_string_equal(joe.name, "joe");
    f->status = API_STATUS(f->arena);
    req.header_count = 1;
    assert_int_equal(auth_impersonate(f->auth, &req, &joe, &f->status), 0);
    assert_string_equal(joe.name, "jane");
    assert_true(kp_string_list_has(&joe.groups, "system:authenticated"));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(rules_match_names_subresources_and_paths),
        TEST(role_binding_counts_in_its_namespace),
        TEST(aggregated_role_takes_in_labelled_ones),
        TEST(masters_may_everything_and_others_nothing),
        TEST(node_reads_what_its_pods_refer_to),
        TEST(node_has_to_do_with_the_volumes_of_its_pods),
        TEST(node_may_let_go_of_volumes_on_its_own_disk),
        TEST(token_names_its_account_and_dies_with_it),
        TEST(token_times_and_issuer_are_checked),
        TEST(rules_review_lists_what_one_may),
        TEST(impersonation_needs_the_right_for_each_part),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
