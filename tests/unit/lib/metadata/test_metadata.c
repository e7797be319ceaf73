/* User data from metadata services as clouds have them, on loopback. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "lib/http/http.h"
#include "lib/metadata/metadata.h"

/* What one cloud answers; the first row whose method and path fit, else 404. */
struct row {
    const char *method, *path;
    const char *token; /* that must be sent, or 401; NULL: none is asked for */
    int status;
    const char *body;
};
struct cloud {
    const struct row *rows;
    struct loop *loop;
    struct pool *pool;
    struct http_server *server;
    char base[64];
};

static void answer(struct http_request *request, void *arg)
{
    const struct cloud *cloud = arg;
    for (const struct row *row = cloud->rows; row->method; row++) {
        if (!kp_streq(row->method, request->method) || !kp_streq(row->path, request->path))
            continue;
        const char *token = http_request_header(request, "X-aws-ec2-metadata-token");
        const char *lifetime = http_request_header(request, "X-aws-ec2-metadata-token-ttl-seconds");
        bool denied = (row->token && !kp_streq(token, row->token)) || (kp_streq(row->method, "PUT") && !lifetime);
        http_respond(request, denied ? 401 : row->status, NULL, 0, denied ? "" : row->body, denied ? 0 : strlen(row->body));
        return;
    }
    http_respond(request, 404, NULL, 0, "<html>not here</html>", 21);
}

static void start(struct cloud *cloud, const struct row *rows)
{
    struct kp_error error = {0};
    *cloud = (struct cloud){.rows = rows, .loop = loop_new()};
    cloud->pool = pool_new("test", 1, 16);
    assert_int_equal(loop_start(cloud->loop, "test", &error), 0);
    const struct http_server_config config = {.host = "127.0.0.1", .pool = cloud->pool, .handler = answer, .arg = cloud};
    assert_int_equal(http_server_new(cloud->loop, &config, &cloud->server, &error), 0);
    snprintf(cloud->base, sizeof(cloud->base), "http://127.0.0.1:%u", http_server_port(cloud->server));
}

static void stop(struct cloud *cloud)
{
    http_server_free(cloud->server);
    pool_free(cloud->pool);
    loop_free(cloud->loop);
}

static const struct row openstack[] = {{"GET", "/openstack/latest/user_data", NULL, 200, "stack"}, {"GET", "/latest/user-data", NULL, 200, "copy"}, {0}};
static const struct row ec2[] = {{"PUT", "/latest/api/token", NULL, 200, "T0K=="}, {"GET", "/latest/user-data", "T0K==", 200, "aws"}, {0}};
static const struct row ec2_old[] = {{"PUT", "/latest/api/token", NULL, 405, ""}, {"GET", "/latest/user-data", NULL, 200, "old"}, {0}};
static const struct row hetzner[] = {{"GET", "/hetzner/v1/userdata", NULL, 200, "hz"}, {0}};

static void each_cloud_is_asked_in_its_manner(void **state)
{
    static const struct {
        const struct row *rows;
        const char *data, *manner;
    } clouds[] = {{openstack, "stack", "openstack"}, {ec2, "aws", "ec2"}, {ec2_old, "old", "ec2"}, {hetzner, "hz", "hetzner"}};
    for (size_t i = 0; i < KP_ARRAY_LEN(clouds); i++) {
        KP_AUTO_BUF struct kp_buf out = {0};
        const char *manner = NULL;
        struct kp_error error = {0};
        struct cloud cloud;
        start(&cloud, clouds[i].rows);
        if (metadata_user_data(cloud.base, 20000, &out, &manner, &error) < 0)
            fail_msg("%s: %s", clouds[i].manner, error.message);
        assert_string_equal(out.data, clouds[i].data);
        assert_string_equal(manner, clouds[i].manner);
        stop(&cloud);
    }
}

static void no_data_and_no_answer_are_told_apart(void **state)
{
    static const struct row none[] = {{"GET", "/openstack/latest/user_data", NULL, 200, ""}, {0}};
    static const struct row ill[] = {{"GET", "/openstack/latest/user_data", NULL, 503, "later"}, {0}};
    static const struct row half[] = {{"GET", "/openstack/latest/user_data", NULL, 500, ""}, {"GET", "/hetzner/v1/userdata", NULL, 200, "hz"}, {0}};
    static const struct {
        const struct row *rows;
        int code;
    } clouds[] = {{none, KP_ENOTFOUND}, {ill, KP_EAGAIN}, {half, 0}};
    KP_AUTO_BUF struct kp_buf out = {0};
    const char *manner = NULL;
    struct kp_error error = {0};
    struct cloud cloud;
    for (size_t i = 0; i < KP_ARRAY_LEN(clouds); i++) {
        start(&cloud, clouds[i].rows);
        assert_int_equal(metadata_user_data(cloud.base, 20000, &out, &manner, &error), clouds[i].code);
        stop(&cloud);
    }
    kp_buf_done(&out);
    assert_int_equal(metadata_user_data(cloud.base, 20000, &out, &manner, &error), KP_EUNAVAILABLE); /* its server is gone */
    assert_int_equal(out.len, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(each_cloud_is_asked_in_its_manner), cmocka_unit_test(no_data_and_no_answer_are_told_apart)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
