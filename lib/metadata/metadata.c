/* User data by HTTP, in the manner of OpenStack (nova's metadata), EC2 (IMDSv2: a token first) and Hetzner, in that order. */
#include "lib/metadata/metadata.h"

#include "lib/http/http.h"

#define TOKEN_LIFETIME_S "300"

struct asking {
    struct http_client *client;
    struct kp_arena *arena;
    int64_t deadline_ms;
};

static int ask(struct asking *asking, const char *method, const char *path, const struct http_header *header, struct http_response *ret,
               struct kp_error *error)
{
    const struct http_client_request request = {
        .method = method, .path = path, .headers = header, .header_count = header ? 1 : 0,
        .timeout_ms = KP_MAX(asking->deadline_ms - kp_mono_ms(), (int64_t)1),
    };
    return http_client_do(asking->client, &request, asking->arena, ret, error);
}

/* 1: these are the user data; 0: the service has none in this manner. */
static int take(const struct http_response *response, const char *path, struct kp_buf *out, struct kp_error *error)
{
    if (response->status == 429 || response->status >= 500)
        return kp_fail(error, KP_EAGAIN, "%s is answered with %d", path, response->status);
    if (response->status != 200 || response->body.len == 0)
        return 0;
    kp_buf_append(out, response->body.data, response->body.len);
    return 1;
}

static int ask_plainly(struct asking *asking, const char *path, struct kp_buf *out, struct kp_error *error)
{
    struct http_response response;
    int r = ask(asking, "GET", path, NULL, &response, error);
    return r < 0 ? r : take(&response, path, out, error);
}

static int ask_openstack(struct asking *asking, struct kp_buf *out, struct kp_error *error)
{
    return ask_plainly(asking, "/openstack/latest/user_data", out, error);
}

/* Without the token a service that wants one answers 401; one that knows of no tokens answers 404 or 405 and gives the data all the same. */
static int ask_ec2(struct asking *asking, struct kp_buf *out, struct kp_error *error)
{
    static const struct http_header lifetime = {"X-aws-ec2-metadata-token-ttl-seconds", TOKEN_LIFETIME_S};
    struct http_response response;
    int r = ask(asking, "PUT", "/latest/api/token", &lifetime, &response, error);
    if (r < 0)
        return r;
    const bool has_token = response.status == 200 && response.body.len && !memchr(response.body.data, '\n', response.body.len);
    const struct http_header token = {
        "X-aws-ec2-metadata-token", has_token ? kp_arena_strndup(asking->arena, (const char *)response.body.data, response.body.len) : ""};
    r = ask(asking, "GET", "/latest/user-data", has_token ? &token : NULL, &response, error);
    return r < 0 ? r : take(&response, "/latest/user-data", out, error);
}

static int ask_hetzner(struct asking *asking, struct kp_buf *out, struct kp_error *error)
{
    return ask_plainly(asking, "/hetzner/v1/userdata", out, error);
}

static int ask_all(struct asking *asking, struct kp_buf *out, const char **ret_manner, struct kp_error *error)
{
    static const struct {
        const char *name;
        int (*ask)(struct asking *asking, struct kp_buf *out, struct kp_error *error);
    } manners[] = {{"openstack", ask_openstack}, {"ec2", ask_ec2}, {"hetzner", ask_hetzner}};
    struct kp_error first = {0};
    for (size_t i = 0; i < KP_ARRAY_LEN(manners); i++) {
        struct kp_error failure = {0};
        int r = manners[i].ask(asking, out, &failure);
        if (r > 0) {
            *ret_manner = manners[i].name;
            return 0;
        }
        if (r < 0 && !first.code)
            first = failure;
        if (r < 0 && r != KP_EAGAIN) /* nobody is there: the others ask the same one */
            break;
    }
    if (!first.code)
        return kp_fail(error, KP_ENOTFOUND, "the metadata service has no user data for this machine");
    return kp_fail(error, first.code, "the metadata service: %s", first.message);
}

int metadata_user_data(const char *base, int64_t timeout_ms, struct kp_buf *out, const char **ret_manner, struct kp_error *error)
{
    const char *const endpoint = base ? base : METADATA_BASE;
    const struct http_client_config config = {
        .endpoints = &endpoint, .endpoint_count = 1, .protocol = HTTP_CLIENT_H1, .connections_max = 1, .body_bytes_max = METADATA_USER_DATA_MAX,
        .connect_timeout_ms = KP_MIN(timeout_ms, (int64_t)5000),
    };
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    KP_AUTO(loop_free) struct loop *loop = loop_new();
    struct asking asking = {.arena = arena, .deadline_ms = kp_mono_ms() + timeout_ms};
    int r = loop_start(loop, "metadata", error);
    if (r < 0)
        return r;
    r = http_client_new(loop, &config, &asking.client, error);
    if (r == 0)
        r = ask_all(&asking, out, ret_manner, error);
    http_client_free(asking.client);
    return r;
}
