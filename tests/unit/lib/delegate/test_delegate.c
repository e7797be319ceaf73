/* Delegated checks: who a certificate or a token is, what the API server says they may, and for how long it is not asked again. */
#include "lib/delegate/delegate.h"
#include "tests/support/http_script.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#define LONG_MS 600000
#define KNOWN                                                                                                             \
    "{\"kind\":\"TokenReview\",\"apiVersion\":\"authentication.k8s.io/v1\",\"status\":{\"authenticated\":true,"           \
    "\"user\":{\"username\":\"system:serviceaccount:monitoring:prometheus\",\"groups\":[\"system:serviceaccounts\",\"system:authenticated\"]}}}"
#define UNKNOWN "{\"kind\":\"TokenReview\",\"apiVersion\":\"authentication.k8s.io/v1\",\"status\":{\"error\":\"no\"}}"
#define ACCESS(allowed) "{\"kind\":\"SubjectAccessReview\",\"apiVersion\":\"authorization.k8s.io/v1\",\"status\":{\"allowed\":" allowed "}}"
#define JSON "Content-Type: application/json\r\n"

static struct loop *loop;
static struct kp_arena *arena;
static struct http_script *script;
static struct client *client;
static struct delegate *delegate;
static struct kp_error error;

static int setup(void **state)
{
    loop = loop_new();
    arena = kp_arena_new(0);
    error = (struct kp_error){0};
    return loop_start(loop, "test", &error);
}

static int teardown(void **state)
{
    delegate_free(delegate);
    client_free(client);
    if (script)
        http_script_end(script);
    loop_free(loop);
    kp_arena_free(arena);
    delegate = NULL;
    client = NULL;
    script = NULL;
    return 0;
}

static void start(const struct http_reply *replies, size_t n, bool anonymous, int64_t kept_ms)
{
    script = http_script_start(replies, n);
    const struct client_config config = {.servers = {http_script_url(script)}, .n_servers = 1};
    assert_int_equal(client_new(loop, &config, &client, &error), 0);
    const struct delegate_config delegated = {
        .tokens = client, .access = client, .anonymous = anonymous, .token_ms = kept_ms, .allowed_ms = kept_ms, .denied_ms = kept_ms,
    };
    delegate = delegate_new(&delegated);
}

/* "name groups..." of who asks, or "code <n>". */
static const char *who(const char *authorization, const struct http_peer_identity *peer)
{
    const struct http_header header = {"authorization", authorization};
    struct http_request req = {.arena = arena, .headers = &header, .header_count = authorization ? 1 : 0, .peer = peer};
    struct delegate_user *user;
    KP_AUTO_BUF struct kp_buf text = {0};
    int rc = delegate_authenticate(delegate, &req, &user, &error);
    if (rc < 0)
        return kp_arena_printf(arena, "code %d", rc);
    kp_buf_puts(&text, user->name);
    for (size_t i = 0; i < user->n_groups; i++)
        kp_buf_printf(&text, " %s", user->groups[i]);
    return kp_arena_strdup(arena, text.data);
}

static bool may(const struct delegate_user *user, const struct delegate_attributes *attributes)
{
    bool allowed = false;
    assert_int_equal(delegate_authorize(delegate, user, attributes, &allowed, &error), 0);
    return allowed;
}

static void a_certificate_says_who_it_is_and_nobody_is_asked(void **state)
{
    const char *const organizations[] = {"system:nodes"};
    const struct http_peer_identity peer = {.common_name = "system:node:a", .organizations = organizations, .organization_count = 1};
    start(NULL, 0, false, 0);
    assert_string_equal(who(NULL, &peer), "system:node:a system:nodes system:authenticated");
    assert_string_equal(who("Bearer x", &peer), "system:node:a system:nodes system:authenticated");
    assert_int_equal(http_script_served(script), 0);
}

static void who_shows_nothing_is_anonymous_where_that_is_allowed(void **state)
{
    start(NULL, 0, true, 0);
    assert_string_equal(who(NULL, NULL), "system:anonymous system:unauthenticated");
    assert_string_equal(who("Basic YTpi", NULL), "system:anonymous system:unauthenticated");
    delegate_free(delegate);
    const struct delegate_config strict = {.tokens = client};
    delegate = delegate_new(&strict);
    assert_string_equal(who(NULL, NULL), kp_arena_printf(arena, "code %d", KP_EUNAUTHORIZED));
}

static void a_token_is_reviewed_once(void **state)
{
    static const struct http_reply replies[] = {{201, JSON, KNOWN, "abc.def"}};
    start(replies, 1, true, LONG_MS);
    for (int i = 0; i < 3; i++)
        assert_string_equal(who(i ? "bearer abc.def" : "Bearer abc.def", NULL),
                            "system:serviceaccount:monitoring:prometheus system:serviceaccounts system:authenticated");
    assert_int_equal(http_script_served(script), 1);
    assert_non_null(strstr(http_script_request(script, 0), "POST /apis/authentication.k8s.io/v1/tokenreviews"));
}

