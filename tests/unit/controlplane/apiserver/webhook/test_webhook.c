/* Webhooks asked over TLS by the admission chain: who is asked about what, what changes, and what is refused. */
#include "controlplane/apiserver/admission/admission.h"
#include "controlplane/apiserver/registry/registry_internal.h"
#include "controlplane/apiserver/webhook/webhook_internal.h"
#include "lib/tls/tls.h"
#include "tests/unit/controlplane/apiserver/audited_test.h"
#include "tests/unit/controlplane/apiserver/caches_test.h"

#define CONFIGURATIONS "admissionregistration.k8s.io"

struct fixture {
    struct wcache_set *caches;
    struct kp_arena *arena;
    struct auth *auth;
    struct backends *backends;
    struct admission *admission;
    struct api_status status;
    struct registry_request rq;
    struct loop *loop;
    struct pool *pool;
    struct tls_context *tls;
    struct http_server *server;
    const char *ca_base64;
    pthread_mutex_t mutex;
    struct kp_buf asked; /* "/path " of each question */
    bool own;            /* the server writes for itself */
    struct audit_record *audit; /* of the next write; NULL: it is not audited */
};

/* ---- the other side: answers by path ------------------------------------------------------------------------------------------ */
static void answer(struct http_request *req, struct fixture *f, const struct kp_value *review)
{
    static const struct http_header json = {"Content-Type", "application/json"};
    const struct kp_value *request = kp_value_get(review, "request");
    KP_AUTO_BUF struct kp_buf out = {0}, patch = {0};
    const char *path = req->path, *uid = strcmp(path, "/wrong-uid") == 0 ? "x" : kp_value_str(kp_value_get(request, "uid"));
    kp_buf_printf(&out, "{\"kind\":\"AdmissionReview\",\"apiVersion\":\"%s\",\"response\":{\"uid\":\"%s\",\"allowed\":%s",
                  strcmp(path, "/wrong-version") == 0 ? "v1" : kp_value_str(kp_value_get(review, "apiVersion")), uid, strcmp(path, "/deny") == 0 ? "false" : "true");
    if (strcmp(path, "/deny") == 0)
        kp_buf_puts(&out, ",\"status\":{\"code\":403,\"reason\":\"Forbidden\",\"message\":\"no\"}");
    if (strcmp(path, "/note") == 0 || strcmp(path, "/deny") == 0)
        kp_buf_puts(&out, ",\"auditAnnotations\":{\"note\":\"seen\"}");
    if (strcmp(path, "/warn") == 0)
        kp_buf_puts(&out, ",\"warnings\":[\"careful\"]");
    if (kp_starts_with(path, "/add-")) /* appends its name to data.trace */
        kp_buf_printf(&patch, "[{\"op\":\"add\",\"path\":\"/data/trace\",\"value\":\"%s%s\"}]",
                      kp_value_str(kp_value_path(request, "object", "data", "trace", NULL)) ? kp_value_str(kp_value_path(request, "object", "data", "trace", NULL)) : "", path + 5);
    if (strcmp(path, "/move") == 0)
        kp_buf_puts(&patch, "[{\"op\":\"replace\",\"path\":\"/metadata/namespace\",\"value\":\"other\"}]");
    if (strcmp(path, "/container") == 0)
        kp_buf_puts(&patch, kp_value_at(kp_value_path(request, "object", "spec", "containers", NULL), 1)
                                ? "[]"
                                : "[{\"op\":\"add\",\"path\":\"/spec/containers/-\",\"value\":{\"name\":\"side\",\"image\":\"i\"}}]");
    if (patch.len) {
        kp_buf_puts(&out, ",\"patchType\":\"JSONPatch\",\"patch\":\"");
        kp_base64_encode(&out, patch.data, patch.len);
        kp_buf_puts(&out, "\"");
    }
    kp_buf_puts(&out, "}}");
    pthread_mutex_lock(&f->mutex);
    kp_buf_printf(&f->asked, "%s ", path);
    pthread_mutex_unlock(&f->mutex);
    http_respond(req, 200, &json, 1, out.data, out.len);
}

static void serve(struct http_request *req, void *arg)
{
    struct kp_value *review = NULL;
    if (strcmp(req->path, "/broken") == 0)
        http_respond(req, 500, NULL, 0, "oh", 2);
    else if (kp_value_parse((const char *)req->body.data, req->body.len, req->arena, NULL, &review, NULL) == 0)
        answer(req, arg, review);
}

