/* YAML streams to trees, over libyaml's events, with bounds on size, nesting and the expansion of aliases. */
#include "codec/codec_internal.h"

#include <yaml.h>

#define ANCHORS_MAX 10000

struct anchor {
    const char *name;
    struct kp_value *value;
};
struct reader {
    yaml_parser_t parser;
    yaml_event_t event;
    bool has_event;
    struct kp_arena *arena;
    struct kp_error *error;
    int depth;
    size_t nodes;
    struct { /* same layout as kp_list */
        struct anchor *items;
        size_t len;
    } anchors;
};

static int read_node(struct reader *r, struct kp_value **ret);

static int full(struct reader *r)
{
    return kp_fail(r->error, KP_ETOOLARGE, "yaml: document needs more memory than a request may use");
}

static int next_event(struct reader *r)
{
    if (r->has_event)
        yaml_event_delete(&r->event);
    r->has_event = yaml_parser_parse(&r->parser, &r->event) != 0;
    if (r->has_event)
        return 0;
    size_t line = r->parser.problem_mark.line + 1;
    const char *problem = r->parser.problem ? r->parser.problem : "cannot be parsed";
    if (r->parser.error == YAML_READER_ERROR)
        return kp_fail(r->error, KP_EBADREQUEST, "yaml: %s at byte %zu", problem, r->parser.problem_offset);
    return kp_fail(r->error, KP_EBADREQUEST, "yaml: line %zu: %s", line, problem);
}

static int line_of(const struct reader *r)
{
    return (int)r->event.start_mark.line + 1;
}

static struct kp_value *make(struct reader *r, enum kp_value_kind kind)
{
    struct kp_value *value = kp_arena_try(r->arena, sizeof(*value));
    if (value) {
        value->kind = kind;
        value->line = line_of(r);
    }
    return value;
}

static int count_node(struct reader *r, size_t n)
{
    r->nodes += n;
    if (r->nodes > KP_YAML_NODES_MAX)
        return kp_fail(r->error, KP_ETOOLARGE, "yaml: document contains excessive aliasing or more than %d nodes", KP_YAML_NODES_MAX);
    return 0;
}

static int set_anchor(struct reader *r, const char *name, struct kp_value *value)
{
    if (!name)
        return 0;
    for (size_t i = 0; i < r->anchors.len; i++) {
        if (strcmp(r->anchors.items[i].name, name) == 0) {
            r->anchors.items[i].value = value;
            return 0;
        }
    }
    if (r->anchors.len == ANCHORS_MAX)
        return kp_fail(r->error, KP_ETOOLARGE, "yaml: more than %d anchors", ANCHORS_MAX);
    struct anchor *anchor = kp_list_try(r->arena, (struct kp_list *)(void *)&r->anchors, sizeof(*anchor));
    if (!anchor)
        return full(r);
    *anchor = (struct anchor){.name = name, .value = value};
    return 0;
}

/* Nodes in a tree, and how deep it is: aliases must not get around either bound. */
static void measure(const struct kp_value *value, size_t *nodes, int *depth)
{
    int deepest = 0;
    size_t len = value->kind == KP_VALUE_ARRAY ? value->array.len : value->kind == KP_VALUE_OBJECT ? value->object.len : 0;
    ++*nodes;
    for (size_t i = 0; i < len; i++) {
        int below = 0;
        measure(value->kind == KP_VALUE_ARRAY ? value->array.items[i] : value->object.members[i].value, nodes, &below);
        deepest = KP_MAX(deepest, below);
    }
    *depth = deepest + 1;
}

static int read_alias(struct reader *r, struct kp_value **ret)
{
    const char *name = (const char *)r->event.data.alias.anchor;
    for (size_t i = 0; i < r->anchors.len; i++) {
        if (strcmp(r->anchors.items[i].name, name) != 0)
            continue;
        size_t nodes = 0;
        int depth = 0;
        measure(r->anchors.items[i].value, &nodes, &depth);
        if (r->depth + depth > KP_DECODE_DEPTH_MAX)
            return kp_fail(r->error, KP_ETOOLARGE, "yaml: line %d: nested deeper than %d levels", line_of(r), KP_DECODE_DEPTH_MAX);
        int rc = count_node(r, nodes);
        if (rc < 0)
            return rc;
        *ret = kp_value_clone_try(r->anchors.items[i].value, r->arena);
        return *ret ? 0 : full(r);
    }
    return kp_fail(r->error, KP_EBADREQUEST, "yaml: unknown anchor '%s' referenced", name);
}

