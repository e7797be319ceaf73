/* Requests to clouds: when they are made again, what an answer means, what is read from JSON. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <unistd.h>

#include "cloud/rest/json.h"
#include "cloud/rest/rest.h"
#include "cloud/rest/rest_internal.h"
#include "tests/support/http_script.h"

static struct rest_attempt attempt_of(enum rest_outcome outcome, int status, int number, uint64_t random)
{
    return (struct rest_attempt){.outcome = outcome, .status = status, .number = number, .left_ms = 60000, .random = random};
}

static void test_waits(void **state)
{
    struct rest_attempt a = attempt_of(REST_ANSWERED, 429, 1, 200);
    assert_int_equal(rest_wait(&a, false, 8), 200); /* 0 to 200 ms, both included */
    a.random = 201;
    assert_int_equal(rest_wait(&a, false, 8), 0);
    a = attempt_of(REST_ANSWERED, 503, 4, 1600);
    assert_int_equal(rest_wait(&a, false, 8), 1600);
    a = attempt_of(REST_ANSWERED, 503, 40, 10000);
    assert_int_equal(rest_wait(&a, false, 100), 10000); /* not above ten seconds, whatever the number */
    a.random = 10001;
    assert_int_equal(rest_wait(&a, false, 100), 0);
    a = attempt_of(REST_ANSWERED, 429, 1, 5);
    a.retry_after_ms = 7000;
    assert_int_equal(rest_wait(&a, false, 8), 7000);
    a.left_ms = 7000; /* would be over before it is made */
    assert_int_equal(rest_wait(&a, false, 8), -1);
    a = attempt_of(REST_ANSWERED, 429, 8, 5);
    assert_int_equal(rest_wait(&a, true, 8), -1);
}

static void test_what_is_made_again(void **state)
{
    static const struct {
        enum rest_outcome outcome;
        int status;
        bool any, repeatable; /* whether it is made again: whatever it is, and when it may be repeated */
    } cases[] = {
        {REST_NOT_SENT, 0, true, true}, {REST_LOST, 0, false, true}, {REST_HOPELESS, 0, false, false},
        {REST_ANSWERED, 200, false, false}, {REST_ANSWERED, 404, false, false}, {REST_ANSWERED, 409, false, false},
        {REST_ANSWERED, 429, true, true}, {REST_ANSWERED, 503, true, true}, {REST_ANSWERED, 500, false, true},
        {REST_ANSWERED, 502, false, true}, {REST_ANSWERED, 504, false, true}, {REST_ANSWERED, 408, false, true}, {REST_ANSWERED, 501, false, false},
    };
    for (size_t i = 0; i < KP_ARRAY_LEN(cases); i++) {
        struct rest_attempt a = attempt_of(cases[i].outcome, cases[i].status, 1, 0);
        assert_int_equal(rest_wait(&a, false, 8) >= 0, cases[i].any);
        assert_int_equal(rest_wait(&a, true, 8) >= 0, cases[i].repeatable);
    }
}

struct fixture {
    struct rest *rest;
    struct kp_arena *arena;
    struct http_script *script;
};

static void begin(struct fixture *f, const struct http_reply *replies, size_t len)
{
    const struct rest_options options = {.cloud = "test", .deadline_ms = 20000, .attempts_max = 4};
    struct kp_error error = {0};
    f->arena = kp_arena_new(0);
    f->script = http_script_start(replies, len);
    assert_int_equal(rest_new(&options, &f->rest, &error), 0);
}

static void end(struct fixture *f)
{
    assert_int_equal(http_script_end(f->script), 0);
    rest_free(f->rest);
    kp_arena_free(f->arena);
}

static int ask(struct fixture *f, const char *method, const char *body, struct rest_answer *ret, struct kp_error *error)
{
    static const char *const headers[] = {"X-Auth-Token: secret-token", "Content-Type: application/json", NULL};
    const struct rest_request request = {
        .operation = "things.make", .method = method, .url = kp_arena_printf(f->arena, "%s/v1/things?password=hidden", http_script_url(f->script)),
        .headers = headers, .body = body, .body_len = body ? strlen(body) : 0,
    };
    return rest_do(f->rest, &request, f->arena, ret, error);
}

