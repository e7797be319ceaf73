/* Who logs in, and where: clouds.yaml with secure.yaml beside it, as OpenStack's own tools read them, or OS_* of the environment. */
#include <errno.h>
#include <pwd.h>
#include <unistd.h>

#include "cloud/openstack/openstack_internal.h"
#include "codec/codec.h"

#define FILE_MAX ((size_t)1 << 20)

/* One row a field: where it is in clouds.yaml (below auth, or of the cloud itself) and its variable. */
static const struct field {
    const char *key;
    bool in_auth;
    const char *variable;
    size_t offset;
} fields[] = {
    {"auth_type", false, "OS_AUTH_TYPE", offsetof(struct os_account, auth_type)},
    {"auth_url", true, "OS_AUTH_URL", offsetof(struct os_account, auth_url)},
    {"username", true, "OS_USERNAME", offsetof(struct os_account, username)},
    {"user_id", true, "OS_USER_ID", offsetof(struct os_account, user_id)},
    {"password", true, "OS_PASSWORD", offsetof(struct os_account, password)},
    {"user_domain_name", true, "OS_USER_DOMAIN_NAME", offsetof(struct os_account, user_domain_name)},
    {"user_domain_id", true, "OS_USER_DOMAIN_ID", offsetof(struct os_account, user_domain_id)},
    {"project_name", true, "OS_PROJECT_NAME", offsetof(struct os_account, project_name)},
    {"project_id", true, "OS_PROJECT_ID", offsetof(struct os_account, project_id)},
    {"project_domain_name", true, "OS_PROJECT_DOMAIN_NAME", offsetof(struct os_account, project_domain_name)},
    {"project_domain_id", true, "OS_PROJECT_DOMAIN_ID", offsetof(struct os_account, project_domain_id)},
    {"application_credential_id", true, "OS_APPLICATION_CREDENTIAL_ID", offsetof(struct os_account, application_credential_id)},
    {"application_credential_name", true, "OS_APPLICATION_CREDENTIAL_NAME", offsetof(struct os_account, application_credential_name)},
    {"application_credential_secret", true, "OS_APPLICATION_CREDENTIAL_SECRET", offsetof(struct os_account, application_credential_secret)},
    {"region_name", false, "OS_REGION_NAME", offsetof(struct os_account, region)},
    {"interface", false, "OS_INTERFACE", offsetof(struct os_account, interface)},
    {"cacert", false, "OS_CACERT", offsetof(struct os_account, cacert)},
};

static const char **at(struct os_account *account, const struct field *field)
{
    return (const char **)(void *)((char *)account + field->offset);
}

static void clear(struct os_account *account)
{
    *account = (struct os_account){0};
    for (size_t i = 0; i < KP_ARRAY_LEN(fields); i++)
        *at(account, &fields[i]) = "";
}

/* A number is a text too: passwords and ids made of digits are seldom quoted. */
static const char *scalar(const struct kp_value *value, struct kp_arena *arena)
{
    if (value && value->kind == KP_VALUE_INT)
        return kp_arena_printf(arena, "%lld", (long long)value->integer);
    const char *text = kp_value_str(value);
    return text ? kp_arena_strdup(arena, text) : NULL;
}

static void take_cloud(const struct kp_value *cloud, struct kp_arena *arena, struct os_account *account)
{
    const struct kp_value *auth = kp_value_get(cloud, "auth");
    for (size_t i = 0; i < KP_ARRAY_LEN(fields); i++) {
        const char *text = scalar(kp_value_get(fields[i].in_auth ? auth : cloud, fields[i].key), arena);
        if (!text && fields[i].in_auth) /* some write them beside auth */
            text = scalar(kp_value_get(cloud, fields[i].key), arena);
        if (text)
            *at(account, &fields[i]) = text;
    }
    const char *interface = scalar(kp_value_get(cloud, "endpoint_type"), arena);
    if (interface && !*account->interface)
        account->interface = interface;
    const struct kp_value *regions = kp_value_get(cloud, "regions"), *verify = kp_value_get(cloud, "verify");
    const struct kp_value *first = kp_value_at(regions, 0);
    if (!*account->region && first)
        account->region = scalar(first->kind == KP_VALUE_OBJECT ? kp_value_get(first, "name") : first, arena);
    account->region = account->region ? account->region : "";
    if (verify && verify->kind == KP_VALUE_BOOL)
        account->insecure = !verify->boolean;
}