static int copy_scalar(struct reader *r, const char **ret)
{
    const char *text = (const char *)r->event.data.scalar.value;
    size_t len = r->event.data.scalar.length;
    if (memchr(text, '\0', len))
        return kp_fail(r->error, KP_EBADREQUEST, "yaml: line %d: the NUL character is not allowed", line_of(r));
    char *copy = kp_arena_try(r->arena, len + 1);
    if (!copy)
        return full(r);
    memcpy(copy, text, len);
    *ret = copy;
    return 0;
}

static int apply_tag(struct reader *r, const char *tag, const char *text, struct kp_value *value)
{
    static const char prefix[] = "tag:yaml.org,2002:";
    bool ok = false;
    if (strcmp(tag, "!") == 0) {
        value->kind = KP_VALUE_STRING;
        value->string = text;
        return 0;
    }
    if (strncmp(tag, prefix, sizeof(prefix) - 1) != 0)
        return kp_fail(r->error, KP_EBADREQUEST, "yaml: line %d: tag %s is not supported", line_of(r), tag);
    const char *name = tag + sizeof(prefix) - 1;
    if (strcmp(name, "str") == 0) {
        value->kind = KP_VALUE_STRING;
        value->string = text;
        return 0;
    }
    if (!kp_yaml_resolve(text, value))
        return kp_fail(r->error, KP_EBADREQUEST, "yaml: line %d: %s has no JSON form", line_of(r), text);
    if (strcmp(name, "int") == 0)
        ok = value->kind == KP_VALUE_INT;
    else if (strcmp(name, "float") == 0)
        ok = value->kind == KP_VALUE_INT || value->kind == KP_VALUE_DOUBLE;
    else if (strcmp(name, "bool") == 0)
        ok = value->kind == KP_VALUE_BOOL;
    else if (strcmp(name, "null") == 0)
        ok = value->kind == KP_VALUE_NULL;
    if (!ok)
        return kp_fail(r->error, KP_EBADREQUEST, "yaml: line %d: cannot decode `%s` as a !!%s", line_of(r), text, name);
    return 0;
}

static int read_scalar(struct reader *r, struct kp_value **ret)
{
    struct kp_value *value = make(r, KP_VALUE_STRING);
    const char *text = NULL, *tag = (const char *)r->event.data.scalar.tag;
    if (!value)
        return full(r);
    int rc = copy_scalar(r, &text);
    if (rc < 0)
        return rc;
    *ret = value;
    value->string = text;
    if (tag)
        return apply_tag(r, tag, text, value);
    if (r->event.data.scalar.style != YAML_PLAIN_SCALAR_STYLE)
        return 0;
    if (!kp_yaml_resolve(text, value))
        return kp_fail(r->error, KP_EBADREQUEST, "yaml: line %d: %s has no JSON form", line_of(r), text);
    return 0;
}

/* JSON has string keys only; others are spelled as Go's converter spells them. */
static int key_text(struct reader *r, const struct kp_value *key, const char **ret)
{
    KP_AUTO_BUF struct kp_buf text = {0};
    switch (key->kind) {
    case KP_VALUE_STRING:
        *ret = key->string;
        return 0;
    case KP_VALUE_BOOL:
        *ret = key->boolean ? "true" : "false";
        return 0;
    case KP_VALUE_INT:
    case KP_VALUE_DOUBLE: {
        kp_value_print(key, &text);
        char *copy = kp_arena_try(r->arena, text.len + 1);
        if (!copy)
            return full(r);
        memcpy(copy, text.data, text.len);
        *ret = copy;
        return 0;
    }
    default:
        return kp_fail(r->error, KP_EBADREQUEST, "yaml: line %d: a key must be a scalar", key->line);
    }
}

