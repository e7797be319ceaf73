/* A cloud's JSON answers, read by path. */
#include "cloud/rest/json.h"

int rest_json_parse(const char *text, size_t len, json_t **ret, struct kp_error *error)
{
    json_error_t where;
    json_t *value = json_loadb(text ? text : "", len, JSON_REJECT_DUPLICATES, &where);
    if (!value)
        return kp_fail(error, KP_ECORRUPT, "the cloud's answer is no JSON: %s (line %d, column %d)", where.text, where.line, where.column);
    *ret = value;
    return 0;
}

static const json_t *step(const json_t *value, const char *key, size_t len)
{
    if (json_is_object(value))
        return json_object_getn(value, key, len);
    char digits[20];
    int64_t index = -1;
    if (!json_is_array(value) || len >= sizeof digits)
        return NULL;
    memcpy(digits, key, len);
    digits[len] = 0;
    return kp_parse_i64(digits, &index) == 0 && index >= 0 ? json_array_get(value, (size_t)index) : NULL;
}

const json_t *rest_json_at(const json_t *value, const char *path)
{
    while (value && *path) {
        size_t len = strcspn(path, "/");
        value = step(value, path, len);
        path += len + (path[len] == '/');
    }
    return value;
}

const char *rest_json_text(const json_t *value, const char *path)
{
    const char *text = json_string_value(rest_json_at(value, path));
    return text ? text : "";
}

int64_t rest_json_int(const json_t *value, const char *path)
{
    return json_integer_value(rest_json_at(value, path));
}

bool rest_json_bool(const json_t *value, const char *path)
{
    return json_is_true(rest_json_at(value, path));
}

bool rest_json_has(const json_t *value, const char *path, const char *text)
{
    const json_t *list = rest_json_at(value, path);
    for (size_t i = 0; i < json_array_size(list); i++)
        if (kp_streq(json_string_value(json_array_get(list, i)), text))
            return true;
    return false;
}

static int on_text(const char *data, size_t len, void *out)
{
    kp_buf_append(out, data, len);
    return 0;
}

void rest_json_write(struct kp_buf *out, json_t *value)
{
    KP_ASSERT(json_dump_callback(value, on_text, out, JSON_COMPACT) == 0);
    json_decref(value);
}