static void test_answer(void **state)
{
    static const struct http_reply replies[] = {
        {201, "X-Subject-Token: abc\r\nX-Empty:\r\n", "{\"id\": 7}", "POST /v1/things?password=hidden HTTP/1.1\r\n"},
        {404, NULL, NULL, "X-Auth-Token: secret-token\r\n"},
        {204, NULL, NULL, "Content-Length: 0\r\n"},
    };
    struct fixture f;
    struct rest_answer answer;
    struct kp_error error = {0};
    begin(&f, replies, KP_ARRAY_LEN(replies));
    assert_int_equal(ask(&f, "POST", "{\"name\":\"a\"}", &answer, &error), 0);
    assert_int_equal(answer.status, 201);
    assert_string_equal(answer.body, "{\"id\": 7}");
    assert_int_equal(answer.body_len, 9);
    assert_string_equal(rest_header(&answer, "x-subject-token"), "abc");
    assert_string_equal(rest_header(&answer, "X-Empty"), "");
    assert_null(rest_header(&answer, "x-subject"));
    assert_int_equal(answer.attempts, 1);
    assert_non_null(strstr(http_script_request(f.script, 0), "\r\n\r\n{\"name\":\"a\"}"));
    assert_int_equal(ask(&f, "GET", NULL, &answer, &error), 0);
    assert_int_equal(answer.status, 404);
    assert_string_equal(answer.body, "");
    assert_int_equal(ask(&f, "POST", NULL, &answer, &error), 0);
    assert_int_equal(answer.status, 204);
    end(&f);
}

static void test_busy_cloud(void **state)
{
    static const struct http_reply replies[] = {{429, NULL, "slow down", NULL}, {503, NULL, NULL, NULL}, {200, NULL, "ok", "POST"}};
    struct fixture f;
    struct rest_answer answer;
    struct kp_error error = {0};
    begin(&f, replies, KP_ARRAY_LEN(replies));
    assert_int_equal(ask(&f, "POST", "x", &answer, &error), 0);
    assert_int_equal(answer.status, 200);
    assert_int_equal(answer.attempts, 3);
    end(&f);
}

static void test_lost_answer(void **state)
{
    /* A POST whose answer is lost may have been carried out: it is the caller's to find out. */
    static const struct http_reply replies[] = {{200, NULL, NULL, "GET"}, {0, NULL, NULL, "POST"}, {0, NULL, NULL, "GET"}, {-1, NULL, NULL, "GET"}, {200, NULL, "ok", "GET"}};
    struct fixture f;
    struct rest_answer answer;
    struct kp_error error = {0};
    begin(&f, replies, KP_ARRAY_LEN(replies));
    assert_int_equal(ask(&f, "GET", NULL, &answer, &error), 0); /* leaves a connection */
    assert_int_equal(ask(&f, "POST", "x", &answer, &error), KP_EUNAVAILABLE);
    assert_int_equal(http_script_served(f.script), 2);
    assert_non_null(strstr(error.message, "things.make: cloud test at http://127.0.0.1:"));
    assert_null(strstr(error.message, "hidden"));
    assert_null(strstr(error.message, "secret-token"));
    assert_int_equal(ask(&f, "GET", NULL, &answer, &error), 0);
    assert_int_equal(http_script_served(f.script), 5);
    assert_string_equal(answer.body, "ok");
    end(&f);
}

static void test_gives_up(void **state)
{
    static const struct http_reply replies[] = {{500, NULL, "1", NULL}, {500, NULL, "2", NULL}, {502, NULL, "3", NULL}, {504, NULL, "last", NULL},
                                                {429, "Retry-After: 3600\r\n", "patience", NULL}};
    struct fixture f;
    struct rest_answer answer;
    struct kp_error error = {0};
    begin(&f, replies, KP_ARRAY_LEN(replies));
    assert_int_equal(ask(&f, "DELETE", NULL, &answer, &error), 0);
    assert_int_equal(answer.status, 504);
    assert_int_equal(answer.attempts, 4);
    assert_string_equal(answer.body, "last");
    /* A wait beyond the deadline is not begun. */
    const struct rest_request request = {.operation = "things.make"};
    assert_int_equal(ask(&f, "GET", NULL, &answer, &error), 0);
    assert_int_equal(answer.attempts, 1);
    assert_int_equal(rest_fail(&request, &answer, answer.body, &error), KP_ETOOMANY);
    assert_int_equal(error.retry_after_ms, 3600000);
    assert_string_equal(error.message, "things.make: 429: patience");
    end(&f);
}

static void test_upload(void **state)
{
    static const struct http_reply replies[] = {{503, NULL, NULL, NULL}, {204, NULL, NULL, "\r\n\r\nfile's bytes"}};
    char path[] = "/tmp/test-rest-XXXXXX";
    struct fixture f;
    struct rest_answer answer;
    struct kp_error error = {0};
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    unlink(path);
    assert_int_equal(write(fd, "file's bytes", 12), 12);
    begin(&f, replies, KP_ARRAY_LEN(replies));
    const struct rest_request request = {.operation = "images.upload", .method = "PUT", .url = http_script_url(f.script), .upload_fd = fd, .upload_len = 12};
    assert_int_equal(rest_do(f.rest, &request, f.arena, &answer, &error), 0);
    assert_int_equal(answer.status, 204);
    assert_int_equal(answer.attempts, 2); /* from its start again */
    close(fd);
    end(&f);
}