static void make_tls(struct fixture *f)
{
    struct kp_error error = {0};
    struct tls_key *ca_key, *key;
    struct tls_cert *ca, *cert;
    static const char *const names[] = {"hook.n.svc", NULL};
    const struct tls_cert_options ca_options = {.subject = {.common_name = "ca"}};
    const struct tls_cert_options options = {.subject = {.common_name = "hook", .dns_names = names}, .usages = TLS_USAGE_SERVER};
    KP_AUTO_BUF struct kp_buf ca_pem = {0}, cert_pem = {0}, key_pem = {0}, base64 = {0};
    assert_int_equal(tls_key_generate(TLS_KEY_ECDSA_P256, &ca_key, &error), 0);
    assert_int_equal(tls_key_generate(TLS_KEY_ECDSA_P256, &key, &error), 0);
    assert_int_equal(tls_cert_create_ca(ca_key, &ca_options, &ca, &error), 0);
    assert_int_equal(tls_cert_create(key, &options, ca, ca_key, &cert, &error), 0);
    tls_cert_to_pem(ca, &ca_pem);
    tls_cert_to_pem(cert, &cert_pem);
    assert_int_equal(tls_key_to_pem(key, &key_pem, &error), 0);
    const struct tls_context_config config = {.server = true, .cert_pem = cert_pem.data, .key_pem = key_pem.data};
    assert_int_equal(tls_context_new(&config, &f->tls, &error), 0);
    kp_base64_encode(&base64, ca_pem.data, ca_pem.len);
    f->ca_base64 = kp_arena_strdup(f->arena, base64.data);
    tls_cert_unref(ca);
    tls_cert_unref(cert);
    tls_key_unref(ca_key);
    tls_key_unref(key);
}

static int set_up(void **state)
{
    struct fixture *f = kp_calloc(1, sizeof(*f));
    struct kp_error error = {0};
    f->arena = kp_arena_new(0);
    pthread_mutex_init(&f->mutex, NULL);
    make_tls(f);
    f->loop = loop_new();
    assert_int_equal(loop_start(f->loop, "test", &error), 0);
    f->pool = pool_new("test", 4, 100);
    const struct http_server_config config = {.host = "127.0.0.1", .tls = f->tls, .pool = f->pool, .handler = serve, .arg = f};
    assert_int_equal(http_server_new(f->loop, &config, &f->server, &error), 0);
    f->caches = caches_new();
    const struct auth_config auth = {.caches = f->caches, .authorization_modes = "RBAC", .service_account_issuer = "https://issuer"};
    assert_int_equal(auth_new(&auth, &f->auth, &error), 0);
    const struct backends_config backends = {.loop = f->loop, .caches = f->caches};
    f->backends = backends_new(&backends);
    const struct admission_config chain = {.caches = f->caches, .auth = f->auth, .backends = f->backends, .views = &registry_views};
    assert_int_equal(admission_new(&chain, &f->admission, &error), 0);
    caches_put(f->caches, "", "namespaces", "n", "{\"metadata\":{\"name\":\"n\",\"labels\":{\"team\":\"a\"}},\"status\":{\"phase\":\"Active\"}}");
    caches_put(f->caches, "", "serviceaccounts", "n/default", "{\"metadata\":{\"name\":\"default\",\"namespace\":\"n\",\"uid\":\"u\"}}");
    caches_put(f->caches, "", "services", "n/hook", "{\"metadata\":{\"name\":\"hook\",\"namespace\":\"n\"},\"spec\":{\"type\":\"ClusterIP\",\"ports\":[{\"port\":443}]}}");
    caches_put(f->caches, "discovery.k8s.io", "endpointslices", "n/hook-1",
               kp_arena_printf(f->arena, "{\"metadata\":{\"name\":\"hook-1\",\"namespace\":\"n\",\"labels\":{\"kubernetes.io/service-name\":\"hook\"}},"
                                         "\"ports\":[{\"name\":\"\",\"port\":%u}],\"endpoints\":[{\"addresses\":[\"127.0.0.1\"]},"
                                         "{\"addresses\":[\"192.0.2.1\"],\"conditions\":{\"ready\":false}}]}", http_server_port(f->server)));
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    admission_free(f->admission);
    backends_free(f->backends);
    auth_free(f->auth);
    http_server_free(f->server);
    pool_free(f->pool);
    loop_free(f->loop);
    tls_context_unref(f->tls);
    caches_free(f->caches);
    kp_buf_done(&f->asked);
    kp_arena_free(f->arena);
    free(f);
    return 0;
}