static void a_refused_token_is_nobody_and_asked_for_again(void **state)
{
    static const struct http_reply replies[] = {{201, JSON, UNKNOWN, "abc"}, {201, JSON, KNOWN, "abc"}};
    start(replies, 2, true, LONG_MS); /* not anonymous either: whoever shows a token is meant to be somebody */
    assert_string_equal(who("Bearer abc", NULL), kp_arena_printf(arena, "code %d", KP_EUNAUTHORIZED));
    assert_true(kp_starts_with(who("Bearer abc", NULL), "system:serviceaccount:"));
}

static void a_token_counts_for_its_time(void **state)
{
    static const struct http_reply replies[] = {{201, JSON, KNOWN, NULL}, {201, JSON, UNKNOWN, NULL}};
    start(replies, 2, true, 1);
    assert_true(kp_starts_with(who("Bearer abc", NULL), "system:serviceaccount:"));
    kp_sleep_ms(5);
    assert_string_equal(who("Bearer abc", NULL), kp_arena_printf(arena, "code %d", KP_EUNAUTHORIZED));
}

static void a_silent_api_server_is_not_a_refusal(void **state)
{
    static const struct http_reply replies[] = {{500, JSON, "{\"kind\":\"Status\",\"message\":\"down\",\"code\":500}", NULL},
                                                {500, JSON, "{\"kind\":\"Status\",\"message\":\"down\",\"code\":500}", NULL}};
    const struct delegate_user user = {.name = "eve"};
    bool allowed = true;
    start(replies, 2, true, 0);
    assert_string_equal(who("Bearer abc", NULL), kp_arena_printf(arena, "code %d", KP_EINTERNAL));
    assert_true(kp_starts_with(error.message, "TokenReview: "));
    assert_int_equal(delegate_authorize(delegate, &user, &(struct delegate_attributes){.verb = "get", .path = "/metrics"}, &allowed, &error), KP_EINTERNAL);
    assert_false(allowed);
}

static void what_is_allowed_is_asked_once_for_each(void **state)
{
    static const struct http_reply replies[] = {
        {201, JSON, ACCESS("true"), "/metrics"}, {201, JSON, ACCESS("false"), "/debug"}, {201, JSON, ACCESS("false"), "/metrics"}};
    const struct delegate_user prometheus = {.name = "p", .groups = {"g"}, .n_groups = 1}, eve = {.name = "p", .groups = {"h"}, .n_groups = 1};
    const struct delegate_attributes metrics = {.verb = "get", .path = "/metrics"}, debug = {.verb = "get", .path = "/debug"};
    start(replies, 3, true, LONG_MS);
    for (int i = 0; i < 2; i++) {
        assert_true(may(&prometheus, &metrics));
        assert_false(may(&prometheus, &debug));
        assert_false(may(&eve, &metrics));
    }
    assert_int_equal(http_script_served(script), 3);
    assert_non_null(strstr(http_script_request(script, 0), "POST /apis/authorization.k8s.io/v1/subjectaccessreviews"));
}

static void a_resource_is_asked_for_as_one(void **state)
{
    static const struct http_reply replies[] = {{201, JSON, ACCESS("true"), "node-1"}};
    const struct delegate_user user = {.name = "u"};
    start(replies, 1, true, LONG_MS);
    assert_true(may(&user, &(struct delegate_attributes){.verb = "get", .version = "v1", .resource = "nodes", .subresource = "metrics", .name = "node-1"}));
    assert_non_null(strstr(http_script_request(script, 0), "nodes"));
}

static void masters_may_without_anybody_being_asked(void **state)
{
    const struct delegate_user admin = {.name = "admin", .groups = {"system:masters"}, .n_groups = 1}, other = {.name = "other"};
    const struct delegate_attributes metrics = {.verb = "get", .path = "/metrics"};
    const struct delegate_config alone = {.anonymous = true};
    delegate = delegate_new(&alone);
    assert_true(may(&admin, &metrics));
    assert_false(may(&other, &metrics));
    assert_string_equal(who("Bearer abc", NULL), kp_arena_printf(arena, "code %d", KP_EUNAUTHORIZED));
}

static void verbs_are_those_of_the_api(void **state)
{
    assert_string_equal(delegate_verb("GET"), "get");
    assert_string_equal(delegate_verb("HEAD"), "get");
    assert_string_equal(delegate_verb("POST"), "create");
    assert_string_equal(delegate_verb("DELETE"), "delete");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_certificate_says_who_it_is_and_nobody_is_asked, setup, teardown),
        cmocka_unit_test_setup_teardown(who_shows_nothing_is_anonymous_where_that_is_allowed, setup, teardown),
        cmocka_unit_test_setup_teardown(a_token_is_reviewed_once, setup, teardown),
        cmocka_unit_test_setup_teardown(a_refused_token_is_nobody_and_asked_for_again, setup, teardown),
        cmocka_unit_test_setup_teardown(a_token_counts_for_its_time, setup, teardown),
        cmocka_unit_test_setup_teardown(a_silent_api_server_is_not_a_refusal, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_allowed_is_asked_once_for_each, setup, teardown),
        cmocka_unit_test_setup_teardown(a_resource_is_asked_for_as_one, setup, teardown),
        cmocka_unit_test_setup_teardown(masters_may_without_anybody_being_asked, setup, teardown),
        cmocka_unit_test(verbs_are_those_of_the_api),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