/* What is written out wins over what is merged in. Names go through a hash: both maps may be large. */
static int merge_one(struct reader *r, struct kp_value *into, const struct kp_value *from)
{
    if (from->kind != KP_VALUE_OBJECT)
        return kp_fail(r->error, KP_EBADREQUEST, "yaml: map merge requires map or sequence of maps as the value");
    struct kp_strmap *seen = kp_strmap_new();
    bool fits = true;
    for (size_t i = 0; i < into->object.len; i++)
        kp_strmap_put(seen, into->object.members[i].key, into);
    for (size_t i = 0; i < from->object.len && fits; i++) {
        const struct kp_member *member = &from->object.members[i];
        if (!kp_strmap_get(seen, member->key))
            fits = kp_value_add_try(r->arena, into, member->key, member->value);
    }
    kp_strmap_free(seen, NULL);
    return fits ? 0 : full(r);
}

static int merge(struct reader *r, struct kp_value *into, const struct kp_value *from)
{
    if (from->kind != KP_VALUE_ARRAY)
        return merge_one(r, into, from);
    int rc = 0;
    for (size_t i = 0; i < from->array.len && rc == 0; i++)
        rc = merge_one(r, into, from->array.items[i]);
    return rc;
}

/* Keys of big maps are looked up in a hash; of small ones by walking. */
#define KEYS_HASHED 32

static int add_member(struct reader *r, struct kp_value *object, struct kp_strmap **seen, const char *key, struct kp_value *value, int line)
{
    bool duplicate = object->object.len < KEYS_HASHED ? kp_value_get(object, key) != NULL : false;
    if (object->object.len >= KEYS_HASHED) {
        if (!*seen) {
            *seen = kp_strmap_new();
            for (size_t i = 0; i < object->object.len; i++)
                kp_strmap_put(*seen, object->object.members[i].key, object);
        }
        duplicate = kp_strmap_get(*seen, key) != NULL;
        kp_strmap_put(*seen, key, object);
    }
    if (duplicate)
        return kp_fail(r->error, KP_EBADREQUEST, "yaml: unmarshal errors: line %d: key \"%s\" already set in map", line, key);
    return kp_value_add_try(r->arena, object, key, value) ? 0 : full(r);
}

static int read_mapping(struct reader *r, struct kp_value *object, struct kp_strmap **seen)
{
    struct kp_value *merged = NULL;
    for (;;) {
        struct kp_value *key, *value;
        const char *text = NULL;
        int rc = next_event(r);
        if (rc < 0)
            return rc;
        if (r->event.type == YAML_MAPPING_END_EVENT)
            return merged ? merge(r, object, merged) : 0;
        int line = line_of(r);
        bool is_merge = r->event.type == YAML_SCALAR_EVENT && r->event.data.scalar.style == YAML_PLAIN_SCALAR_STYLE &&
                        strcmp((const char *)r->event.data.scalar.value, "<<") == 0;
        rc = read_node(r, &key);
        if (rc == 0)
            rc = key_text(r, key, &text);
        if (rc == 0)
            rc = next_event(r);
        if (rc == 0)
            rc = read_node(r, &value);
        if (rc < 0)
            return rc;
        if (is_merge)
            merged = value;
        else
            rc = add_member(r, object, seen, text, value, line);
        if (rc < 0)
            return rc;
    }
}

static int read_sequence(struct reader *r, struct kp_value *array)
{
    for (;;) {
        struct kp_value *item;
        int rc = next_event(r);
        if (rc < 0)
            return rc;
        if (r->event.type == YAML_SEQUENCE_END_EVENT)
            return 0;
        rc = read_node(r, &item);
        if (rc < 0)
            return rc;
        if (!kp_value_append_try(r->arena, array, item))
            return full(r);
    }
}

static int read_container(struct reader *r, struct kp_value **ret)
{
    bool is_map = r->event.type == YAML_MAPPING_START_EVENT;
    struct kp_value *value = make(r, is_map ? KP_VALUE_OBJECT : KP_VALUE_ARRAY);
    int rc;
    if (!value)
        return full(r);
    if (++r->depth > KP_DECODE_DEPTH_MAX)
        return kp_fail(r->error, KP_ETOOLARGE, "yaml: line %d: nested deeper than %d levels", line_of(r), KP_DECODE_DEPTH_MAX);
    *ret = value;
    if (is_map) {
        struct kp_strmap *seen = NULL;
        rc = read_mapping(r, value, &seen);
        kp_strmap_free(seen, NULL);
    } else {
        rc = read_sequence(r, value);
    }
    r->depth--;
    return rc;
}