/* ---- this side ------------------------------------------------------------------------------------------------------------------- */
/* more: further members of the webhook, each with a comma before it. */
static const char *hook(struct fixture *f, const char *name, const char *path, const char *more)
{
    return kp_arena_printf(f->arena,
                           "{\"name\":\"%s.example.com\",\"admissionReviewVersions\":[\"v1\"],\"sideEffects\":\"None\",\"timeoutSeconds\":5,"
                           "\"clientConfig\":{\"service\":{\"namespace\":\"n\",\"name\":\"hook\",\"path\":\"%s\"},\"caBundle\":\"%s\"},"
                           "\"rules\":[{\"operations\":[\"*\"],\"apiGroups\":[\"*\"],\"apiVersions\":[\"*\"],\"resources\":[\"*\"]}]%s}",
                           name, path, f->ca_base64, more);
}

static void configure(struct fixture *f, const char *resource, const char *name, const char *hooks)
{
    caches_put(f->caches, CONFIGURATIONS, resource, name, hooks ? kp_arena_printf(f->arena, "{\"metadata\":{\"name\":\"%s\"},\"webhooks\":[%s]}", name, hooks) : NULL);
}
#define MUTATING(f, name, hooks) configure(f, "mutatingwebhookconfigurations", name, hooks)
#define VALIDATING(f, name, hooks) configure(f, "validatingwebhookconfigurations", name, hooks)

static const struct auth_user joe = {.name = "joe", .uid = ""};

/* Both phases of a write of what json says; the object as it would be stored in *obj. */
static int write_as(struct fixture *f, enum admission_operation operation, const struct kp_resource *resource, const char *json, bool dry_run, void **obj)
{
    struct kp_error error = {0};
    struct admission_attributes a;
    void *object;
    f->status = API_STATUS(f->arena);
    f->rq = registry_own_request(f->arena, &f->status, resource, "n", "x");
    f->rq.user = &joe;
    f->rq.own = f->own;
    f->rq.audit = f->audit;
    f->rq.dry_run = dry_run;
    if (kp_json_decode(registry_storage_type(f->rq.kind), json, strlen(json), f->arena, NULL, &object, &error) < 0)
        fail_msg("%s", error.message);
    bool gone = operation == ADMISSION_DELETE;
    registry_admission_attributes(&f->rq, operation, gone ? NULL : object, operation == ADMISSION_CREATE ? NULL : object, &a);
    int code = admission_mutate(f->admission, &a, &f->status);
    if (code == 0)
        code = admission_validate(f->admission, &a, &f->status);
    if (obj)
        *obj = a.object;
    return code;
}

static int create_map(struct fixture *f, struct k8s_config_map **map)
{
    return write_as(f, ADMISSION_CREATE, &k8s_configmaps_resource, "{\"metadata\":{\"name\":\"x\",\"namespace\":\"n\",\"labels\":{\"l\":\"1\"}},\"data\":{\"k\":\"v\"}}", false,
                    (void **)map);
}

static const char *asked(struct fixture *f)
{
    const char *text = kp_arena_strdup(f->arena, f->asked.data ? f->asked.data : "");
    f->asked.len = 0;
    if (f->asked.data)
        *f->asked.data = '\0';
    return text;
}

static void patches_are_applied_in_the_order_of_names(void **state)
{
    struct fixture *f = *state;
    struct k8s_config_map *map;
    MUTATING(f, "b", hook(f, "b1", "/add-b1", ""));
    MUTATING(f, "a", kp_arena_printf(f->arena, "%s,%s", hook(f, "a1", "/add-a1", ""), hook(f, "a2", "/add-a2", "")));
    assert_int_equal(create_map(f, &map), 0);
    assert_string_equal(kp_string_map_get(&map->data, "trace"), "a1a2b1");
    assert_string_equal(kp_string_map_get(&map->data, "k"), "v");
    asked(f);
    MUTATING(f, "a", NULL);
    assert_int_equal(create_map(f, &map), 0);
    assert_string_equal(kp_string_map_get(&map->data, "trace"), "b1");
}