static void test_bad_requests(void **state)
{
    static const char *const split[] = {"X-Name: a\r\nX-Other: b", NULL};
    struct fixture f;
    struct rest_answer answer;
    struct kp_error error = {0};
    begin(&f, NULL, 0);
    struct rest_request request = {.operation = "things.get", .method = "GET", .url = http_script_url(f.script), .headers = split};
    assert_int_equal(rest_do(f.rest, &request, f.arena, &answer, &error), KP_EINVALID);
    request.headers = NULL;
    request.url = "file:///etc/passwd";
    assert_int_equal(rest_do(f.rest, &request, f.arena, &answer, &error), KP_EINVALID);
    request.url = "http://127.0.0.1:1/";
    request.deadline_ms = 50;
    assert_int_equal(rest_do(f.rest, &request, f.arena, &answer, &error), KP_EUNAVAILABLE);
    assert_int_equal(http_script_served(f.script), 0);
    end(&f);
    const struct rest_options bad = {.cloud = "test", .ca_file = "/nonexistent/ca.pem"};
    struct rest *rest = NULL;
    assert_int_equal(rest_new(&bad, &rest, &error), KP_ENOTFOUND);
}

static void test_codes(void **state)
{
    static const int cases[][2] = {
        {400, KP_EINVALID}, {401, KP_EUNAUTHORIZED}, {403, KP_EFORBIDDEN}, {404, KP_ENOTFOUND}, {408, KP_ETIMEOUT}, {409, KP_ECONFLICT}, {410, KP_ENOTFOUND},
        {412, KP_ECONFLICT}, {413, KP_ETOOLARGE}, {422, KP_EINVALID}, {429, KP_ETOOMANY}, {500, KP_EUNAVAILABLE}, {503, KP_EUNAVAILABLE}, {302, KP_EINTERNAL},
    };
    for (size_t i = 0; i < KP_ARRAY_LEN(cases); i++)
        assert_int_equal(rest_code(cases[i][0]), cases[i][1]);
}

static void test_escape(void **state)
{
    KP_AUTO_BUF struct kp_buf out = {0};
    rest_escape(&out, "a-Z_0.~ /?&=+\xc3\xa4");
    assert_string_equal(out.data, "a-Z_0.~%20%2F%3F%26%3D%2B%C3%A4");
}

static void test_json(void **state)
{
    static const char text[] = "{\"server\":{\"id\":\"s1\",\"ports\":[{\"ip\":\"10.0.0.1\"},{\"ip\":\"10.0.0.2\"}],\"on\":true,\"n\":42,\"tags\":[\"a\",\"b\"]}}";
    struct kp_error error = {0};
    json_t *value = NULL;
    assert_int_equal(rest_json_parse(text, strlen(text), &value, &error), 0);
    assert_string_equal(rest_json_text(value, "server/id"), "s1");
    assert_string_equal(rest_json_text(value, "server/ports/1/ip"), "10.0.0.2");
    assert_string_equal(rest_json_text(value, "server/ports/2/ip"), "");
    assert_string_equal(rest_json_text(value, "server/ports/x/ip"), "");
    assert_string_equal(rest_json_text(value, "server/n"), ""); /* of another type */
    assert_int_equal(rest_json_int(value, "server/n"), 42);
    assert_int_equal(rest_json_int(value, "server/id"), 0);
    assert_true(rest_json_bool(value, "server/on"));
    assert_false(rest_json_bool(value, "server/off"));
    assert_true(rest_json_has(value, "server/tags", "b"));
    assert_false(rest_json_has(value, "server/tags", "c"));
    assert_int_equal(json_array_size(rest_json_at(value, "server/ports")), 2);
    KP_AUTO_BUF struct kp_buf out = {0};
    rest_json_write(&out, value);
    assert_string_equal(out.data, text);
    assert_int_equal(rest_json_parse("{\"a\": ", 6, &value, &error), KP_ECORRUPT);
    assert_int_equal(rest_json_parse("{\"a\":1,\"a\":2}", 13, &value, &error), KP_ECORRUPT);
    assert_int_equal(rest_json_parse(NULL, 0, &value, &error), KP_ECORRUPT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_waits), cmocka_unit_test(test_what_is_made_again), cmocka_unit_test(test_answer), cmocka_unit_test(test_busy_cloud),
        cmocka_unit_test(test_lost_answer), cmocka_unit_test(test_gives_up), cmocka_unit_test(test_upload), cmocka_unit_test(test_bad_requests),
        cmocka_unit_test(test_codes), cmocka_unit_test(test_escape), cmocka_unit_test(test_json),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