/* The node whose first event is current; afterwards its last event is. */
static int read_node(struct reader *r, struct kp_value **ret)
{
    const yaml_char_t *anchor = NULL;
    const char *name = NULL;
    int rc = count_node(r, 1);
    if (rc < 0)
        return rc;
    if (r->event.type == YAML_SCALAR_EVENT)
        anchor = r->event.data.scalar.anchor;
    else if (r->event.type == YAML_SEQUENCE_START_EVENT)
        anchor = r->event.data.sequence_start.anchor;
    else if (r->event.type == YAML_MAPPING_START_EVENT)
        anchor = r->event.data.mapping_start.anchor;
    if (anchor) {
        size_t size = strlen((const char *)anchor) + 1;
        char *copy = kp_arena_try(r->arena, size);
        if (!copy)
            return full(r);
        name = memcpy(copy, anchor, size);
    }
    switch (r->event.type) {
    case YAML_ALIAS_EVENT:
        return read_alias(r, ret);
    case YAML_SCALAR_EVENT:
        rc = read_scalar(r, ret);
        break;
    case YAML_SEQUENCE_START_EVENT:
    case YAML_MAPPING_START_EVENT:
        rc = read_container(r, ret);
        break;
    default:
        return kp_fail(r->error, KP_EBADREQUEST, "yaml: line %d: a value is missing", line_of(r));
    }
    return rc < 0 ? rc : set_anchor(r, name, *ret);
}

static int read_stream(struct reader *r, struct kp_list *documents)
{
    for (;;) {
        struct kp_value *value;
        int rc = next_event(r);
        if (rc < 0)
            return rc;
        if (r->event.type == YAML_STREAM_END_EVENT)
            return 0;
        if (r->event.type != YAML_DOCUMENT_START_EVENT)
            continue;
        r->anchors.len = 0;
        r->anchors.items = NULL;
        rc = next_event(r);
        if (rc == 0)
            rc = read_node(r, &value);
        if (rc < 0)
            return rc;
        if (value->kind == KP_VALUE_NULL)
            continue; /* an empty document */
        if (documents->len == KP_YAML_DOCUMENTS_MAX)
            return kp_fail(r->error, KP_ETOOLARGE, "yaml: more than %d documents", KP_YAML_DOCUMENTS_MAX);
        struct kp_value **slot = kp_list_try(r->arena, documents, sizeof(struct kp_value *));
        if (!slot)
            return full(r);
        *slot = value;
    }
}

int kp_yaml_parse(const char *text, size_t len, struct kp_arena *arena, struct kp_value ***ret_documents, size_t *ret_count,
                  struct kp_error *error)
{
    struct reader r = {.arena = arena, .error = error};
    struct kp_list documents = {0};
    if (len > KP_YAML_TEXT_MAX)
        return kp_fail(error, KP_ETOOLARGE, "yaml: text of %zu bytes exceeds %zu", len, KP_YAML_TEXT_MAX);
    if (!yaml_parser_initialize(&r.parser))
        return kp_fail(error, KP_EINTERNAL, "yaml: parser cannot start");
    yaml_parser_set_input_string(&r.parser, (const unsigned char *)(len ? text : ""), len);
    int rc = read_stream(&r, &documents);
    if (r.has_event)
        yaml_event_delete(&r.event);
    yaml_parser_delete(&r.parser);
    if (rc < 0)
        return rc;
    *ret_documents = documents.items;
    *ret_count = documents.len;
    return 0;
}

int kp_yaml_decode(const struct kp_type *type, const char *text, size_t len, struct kp_arena *arena, struct kp_decode *options,
                   void **ret_obj, struct kp_error *error)
{
    struct kp_value **documents;
    size_t n;
    int rc = kp_yaml_parse(text, len, arena, &documents, &n, error);
    if (rc < 0)
        return rc;
    if (n != 1)
        return kp_fail(error, KP_EBADREQUEST, "yaml: one document expected, %zu found", n);
    return kp_value_to_object(type, documents[0], arena, options, ret_obj, error);
}