static void who_asks_for_it_is_asked_again_after_a_change(void **state)
{
    struct fixture *f = *state;
    struct k8s_config_map *map;
    MUTATING(f, "a", kp_arena_printf(f->arena, "%s,%s", hook(f, "a1", "/allow", ",\"reinvocationPolicy\":\"IfNeeded\""), hook(f, "a2", "/allow-never", "")));
    MUTATING(f, "b", hook(f, "b1", "/add-b1", ",\"reinvocationPolicy\":\"IfNeeded\""));
    assert_int_equal(create_map(f, &map), 0);
    assert_string_equal(asked(f), "/allow /allow-never /add-b1 /allow ");
    assert_string_equal(kp_string_map_get(&map->data, "trace"), "b1");
}

static void what_a_webhook_adds_gets_defaults_and_our_own_steps(void **state)
{
    struct fixture *f = *state;
    struct k8s_pod *pod;
    MUTATING(f, "a", hook(f, "a1", "/container", ""));
    assert_int_equal(write_as(f, ADMISSION_CREATE, &k8s_pods_resource,
                              "{\"metadata\":{\"name\":\"x\",\"namespace\":\"n\"},\"spec\":{\"containers\":[{\"name\":\"c\",\"image\":\"i\"}]}}", false, (void **)&pod),
                     0);
    assert_int_equal(pod->spec->containers.len, 2);
    const struct k8s_container *side = &pod->spec->containers.items[1];
    assert_string_equal(side->termination_message_path, "/dev/termination-log");
    assert_int_equal(side->volume_mounts.len, 1); /* the service account's token */
    assert_int_equal(pod->spec->volumes.len, 1);
    assert_string_equal(asked(f), "/container ");
}

static void a_refusal_is_told_with_its_webhook(void **state)
{
    struct fixture *f = *state;
    VALIDATING(f, "v", kp_arena_printf(f->arena, "%s,%s", hook(f, "warn", "/warn", ""), hook(f, "deny", "/deny", "")));
    assert_true(create_map(f, NULL) < 0);
    assert_int_equal(f->status.http_status, 403);
    assert_string_equal(f->status.reason, "Forbidden");
    assert_string_equal(f->status.message, "admission webhook \"deny.example.com\" denied the request: no");
    assert_int_equal(f->rq.warnings.len, 1);
    assert_string_equal(f->rq.warnings.items[0], "careful");
    assert_true(write_as(f, ADMISSION_DELETE, &k8s_configmaps_resource, "{\"metadata\":{\"name\":\"x\",\"namespace\":\"n\"}}", false, NULL) < 0);
}

static void a_silent_webhook_refuses_or_lets_pass_by_its_policy(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *path, *message;
    } rows[] = {
        {"/broken", "Internal error occurred: failed calling webhook \"v.example.com\": failed to call webhook: an error on the server (\"oh\") has prevented the "
                    "request from succeeding"},
        {"/wrong-version", "Internal error occurred: failed calling webhook \"v.example.com\": received invalid webhook response: expected webhook response of "
                           "admission.k8s.io/v1, Kind=AdmissionReview, got v1, Kind=AdmissionReview"},
    };
    for (size_t i = 0; i < KP_ARRAY_LEN(rows); i++) {
        VALIDATING(f, "v", hook(f, "v", rows[i].path, ""));
        assert_true(create_map(f, NULL) < 0);
        assert_int_equal(f->status.http_status, 500);
        assert_string_equal(f->status.message, rows[i].message);
        VALIDATING(f, "v", hook(f, "v", rows[i].path, ",\"failurePolicy\":\"Ignore\""));
        assert_int_equal(create_map(f, NULL), 0);
    }
    VALIDATING(f, "v", hook(f, "v", "/wrong-uid", ""));
    assert_true(create_map(f, NULL) < 0);
    assert_true(strstr(f->status.message, "expected response.uid=") != NULL);
    caches_put(f->caches, "discovery.k8s.io", "endpointslices", "n/hook-1", NULL);
    VALIDATING(f, "v", hook(f, "v", "/allow", ""));
    assert_true(create_map(f, NULL) < 0);
    assert_string_equal(f->status.message, "Internal error occurred: failed calling webhook \"v.example.com\": failed to call webhook: Post "
                                           "\"https://hook.n.svc:443/allow?timeout=5s\": no endpoints available for service \"hook\"");
}

