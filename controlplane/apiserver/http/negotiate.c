/* Which form the client wants its answer in, and which form its body has (RFC 9110 12.5.1). */
#include "controlplane/apiserver/http/http_internal.h"

#define CLAUSES_MAX 32
#define PARAMS_MAX 16

struct clause {
    const char *type; /* "application/json", lower case */
    struct {
        const char *name, *value;
    } params[PARAMS_MAX];
    size_t param_count;
    double quality;
};

static const char *trim(struct kp_arena *arena, const char *s, size_t len)
{
    while (len && (*s == ' ' || *s == '\t')) {
        s++;
        len--;
    }
    while (len && (s[len - 1] == ' ' || s[len - 1] == '\t'))
        len--;
    return kp_arena_strndup(arena, s, len);
}

static void parse_clause(struct kp_arena *arena, const char *text, struct clause *clause)
{
    size_t len = strcspn(text, ";");
    *clause = (struct clause){.type = trim(arena, text, len), .quality = 1};
    for (text += len; *text && clause->param_count < PARAMS_MAX; text += len) {
        text++;
        len = strcspn(text, ";");
        size_t eq = strcspn(text, "=;");
        if (text[eq] != '=')
            continue;
        const char *name = trim(arena, text, eq), *value = trim(arena, text + eq + 1, len - eq - 1);
        if (strcmp(name, "q") == 0)
            clause->quality = strtod(value, NULL);
        else {
            clause->params[clause->param_count].name = name;
            clause->params[clause->param_count++].value = value;
        }
    }
}

static size_t parse_accept(struct api_request *ar, struct clause clauses[CLAUSES_MAX])
{
    const char *accept = http_request_header(ar->http, "accept");
    size_t count = 0;
    for (const char *at = accept ? accept : ""; *at && count < CLAUSES_MAX;) {
        size_t len = strcspn(at, ",");
        parse_clause(ar->arena, kp_arena_strndup(ar->arena, at, len), &clauses[count++]);
        at += len + (at[len] == ',');
    }
    /* By quality, stable: the first of equals is preferred. */
    for (size_t i = 1; i < count; i++)
        for (size_t j = i; j > 0 && clauses[j].quality > clauses[j - 1].quality; j--) {
            struct clause swap = clauses[j];
            clauses[j] = clauses[j - 1];
            clauses[j - 1] = swap;
        }
    return count;
}

static const char *param_of(const struct clause *clause, const char *name)
{
    for (size_t i = 0; i < clause->param_count; i++)
        if (strcmp(clause->params[i].name, name) == 0)
            return clause->params[i].value;
    return NULL;
}

static bool form_of(const char *type, enum output_form *ret_form)
{
    if (strcmp(type, "application/json") == 0 || strcmp(type, "*/*") == 0 || strcmp(type, "application/*") == 0)
        *ret_form = OUT_JSON;
    else if (strcmp(type, "application/yaml") == 0)
        *ret_form = OUT_YAML;
    else if (strcmp(type, "application/vnd.kubernetes.protobuf") == 0)
        *ret_form = OUT_PROTO;
    else
        return false;
    return true;
}

static bool shape_of(struct api_request *ar, const struct clause *clause, enum output_form form, enum output_shape *ret_shape)
{
    const char *as = param_of(clause, "as"), *group = param_of(clause, "g"), *version = param_of(clause, "v");
    *ret_shape = SHAPE_OBJECT;
    if (!as)
        return true;
    if (!kp_streq(group, "meta.k8s.io") || !kp_streq(version, "v1") || form == OUT_PROTO)
        return false;
    if (!ar->rq.kind && !(ar->resource && builtin_metrics_has(ar->resource)))
        return false;
    if (strcmp(as, "Table") == 0)
        *ret_shape = SHAPE_TABLE;
    else if (strcmp(as, "PartialObjectMetadata") == 0)
        *ret_shape = SHAPE_METADATA;
    else if (strcmp(as, "PartialObjectMetadataList") == 0)
        *ret_shape = SHAPE_METADATA_LIST;
    else
        return false;
    return true;
}

int negotiate_objects(struct api_request *ar)
{
    struct clause *clauses = KP_NEW_ARRAY(ar->arena, struct clause, CLAUSES_MAX);
    size_t count = parse_accept(ar, clauses);
    bool custom = ar->resource && ar->resource->custom; /* those have no protobuf form, nor do their subresources */
    ar->out = (struct negotiated){OUT_JSON, SHAPE_OBJECT, NULL};
    if (!count)
        return 0;
    for (size_t i = 0; i < count; i++) {
        enum output_form form;
        enum output_shape shape;
        if (clauses[i].quality > 0 && form_of(clauses[i].type, &form) && !(custom && form == OUT_PROTO) &&
            shape_of(ar, &clauses[i], form, &shape)) {
            ar->out = (struct negotiated){form, shape, NULL};
            return 0;
        }
    }
    /* The same words for custom resources upstream, where protobuf is known but not to be had of them. */
    return status_fail(&ar->status, KP_ENOTACCEPTABLE, 406, "NotAcceptable",
                       "only the following media types are accepted: application/json, application/yaml, application/vnd.kubernetes.protobuf");
}

bool accept_has(struct api_request *ar, const char *type, const char *param)
{
    struct clause *clauses = KP_NEW_ARRAY(ar->arena, struct clause, CLAUSES_MAX);
    size_t count = parse_accept(ar, clauses);
    for (size_t i = 0; i < count; i++) {
        if (strcmp(clauses[i].type, type) != 0)
            continue;
        if (!param)
            return true;
        size_t eq = strcspn(param, "=");
        const char *value = param_of(&clauses[i], kp_arena_strndup(ar->arena, param, eq));
        if (value && kp_streq(value, param + eq + 1))
            return true;
    }
    return false;
}

int negotiate_body(struct api_request *ar, bool custom, enum output_form *ret_form)
{
    const char *header = http_request_header(ar->http, "content-type");
    struct clause clause;
    *ret_form = OUT_JSON;
    if (kp_empty(header))
        return 0;
    parse_clause(ar->arena, header, &clause);
    if (strcmp(clause.type, "*/*") != 0 && form_of(clause.type, ret_form) && !(custom && *ret_form == OUT_PROTO))
        return 0;
    return status_fail(&ar->status, KP_EMEDIATYPE, 415, "UnsupportedMediaType",
                       "the body of the request was in an unknown format - accepted media types include: application/json, application/yaml%s",
                       custom ? "" : ", application/vnd.kubernetes.protobuf");
}

const char *form_content_type(enum output_form form)
{
    static const char *const types[] = {"application/json", "application/yaml", "application/vnd.kubernetes.protobuf"};
    return types[form];
}
