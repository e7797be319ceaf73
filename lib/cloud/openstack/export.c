/* The account as a clouds.yaml of one cloud, for the cloud-controller-manager. */
#include "cloud/openstack/openstack_internal.h"
#include "codec/codec.h"

#define CLOUD_NAME "kprov"
#define AUTHORITIES_MAX ((size_t)512 << 10) /* a whole system's are 220 KB; a Secret may have 1 MiB */

static void set(struct kp_value *object, const char *key, const char *value, struct kp_arena *arena)
{
    if (!kp_empty(value))
        kp_value_set(arena, object, key, kp_value_string(arena, value));
}

/* The account's file of authorities as text: no node has the file. */
static int read_authorities(const struct os_account *account, struct kp_arena *arena, const char **ret, struct kp_error *error)
{
    KP_AUTO_BUF struct kp_buf pem = {0};
    if (!*account->cacert)
        return 0;
    if (kp_read_file(account->cacert, AUTHORITIES_MAX, &pem, error) < 0)
        return kp_wrap(error, "%s: cacert", account->source);
    if (!pem.len || memchr(pem.data, 0, pem.len) || !strstr(pem.data, "-----BEGIN CERTIFICATE-----"))
        return kp_fail(error, KP_EINVALID, "%s: cacert %s has no certificate in it: it must be a file in PEM", account->source, account->cacert);
    *ret = kp_arena_strndup(arena, pem.data, pem.len);
    return 0;
}

int os_account_export(void *state, struct kp_arena *arena, struct cloud_export *ret, struct kp_error *error)
{
    struct os *os = state;
    const struct os_account *account = &os->account;
    const char *const auth_fields[][2] = {
        {"auth_url", account->auth_url}, {"username", account->username}, {"user_id", account->user_id}, {"password", account->password},
        {"user_domain_name", account->user_domain_name}, {"user_domain_id", account->user_domain_id}, {"project_name", account->project_name},
        {"project_id", account->project_id}, {"project_domain_name", account->project_domain_name}, {"project_domain_id", account->project_domain_id},
        {"application_credential_id", account->application_credential_id}, {"application_credential_name", account->application_credential_name},
        {"application_credential_secret", account->application_credential_secret},
    };
    struct kp_value *root = kp_value_object(arena), *clouds = kp_value_object(arena), *cloud = kp_value_object(arena), *auth = kp_value_object(arena);
    KP_AUTO_BUF struct kp_buf text = {0};
    const char *authorities = NULL;
    int r = read_authorities(account, arena, &authorities, error);
    if (r < 0)
        return r;
    for (size_t i = 0; i < KP_ARRAY_LEN(auth_fields); i++)
        set(auth, auth_fields[i][0], auth_fields[i][1], arena);
    kp_value_set(arena, cloud, "auth", auth);
    set(cloud, "auth_type", account->auth_type, arena);
    set(cloud, "region_name", os->region ? os->region : account->region, arena);
    set(cloud, "interface", account->interface, arena);
    set(cloud, "cacert", authorities ? CLOUD_EXPORT_AUTHORITIES : "", arena);
    if (account->insecure)
        kp_value_set(arena, cloud, "verify", kp_value_bool(arena, false));
    kp_value_set(arena, clouds, CLOUD_NAME, cloud);
    kp_value_set(arena, root, "clouds", clouds);
    kp_value_print(root, &text);
    *ret = (struct cloud_export){
        .account = {.profile = CLOUD_NAME, .region = kp_arena_strdup(arena, os->region ? os->region : account->region)},
        .credentials = kp_arena_strdup(arena, text.data), .authorities = authorities,
    };
    return 0;
}