static void a_certificate_of_somebody_else_is_not_believed(void **state)
{
    struct fixture *f = *state;
    caches_put(f->caches, "", "services", "n/other", "{\"metadata\":{\"name\":\"other\",\"namespace\":\"n\"},\"spec\":{\"type\":\"ClusterIP\",\"ports\":[{\"port\":443}]}}");
    caches_put(f->caches, "discovery.k8s.io", "endpointslices", "n/other-1",
               kp_arena_printf(f->arena, "{\"metadata\":{\"name\":\"other-1\",\"namespace\":\"n\",\"labels\":{\"kubernetes.io/service-name\":\"other\"}},"
                                         "\"ports\":[{\"name\":\"\",\"port\":%u}],\"endpoints\":[{\"addresses\":[\"127.0.0.1\"]}]}", http_server_port(f->server)));
    VALIDATING(f, "v", kp_arena_printf(f->arena,
                                       "{\"name\":\"v.example.com\",\"admissionReviewVersions\":[\"v1\"],\"sideEffects\":\"None\",\"clientConfig\":{\"service\":"
                                       "{\"namespace\":\"n\",\"name\":\"other\",\"path\":\"/allow\"},\"caBundle\":\"%s\"},\"rules\":[{\"operations\":[\"*\"],"
                                       "\"apiGroups\":[\"*\"],\"apiVersions\":[\"*\"],\"resources\":[\"*\"]}]}", f->ca_base64));
    assert_true(create_map(f, NULL) < 0);
    assert_int_equal(f->status.http_status, 500);
    assert_string_equal(asked(f), "");
}

static void an_object_may_not_be_moved_to_another_namespace(void **state)
{
    struct fixture *f = *state;
    MUTATING(f, "a", hook(f, "a", "/move", ""));
    assert_true(create_map(f, NULL) < 0);
    assert_int_equal(f->status.http_status, 400);
    assert_string_equal(f->status.message, "the namespace of the provided object does not match the namespace sent on the request");
}

static void selectors_and_rules_say_who_is_asked(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *more;
        bool asked;
    } rows[] = {
        {",\"namespaceSelector\":{\"matchLabels\":{\"team\":\"a\"}}", true},
        {",\"namespaceSelector\":{\"matchExpressions\":[{\"key\":\"team\",\"operator\":\"DoesNotExist\"}]}", false},
        {",\"objectSelector\":{\"matchLabels\":{\"l\":\"1\"}}", true},
        {",\"objectSelector\":{\"matchLabels\":{\"l\":\"2\"}}", false},
        {",\"rules\":[{\"operations\":[\"UPDATE\",\"DELETE\"],\"apiGroups\":[\"\"],\"apiVersions\":[\"v1\"],\"resources\":[\"configmaps\"]}]", false},
        {",\"rules\":[{\"operations\":[\"CREATE\"],\"apiGroups\":[\"\"],\"apiVersions\":[\"v1\"],\"resources\":[\"configmaps\"]}]", true},
        {",\"rules\":[{\"operations\":[\"CREATE\"],\"apiGroups\":[\"\"],\"apiVersions\":[\"v1\"],\"resources\":[\"*/*\"],\"scope\":\"Cluster\"}]", false},
        {",\"rules\":[{\"operations\":[\"CREATE\"],\"apiGroups\":[\"apps\"],\"apiVersions\":[\"*\"],\"resources\":[\"*\"]}]", false},
        {",\"rules\":[{\"operations\":[\"CREATE\"],\"apiGroups\":[\"\"],\"apiVersions\":[\"v1\"],\"resources\":[\"configmaps/status\"]}]", false},
    };
    for (size_t i = 0; i < KP_ARRAY_LEN(rows); i++) {
        VALIDATING(f, "v", hook(f, "v", "/allow", rows[i].more)); /* of two members of one name the later one counts */
        assert_int_equal(create_map(f, NULL), 0);
        assert_string_equal(asked(f), rows[i].asked ? "/allow " : "");
    }
}

