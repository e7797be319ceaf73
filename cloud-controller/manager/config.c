/* Reads the file of --cloud-config. */
#include "cloud-controller/manager/config.h"

#include "lib/codec/codec.h"

/* The string, or NULL when it is not there or empty. */
static int take(const struct kp_member *member, const char **ret, struct kp_error *error)
{
    const char *text = kp_value_str(member->value);
    if (!text && member->value->kind != KP_VALUE_NULL)
        return kp_fail(error, KP_EINVALID, "%s: must be a string", member->key);
    *ret = kp_empty(text) ? NULL : text;
    return 0;
}

static int read_timeout(const char *text, int64_t *ret_ms, struct kp_error *error)
{
    int64_t ns;
    if (!text)
        return 0;
    if (kp_parse_duration_ns(text, &ns) < 0 || ns < 1000000)
        return kp_fail(error, KP_EINVALID, "timeout: \"%s\" must be a time such as 60s, at least 1ms", text);
    *ret_ms = ns / 1000000;
    return 0;
}

static int read_members(const struct kp_value *root, struct ccm_config *config, const char **ret_timeout, struct kp_error *error)
{
    const struct {
        const char *key;
        const char **value;
    } known[] = {
        {"clusterUID", &config->cluster_uid},          {"clusterName", &config->cluster_name},   {"profile", &config->account.profile},
        {"region", &config->account.region},           {"endpoint", &config->account.endpoint},  {"credentialsFile", &config->account.credentials},
        {"timeout", ret_timeout},
    };
    for (size_t m = 0; m < root->object.len; m++) {
        const struct kp_member *member = &root->object.members[m];
        size_t k = 0;
        while (k < KP_ARRAY_LEN(known) && !kp_streq(known[k].key, member->key))
            k++;
        if (k == KP_ARRAY_LEN(known))
            return kp_fail(error, KP_EINVALID, "unknown key \"%s\"", member->key);
        if (take(member, known[k].value, error) < 0)
            return error->code;
    }
    return 0;
}

int ccm_config_parse(const char *text, size_t len, const char *folder, struct kp_arena *arena, struct ccm_config *ret, struct kp_error *error)
{
    struct kp_value **documents = NULL;
    struct ccm_config config = {0};
    const char *timeout = NULL;
    size_t count = 0;
    struct kp_error local = {0};
    error = error ? error : &local;
    if (len > CCM_CONFIG_MAX)
        return kp_fail(error, KP_ETOOLARGE, "%zu bytes, at most %zu go", len, CCM_CONFIG_MAX);
    if (kp_yaml_parse(text, len, arena, &documents, &count, error) < 0)
        return error->code;
    if (count != 1 || documents[0]->kind != KP_VALUE_OBJECT)
        return kp_fail(error, KP_EINVALID, "must be one object with the key clusterUID");
    if (read_members(documents[0], &config, &timeout, error) < 0 || read_timeout(timeout, &config.timeout_ms, error) < 0)
        return error->code;
    if (config.account.credentials && config.account.credentials[0] != '/')
        config.account.credentials = kp_arena_printf(arena, "%s/%s", folder, config.account.credentials);
    *ret = config;
    return 0;
}

int ccm_config_load(const char *path, struct kp_arena *arena, struct ccm_config *ret, struct kp_error *error)
{
    KP_AUTO_BUF struct kp_buf text = {0};
    const char *slash = strrchr(path, '/');
    const char *folder = slash ? kp_arena_strndup(arena, path, (size_t)(slash - path)) : ".";
    int r = kp_read_file(path, CCM_CONFIG_MAX, &text, error);
    if (r == 0)
        r = ccm_config_parse(text.data ? text.data : "", text.len, folder, arena, ret, error);
    return r < 0 ? kp_wrap(error, "--cloud-config %s", path) : 0;
}
