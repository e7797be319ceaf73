/* Reading of a cloud's JSON answers over jansson. Absent members and members of another type read as "", 0, false or an empty array. */
#ifndef KP_CLOUD_REST_JSON_H
#define KP_CLOUD_REST_JSON_H

#include <jansson.h>

#include "base/base.h"

/* An object or array; KP_ECORRUPT names where it breaks. The caller's to json_decref. */
int rest_json_parse(const char *text, size_t len, json_t **ret, struct kp_error *error) KP_NODISCARD;
KP_DEFINE_AUTO(json_t *, json_decref)
/* The member at a path of keys separated by '/' ("server/id"; array elements by number: "addresses/0/addr"), borrowed; NULL when there is none. */
const json_t *rest_json_at(const json_t *value, const char *path);
const char *rest_json_text(const json_t *value, const char *path); /* "" when absent; borrowed from value */
int64_t rest_json_int(const json_t *value, const char *path);
bool rest_json_bool(const json_t *value, const char *path);
/* Whether the array at path has this text. */
bool rest_json_has(const json_t *value, const char *path, const char *text);
/* Appends the document, compact. Takes over value. */
void rest_json_write(struct kp_buf *out, json_t *value);

#endif