static void another_version_of_a_resource_matches_unless_exact(void **state)
{
    struct fixture *f = *state;
    static const char rules[] = ",\"rules\":[{\"operations\":[\"CREATE\"],\"apiGroups\":[\"autoscaling\"],\"apiVersions\":[\"v1\"],\"resources\":[\"horizontalpodautoscalers\"]}]";
    static const char hpa[] = "{\"metadata\":{\"name\":\"x\",\"namespace\":\"n\"},\"spec\":{\"maxReplicas\":2,\"scaleTargetRef\":{\"kind\":\"Deployment\",\"name\":\"d\"}}}";
    const struct kp_resource *v2 = kp_resource_find("autoscaling", "v2", "horizontalpodautoscalers");
    VALIDATING(f, "v", hook(f, "v", "/allow", rules));
    assert_int_equal(write_as(f, ADMISSION_CREATE, v2, hpa, false, NULL), 0);
    assert_string_equal(asked(f), "/allow ");
    VALIDATING(f, "v", hook(f, "v", "/allow", kp_arena_printf(f->arena, "%s,\"matchPolicy\":\"Exact\"", rules)));
    assert_int_equal(write_as(f, ADMISSION_CREATE, v2, hpa, false, NULL), 0);
    assert_string_equal(asked(f), "");
}

static void configurations_themselves_are_never_asked_about(void **state)
{
    struct fixture *f = *state;
    VALIDATING(f, "v", hook(f, "v", "/deny", ""));
    const struct kp_resource *resource = kp_resource_find(CONFIGURATIONS, "v1", "validatingwebhookconfigurations");
    assert_int_equal(write_as(f, ADMISSION_DELETE, resource, "{\"metadata\":{\"name\":\"v\"}}", false, NULL), 0);
    assert_string_equal(asked(f), "");
}

static void the_servers_own_writes_ask_nobody(void **state)
{
    struct fixture *f = *state;
    VALIDATING(f, "v", hook(f, "v", "/deny", ""));
    MUTATING(f, "m", hook(f, "m", "/broken", ""));
    f->own = true;
    assert_int_equal(create_map(f, NULL), 0);
    assert_string_equal(asked(f), "");
}

static void a_dry_run_needs_webhooks_without_side_effects(void **state)
{
    struct fixture *f = *state;
    static const char map[] = "{\"metadata\":{\"name\":\"x\",\"namespace\":\"n\"}}";
    VALIDATING(f, "v", hook(f, "v", "/allow", ",\"sideEffects\":\"Some\""));
    assert_true(write_as(f, ADMISSION_CREATE, &k8s_configmaps_resource, map, true, NULL) < 0);
    assert_int_equal(f->status.http_status, 400);
    assert_string_equal(f->status.message, "admission webhook \"v.example.com\" does not support dry run");
    VALIDATING(f, "v", hook(f, "v", "/allow", ",\"sideEffects\":\"NoneOnDryRun\""));
    assert_int_equal(write_as(f, ADMISSION_CREATE, &k8s_configmaps_resource, map, true, NULL), 0);
}