static int parse_clouds(const char *path, const char *text, size_t len, struct kp_arena *arena, const struct kp_value **ret, struct kp_error *error)
{
    struct kp_value **documents = NULL;
    size_t n = 0;
    if (kp_yaml_parse(text, len, arena, &documents, &n, error) < 0)
        return kp_wrap(error, "%s", path);
    *ret = n ? kp_value_get(documents[0], "clouds") : NULL;
    return *ret && (*ret)->kind == KP_VALUE_OBJECT && (*ret)->object.len ? 0 : kp_fail(error, KP_EINVALID, "%s: has no \"clouds\" with a cloud in it", path);
}

static int fail_unknown(const char *path, const struct kp_value *clouds, const char *name, struct kp_error *error)
{
    KP_AUTO_BUF struct kp_buf known = {0};
    for (size_t i = 0; i < clouds->object.len && i < 32; i++)
        kp_buf_printf(&known, "%s%s", i ? ", " : "", clouds->object.members[i].key);
    if (!*name)
        return kp_fail(error, KP_EINVALID, "%s has several clouds: name one with openstack.cloud in the cluster's file, or with OS_CLOUD; it has %s", path, known.data);
    return kp_fail(error, KP_EINVALID, "%s has no cloud \"%s\": it has %s", path, name, known.data);
}

int os_account_parse(const char *path, const char *text, size_t len, const char *secure_text, size_t secure_len, const char *name,
                     struct kp_arena *arena, struct os_account *ret, struct kp_error *error)
{
    const struct kp_value *clouds = NULL, *secrets = NULL;
    clear(ret);
    int r = parse_clouds(path, text, len, arena, &clouds, error);
    if (r < 0)
        return r;
    if (!*name && clouds->object.len == 1)
        name = clouds->object.members[0].key;
    const struct kp_value *cloud = *name ? kp_value_get(clouds, name) : NULL;
    if (!cloud)
        return fail_unknown(path, clouds, name, error);
    if (secure_text && parse_clouds("secure.yaml", secure_text, secure_len, arena, &secrets, error) < 0)
        return kp_wrap(error, "beside %s", path);
    take_cloud(cloud, arena, ret);
    take_cloud(kp_value_get(secrets, name), arena, ret);
    ret->source = kp_arena_printf(arena, "cloud \"%s\" of %s", name, path);
    if (kp_value_get(cloud, "profile") && !*ret->auth_url)
        return kp_fail(error, KP_EINVALID, "%s has a profile and no auth.auth_url: kprov knows no vendors' profiles, write the URL of Keystone there", ret->source);
    return 0;
}

static const char *home(void)
{
    const char *dir = getenv("HOME");
    const struct passwd *user = kp_empty(dir) ? getpwuid(getuid()) : NULL;
    return !kp_empty(dir) ? dir : user ? user->pw_dir : "";
}

/* One beside the file that names it, wherever kprov is run from: what is exported goes about so. */
static const char *find_cacert(const char *cacert, const char *path, struct kp_arena *arena)
{
    const char *slash = strrchr(path, '/');
    if (kp_starts_with(cacert, "~/"))
        return kp_arena_printf(arena, "%s%s", home(), cacert + 1);
    return *cacert && *cacert != '/' && slash ? kp_arena_printf(arena, "%.*s/%s", (int)(slash - path), path, cacert) : cacert;
}

static int read_file(const char *path, struct kp_arena *arena, const char *name, struct os_account *ret, struct kp_error *error)
{
    KP_AUTO_BUF struct kp_buf text = {0}, secure = {0};
    const char *slash = strrchr(path, '/');
    const char *beside = slash ? kp_arena_printf(arena, "%.*s/secure.yaml", (int)(slash - path), path) : "secure.yaml";
    int r = kp_read_file(path, FILE_MAX, &text, error);
    if (r == 0 && kp_path_exists(beside))
        r = kp_read_file(beside, FILE_MAX, &secure, error);
    if (r < 0)
        return r;
    r = os_account_parse(path, text.data ? text.data : "", text.len, secure.data, secure.len, name, arena, ret, error);
    if (r == 0)
        ret->cacert = find_cacert(ret->cacert, path, arena);
    return r;
}

static const char *usual_file(struct kp_arena *arena)
{
    const char *paths[] = {"clouds.yaml", kp_arena_printf(arena, "%s/.config/openstack/clouds.yaml", home()), "/etc/openstack/clouds.yaml"};
    for (size_t i = 0; i < KP_ARRAY_LEN(paths); i++)
        if (kp_path_exists(paths[i]))
            return paths[i];
    return NULL;
}

static const char *variable(const char *name)
{
    const char *value = getenv(name);
    return value ? value : "";
}

