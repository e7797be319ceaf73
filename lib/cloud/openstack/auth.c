/* Logging in to Keystone v3, the token that lasts for a while, and the catalogue of services that comes with it. */
#include "cloud/openstack/openstack_internal.h"

#define RENEW_BEFORE_S 120 /* a token is renewed this long before it ends */
#define REGIONS_MAX 16

static const struct {
    const char *type, *other; /* in catalogues; the latter is what some clouds call it */
    const char *version;      /* of the URL, which catalogues leave out for some */
    const char *name;         /* for people */
} services[OS_SERVICES] = {
    [OS_COMPUTE] = {"compute", "compute", "", "compute (Nova)"},
    [OS_NETWORK] = {"network", "network", "/v2.0", "network (Neutron)"},
    [OS_IMAGE] = {"image", "image", "/v2", "image (Glance)"},
    [OS_BALANCER] = {"load-balancer", "octavia", "/v2", "load-balancer (Octavia)"},
};

const char *os_service_name(enum os_service service)
{
    return services[service].name;
}

/* Whether a URL ends in a version, "/v2.0". */
static bool has_version(const char *url, size_t len)
{
    size_t begin = len;
    while (begin > 0 && url[begin - 1] != '/')
        begin--;
    return begin < len && url[begin] == 'v' && begin + 1 < len && url[begin + 1] >= '0' && url[begin + 1] <= '9';
}

static char *endpoint_url(const char *url, enum os_service service)
{
    size_t len = strlen(url);
    while (len && url[len - 1] == '/')
        len--;
    return kp_asprintf("%.*s%s", (int)len, url, has_version(url, len) ? "" : services[service].version);
}

static const char *region_of(const json_t *endpoint)
{
    const char *id = rest_json_text(endpoint, "region_id");
    return *id ? id : rest_json_text(endpoint, "region");
}

static bool is_of(const json_t *entry, enum os_service service)
{
    const char *type = rest_json_text(entry, "type");
    return kp_streq(type, services[service].type) || kp_streq(type, services[service].other);
}

/* The region that all compute endpoints of the interface have, or the wanted one. */
static int choose_region(const json_t *catalog, const struct os_account *account, char **ret, struct kp_error *error)
{
    struct kp_strings known = {0};
    for (size_t i = 0; i < json_array_size(catalog); i++) {
        const json_t *entry = json_array_get(catalog, i), *endpoints = rest_json_at(entry, "endpoints");
        for (size_t j = 0; is_of(entry, OS_COMPUTE) && j < json_array_size(endpoints) && known.len < REGIONS_MAX; j++)
            if (kp_streq(rest_json_text(json_array_get(endpoints, j), "interface"), account->interface))
                os_add_once(&known, region_of(json_array_get(endpoints, j)));
    }
    KP_AUTO_BUF struct kp_buf names = {0};
    bool found = !*account->region && known.len == 1;
    for (size_t i = 0; i < known.len; i++) {
        kp_buf_printf(&names, "%s%s", i ? ", " : "", known.items[i]);
        found |= kp_streq(known.items[i], account->region);
    }
    int r = 0;
    if (found)
        *ret = kp_strdup(*account->region ? account->region : known.items[0]);
    else if (!known.len)
        r = kp_fail(error, KP_EINVALID, "%s: Keystone's catalogue has no compute service with interface \"%s\": is \"interface\" right?", account->source, account->interface);
    else if (*account->region)
        r = kp_fail(error, KP_EINVALID, "%s: there is no region \"%s\": the cloud has %s", account->source, account->region, names.data);
    else
        r = kp_fail(error, KP_EINVALID, "%s: the cloud has several regions, %s: name one with openstack.region, region_name or OS_REGION_NAME", account->source, names.data);
    kp_strings_done(&known);
    return r;
}

int os_catalog_read(const json_t *token, const struct os_account *account, char *endpoints[OS_SERVICES], char **ret_region, struct kp_error *error)
{
    const json_t *catalog = rest_json_at(token, "token/catalog");
    char *region = NULL;
    int r = choose_region(catalog, account, &region, error);
    if (r < 0)
        return r;
    for (size_t i = 0; i < json_array_size(catalog); i++) {
        const json_t *entry = json_array_get(catalog, i), *list = rest_json_at(entry, "endpoints");
        for (size_t j = 0; j < json_array_size(list); j++) {
            const json_t *endpoint = json_array_get(list, j);
            const char *url = rest_json_text(endpoint, "url");
            for (enum os_service s = 0; s < OS_SERVICES; s++)
                if (is_of(entry, s) && !endpoints[s] && *url && kp_streq(region_of(endpoint), region) &&
                    kp_streq(rest_json_text(endpoint, "interface"), account->interface))
                    endpoints[s] = endpoint_url(url, s);
        }
    }
    for (enum os_service s = 0; r == 0 && s < OS_SERVICES; s++)
        if (!endpoints[s] && s != OS_BALANCER)
            r = kp_fail(error, KP_EINVALID, "%s: the catalogue has no %s service in region %s with interface \"%s\"", account->source, services[s].name, region, account->interface);
    if (r < 0)
        free(region);
    else
        *ret_region = region;
    return r;
}