static void a_question_says_what_upstream_says(void **state)
{
    struct fixture *f = *state;
    struct kp_error error = {0};
    struct kp_value *review;
    struct admission_attributes a;
    struct webhook one = {.name = "v", .review_version = "v1"};
    struct webhook_question question = {.hook = &one, .resource = &k8s_configmaps_resource};
    struct k8s_config_map *map = KP_OBJECT_NEW(f->arena, k8s_config_map);
    f->status = API_STATUS(f->arena);
    f->rq = registry_own_request(f->arena, &f->status, &k8s_configmaps_resource, "n", "x");
    f->rq.user = &joe;
    f->rq.field_manager = "m";
    map->metadata->name = "x";
    registry_admission_attributes(&f->rq, ADMISSION_CREATE, map, NULL, &a);
    assert_true(webhook_question_make(&question, &a, &registry_views));
    assert_int_equal(kp_value_parse(question.text, question.len, f->arena, NULL, &review, &error), 0);
    struct kp_value *request = kp_value_get(review, "request");
    kp_value_remove(request, "uid");
    kp_value_remove(request, "object");
    KP_AUTO_BUF struct kp_buf text = {0};
    kp_value_print_sorted(request, &text);
    assert_string_equal(text.data, "{\"dryRun\":false,\"kind\":{\"group\":\"\",\"kind\":\"ConfigMap\",\"version\":\"v1\"},\"name\":\"x\",\"namespace\":\"n\",\"oldObject\":null,"
                                   "\"operation\":\"CREATE\",\"options\":{\"apiVersion\":\"meta.k8s.io/v1\",\"fieldManager\":\"m\",\"kind\":\"CreateOptions\"},"
                                   "\"requestKind\":{\"group\":\"\",\"kind\":\"ConfigMap\",\"version\":\"v1\"},\"requestResource\":{\"group\":\"\",\"resource\":\"configmaps\","
                                   "\"version\":\"v1\"},\"resource\":{\"group\":\"\",\"resource\":\"configmaps\",\"version\":\"v1\"},\"userInfo\":{\"username\":\"joe\"}}");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
static void what_webhooks_did_is_told_to_the_audit_log(void **state)
{
    struct fixture *f = *state;
    struct audited audited;
    static const char *const levels[] = {"Metadata", "Request"};
    MUTATING(f, "a", kp_arena_printf(f->arena, "%s,%s", hook(f, "a1", "/note", ",\"reinvocationPolicy\":\"IfNeeded\""), hook(f, "a2", "/add-x", "")));
    MUTATING(f, "b", hook(f, "b1", "/broken", ",\"failurePolicy\":\"Ignore\""));
    VALIDATING(f, "v", kp_arena_printf(f->arena, "%s,%s", hook(f, "v1", "/broken", ",\"failurePolicy\":\"Ignore\""), hook(f, "v2", "/deny", "")));
    for (size_t i = 0; i < 2; i++) {
        static const char *const expected[][2] = {
            {"a1.example.com/note", "seen"},
            {"v2.example.com/note", "seen"}, /* also of one that refuses */
            {"mutation.webhook.admission.k8s.io/round_0_index_0", "{\"configuration\":\"a\",\"webhook\":\"a1.example.com\",\"mutated\":false}"},
            {"mutation.webhook.admission.k8s.io/round_0_index_1", "{\"configuration\":\"a\",\"webhook\":\"a2.example.com\",\"mutated\":true}"},
            {"mutation.webhook.admission.k8s.io/round_0_index_2", "{\"configuration\":\"b\",\"webhook\":\"b1.example.com\",\"mutated\":false}"},
            {"mutation.webhook.admission.k8s.io/round_1_index_0", "{\"configuration\":\"a\",\"webhook\":\"a1.example.com\",\"mutated\":false}"},
            {"failed-open.mutation.webhook.admission.k8s.io/round_0_index_2", "b1.example.com"},
            {"failed-open.validating.webhook.admission.k8s.io/round_0_index_0", "v1.example.com"},
        };
        f->audit = audited_begin(&audited, levels[i]);
        assert_true(create_map(f, NULL) < 0);
        f->audit = NULL;
        const struct kp_value *annotations = audited_end(&audited, f->arena);
        for (size_t k = 0; k < KP_ARRAY_LEN(expected); k++)
            assert_string_equal(kp_value_str(kp_value_get(annotations, expected[k][0])), expected[k][1]);
        const char *patch = kp_value_str(kp_value_get(annotations, "patch.webhook.admission.k8s.io/round_0_index_1"));
        if (i == 0)
            assert_null(patch); /* it has what the object has: that is of a higher level */
        else
            assert_string_equal(patch, "{\"configuration\":\"a\",\"webhook\":\"a2.example.com\",\"patch\":[{\"op\":\"add\",\"path\":\"/data/trace\",\"value\":\"x\"}],"
                                       "\"patchType\":\"JSONPatch\"}");
        assert_int_equal(annotations->object.len, KP_ARRAY_LEN(expected) + i);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(patches_are_applied_in_the_order_of_names),
        TEST(who_asks_for_it_is_asked_again_after_a_change),
        TEST(what_a_webhook_adds_gets_defaults_and_our_own_steps),
        TEST(a_refusal_is_told_with_its_webhook),
        TEST(a_silent_webhook_refuses_or_lets_pass_by_its_policy),
        TEST(a_certificate_of_somebody_else_is_not_believed),
        TEST(an_object_may_not_be_moved_to_another_namespace),
        TEST(selectors_and_rules_say_who_is_asked),
        TEST(another_version_of_a_resource_matches_unless_exact),
        TEST(configurations_themselves_are_never_asked_about),
        TEST(the_servers_own_writes_ask_nobody),
        TEST(a_dry_run_needs_webhooks_without_side_effects),
        TEST(a_question_says_what_upstream_says),
        TEST(what_webhooks_did_is_told_to_the_audit_log),
    };
    kp_log_init("test", KP_LOG_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
