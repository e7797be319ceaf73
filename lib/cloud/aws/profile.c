/* The files of AWS's own tools: sections of "key = value" lines, one a profile. */
#include "cloud/aws/aws_internal.h"

#define FILE_MAX ((size_t)1 << 20)

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\r';
}

static void trim(const char **start, size_t *len)
{
    while (*len && is_space((*start)[0]))
        (*start)++, (*len)--;
    while (*len && is_space((*start)[*len - 1]))
        (*len)--;
}

/* Between the brackets of a section's line: "default", "profile a", or of credentials "a". */
static bool is_section(const char *line, size_t len, bool config, const char *profile)
{
    static const char word[] = "profile";
    line++;
    const char *close = memchr(line, ']', len - 1);
    if (!close)
        return false;
    len = (size_t)(close - line);
    trim(&line, &len);
    if (config && len > sizeof(word) - 1 && memcmp(line, word, sizeof(word) - 1) == 0 && is_space(line[sizeof(word) - 1])) {
        line += sizeof(word) - 1;
        len -= sizeof(word) - 1;
        trim(&line, &len);
    } else if (config && !(len == 7 && memcmp(line, "default", 7) == 0)) {
        return false; /* a section of another kind: sso-session, services */
    }
    return strlen(profile) == len && memcmp(line, profile, len) == 0;
}

static void set_value(const char *key, size_t key_len, const char *value, size_t len, struct kp_arena *arena, struct aws_profile *ret)
{
    const struct {
        const char *key;
        const char **into;
    } keys[] = {
        {"aws_access_key_id", &ret->id}, {"aws_secret_access_key", &ret->secret}, {"aws_session_token", &ret->token}, {"region", &ret->region},
        {"endpoint_url", &ret->endpoint}, {"ca_bundle", &ret->ca_file}, {"max_attempts", &ret->max_attempts}, {"role_arn", &ret->role_arn},
        {"credential_process", &ret->process}, {"sso_session", &ret->sso}, {"sso_start_url", &ret->sso},
    };
    for (size_t i = 0; i < KP_ARRAY_LEN(keys); i++)
        if (strlen(keys[i].key) == key_len && strncasecmp(keys[i].key, key, key_len) == 0 && kp_empty(*keys[i].into))
            *keys[i].into = kp_arena_strndup(arena, value, len);
}

static void read_line(const char *line, size_t len, struct kp_arena *arena, struct aws_profile *ret)
{
    const char *equals = memchr(line, '=', len), *value = equals ? equals + 1 : NULL;
    if (!equals || is_space(line[0])) /* what is indented belongs to a key without a value of its own: "s3 =" */
        return;
    size_t key_len = (size_t)(equals - line), value_len = len - key_len - 1;
    for (size_t i = 1; i < value_len; i++) /* a comment begins with white space before it */
        if ((value[i] == '#' || value[i] == ';') && is_space(value[i - 1]))
            value_len = i - 1;
    trim(&line, &key_len);
    trim(&value, &value_len);
    set_value(line, key_len, value, value_len, arena, ret);
}

void aws_profile_parse(const char *text, size_t len, bool config, const char *profile, struct kp_arena *arena, struct aws_profile *ret)
{
    bool in = false;
    for (size_t at = 0; at < len;) {
        const char *line = text + at, *end = memchr(line, '\n', len - at);
        size_t line_len = end ? (size_t)(end - line) : len - at;
        at += line_len + 1;
        if (memchr(line, 0, line_len)) /* no text file */
            return;
        if (line_len == 0 || line[0] == '#' || line[0] == ';')
            continue;
        if (line[0] == '[') {
            in = is_section(line, line_len, config, profile);
            ret->found |= in;
        } else if (in) {
            read_line(line, line_len, arena, ret);
        }
    }
}

static int read_one(const char *path, bool config, const char *profile, struct kp_arena *arena, struct aws_profile *ret, struct kp_error *error)
{
    KP_AUTO_BUF struct kp_buf text = {0};
    struct kp_error why = {0};
    int r = kp_read_file(path, FILE_MAX, &text, &why);
    if (r == KP_ENOTFOUND)
        return 0;
    if (r < 0)
        return aws_pass(error, &why);
    aws_profile_parse(text.data ? text.data : "", text.len, config, profile, arena, ret);
    return 0;
}

int aws_profile_read(const struct aws *aws, struct kp_arena *arena, struct aws_profile *ret, const char **ret_looked, struct kp_error *error)
{
    *ret = (struct aws_profile){"", "", "", "", "", "", "", "", "", "", false};
    *ret_looked = kp_arena_printf(arena, "profile \"%s\" in %s and %s", aws->profile, aws->credentials_file, aws->config_file);
    int r = read_one(aws->credentials_file, false, aws->profile, arena, ret, error);
    return r < 0 ? r : read_one(aws->config_file, true, aws->profile, arena, ret, error);
}