static json_t *domain(const char *id, const char *name)
{
    return *id ? json_pack("{s:s}", "id", id) : json_pack("{s:s}", "name", name);
}

static json_t *identity(const struct os_account *a)
{
    json_t *user = *a->user_id ? json_pack("{s:s}", "id", a->user_id)
                               : json_pack("{s:s, s:o}", "name", a->username, "domain", domain(a->user_domain_id, *a->user_domain_name ? a->user_domain_name : "Default"));
    if (*a->application_credential_id) {
        json_decref(user);
        return json_pack("{s:{s:{s:[s], s:{s:s, s:s}}}}", "auth", "identity", "methods", "application_credential", "application_credential", "id",
                         a->application_credential_id, "secret", a->application_credential_secret);
    }
    if (*a->application_credential_name)
        return json_pack("{s:{s:{s:[s], s:{s:s, s:s, s:o}}}}", "auth", "identity", "methods", "application_credential", "application_credential", "name",
                         a->application_credential_name, "secret", a->application_credential_secret, "user", user);
    json_object_set_new(user, "password", json_string(a->password));
    json_t *project = *a->project_id ? json_pack("{s:s}", "id", a->project_id)
                                     : json_pack("{s:s, s:o}", "name", a->project_name, "domain", domain(a->project_domain_id, a->project_domain_name));
    return json_pack("{s:{s:{s:[s], s:{s:o}}, s:{s:o}}}", "auth", "identity", "methods", "password", "password", "user", user, "scope", "project", project);
}

static int fail_login(const struct os_account *account, const struct rest_request *request, const struct rest_answer *answer, struct kp_arena *arena,
                      struct kp_error *error)
{
    int r = rest_fail(request, answer, os_detail(answer->body, answer->body_len, arena), error);
    const char *what = *account->application_credential_id || *account->application_credential_name ? "application credential" : "user, password, domain or project";
    if (r == KP_EUNAUTHORIZED)
        return kp_wrap(error, "Keystone at %s does not know the %s of %s", account->auth_url, what, account->source);
    if (r == KP_ENOTFOUND)
        return kp_wrap(error, "there is no Keystone v3 at %s (auth_url of %s)", account->auth_url, account->source);
    return kp_wrap(error, "Keystone at %s", account->auth_url);
}

static int log_in(struct os *os, struct kp_arena *arena, struct kp_error *error)
{
    size_t len = strlen(os->account.auth_url);
    while (len && os->account.auth_url[len - 1] == '/')
        len--;
    KP_AUTO_BUF struct kp_buf body = {0};
    KP_AUTO(json_decref) json_t *token = NULL;
    static const char *const headers[] = {"Content-Type: application/json", "Accept: application/json", NULL};
    rest_json_write(&body, identity(&os->account));
    const struct rest_request request = {
        .operation = "tokens.create", .method = "POST", .headers = headers, .body = body.data, .body_len = body.len, .repeatable = true,
        .url = kp_arena_printf(arena, "%.*s%s/auth/tokens", (int)len, os->account.auth_url, has_version(os->account.auth_url, len) ? "" : "/v3"),
    };
    struct rest_answer answer;
    int r = rest_do(os->rest, &request, arena, &answer, error);
    memset(body.data, 0, body.len);
    if (r < 0)
        return kp_wrap(error, "log in with %s", os->account.source);
    const char *text = rest_header(&answer, "X-Subject-Token");
    if (answer.status >= 300)
        return fail_login(&os->account, &request, &answer, arena, error);
    if (!text)
        return kp_fail(error, KP_ECORRUPT, "Keystone at %s answered without X-Subject-Token: is that Keystone?", os->account.auth_url);
    int32_t nanos;
    int64_t until;
    if (rest_json_parse(answer.body, answer.body_len, &token, error) < 0)
        return kp_wrap(error, "Keystone at %s", os->account.auth_url);
    if (kp_parse_rfc3339(rest_json_text(token, "token/expires_at"), &until, &nanos) < 0)
        return kp_fail(error, KP_ECORRUPT, "Keystone at %s gave a token whose end cannot be read", os->account.auth_url);
    if (!os->region) {
        r = os_catalog_read(token, &os->account, os->endpoints, &os->region, error);
        if (r < 0) {
            for (enum os_service s = 0; s < OS_SERVICES; s++) {
                free(os->endpoints[s]);
                os->endpoints[s] = NULL;
            }
            return r;
        }
        os->project_id = kp_strdup(rest_json_text(token, "token/project/id"));
    }
    free(os->token);
    os->token = kp_strdup(text);
    os->token_until_s = until;
    return 0;
}

int os_token(struct os *os, const char *refused, struct kp_arena *arena, const char **ret_token, struct kp_error *error)
{
    int r = 0;
    pthread_mutex_lock(&os->login);
    if (!os->token || kp_streq(os->token, refused) || kp_now_s() + RENEW_BEFORE_S >= os->token_until_s)
        r = log_in(os, arena, error);
    if (r == 0)
        *ret_token = kp_arena_strdup(arena, os->token);
    pthread_mutex_unlock(&os->login);
    return r;
}