static void read_environment(struct kp_arena *arena, struct os_account *ret)
{
    clear(ret);
    for (size_t i = 0; i < KP_ARRAY_LEN(fields); i++)
        *at(ret, &fields[i]) = kp_arena_strdup(arena, variable(fields[i].variable));
    if (!*ret->interface)
        ret->interface = kp_arena_strdup(arena, variable("OS_ENDPOINT_TYPE"));
    if (!*ret->project_name)
        ret->project_name = kp_arena_strdup(arena, variable("OS_TENANT_NAME"));
    ret->insecure = kp_streq(variable("OS_INSECURE"), "true") || kp_streq(variable("OS_INSECURE"), "1");
    ret->source = "the environment";
    ret->from_environment = true;
}

int os_account_read(const struct cloud_account *wanted, struct kp_arena *arena, struct os_account *ret, struct kp_error *error)
{
    const char *name = !kp_empty(wanted->profile) ? wanted->profile : variable("OS_CLOUD");
    const char *file = !kp_empty(wanted->credentials) ? wanted->credentials : NULL;
    int r = 0;
    if (!file && !*name && *variable("OS_AUTH_URL")) {
        read_environment(arena, ret);
    } else {
        file = file ? file : *variable("OS_CLIENT_CONFIG_FILE") ? variable("OS_CLIENT_CONFIG_FILE") : usual_file(arena);
        if (!file)
            return kp_fail(error, KP_EINVALID,
                           "no credentials for OpenStack: set OS_AUTH_URL and the other OS_ variables, or write a clouds.yaml (./clouds.yaml, "
                           "~/.config/openstack/clouds.yaml, /etc/openstack/clouds.yaml) and name its cloud with OS_CLOUD or openstack.cloud");
        r = read_file(file, arena, name, ret, error);
    }
    if (r < 0)
        return r;
    if (!kp_empty(wanted->endpoint))
        ret->auth_url = kp_arena_strdup(arena, wanted->endpoint);
    if (!kp_empty(wanted->region))
        ret->region = kp_arena_strdup(arena, wanted->region);
    else if (!*ret->region)
        ret->region = kp_arena_strdup(arena, variable("OS_REGION_NAME"));
    if (!*ret->interface)
        ret->interface = "public";
    if (kp_ends_with(ret->interface, "URL")) /* "publicURL", as older tools write it */
        ret->interface = kp_arena_strndup(arena, ret->interface, strlen(ret->interface) - strlen("URL"));
    return os_account_check(ret, error);
}

static int fail_missing(const struct os_account *account, const char *key, struct kp_error *error)
{
    for (size_t i = 0; i < KP_ARRAY_LEN(fields); i++) {
        if (!kp_streq(fields[i].key, key))
            continue;
        if (account->from_environment)
            return kp_fail(error, KP_EINVALID, "%s is not set: OpenStack's credentials come from the environment, for OS_AUTH_URL is set", fields[i].variable);
        return kp_fail(error, KP_EINVALID, "%s: %s%s is missing%s", account->source, fields[i].in_auth ? "auth." : "", key,
                       strstr(key, "password") || strstr(key, "secret") ? ": write it there, or into the secure.yaml beside it" : "");
    }
    return kp_fail(error, KP_EINTERNAL, "no field %s", key);
}

int os_account_check(const struct os_account *account, struct kp_error *error)
{
    const char *type = account->auth_type;
    bool credential = strstr(type, "applicationcredential") || *account->application_credential_id || *account->application_credential_name;
    if (*type && !credential && !strstr(type, "password"))
        return kp_fail(error, KP_EINVALID, "%s: auth_type is \"%s\": kprov logs in with \"password\" or \"v3applicationcredential\"", account->source, type);
    if (!*account->auth_url)
        return fail_missing(account, "auth_url", error);
    if (!kp_starts_with(account->auth_url, "http://") && !kp_starts_with(account->auth_url, "https://"))
        return kp_fail(error, KP_EINVALID, "%s: the URL of Keystone is \"%s\": must begin with https:// or http://", account->source, account->auth_url);
    if (credential) {
        if (!*account->application_credential_id && !*account->application_credential_name)
            return fail_missing(account, "application_credential_id", error);
        if (!*account->application_credential_id && !*account->username && !*account->user_id)
            return fail_missing(account, "username", error);
        return *account->application_credential_secret ? 0 : fail_missing(account, "application_credential_secret", error);
    }
    if (!*account->username && !*account->user_id)
        return fail_missing(account, "username", error);
    if (!*account->password)
        return fail_missing(account, "password", error);
    if (!*account->user_id && !*account->user_domain_id && !*account->user_domain_name)
        return fail_missing(account, "user_domain_name", error);
    if (!*account->project_id && !*account->project_name)
        return fail_missing(account, "project_name", error);
    if (!*account->project_id && !*account->project_domain_id && !*account->project_domain_name)
        return fail_missing(account, "project_domain_name", error);
    return 0;
}
