/* lib/codec: JSON, YAML and protobuf to and from the structs of api/, driven by the reflection tables the generator makes. */
#ifndef KP_CODEC_H
#define KP_CODEC_H

#include "base/base.h"

/* ---- how a field lies in a struct -------------------------------------------------------------------------------
   Everything a decoder makes lives in the arena it is given; structs never own memory. Rules, for `T` = the field's type:
     string, Quantity, Duration   const char *x;           NULL = absent
     int32, int64, bool, double   T x; bool has_x;         KP_SET() writes both
     IntOrString                  struct kp_int_or_string
     Time, MicroTime              struct kp_time           set = false: absent
     bytes                        struct kp_bytes          data NULL = absent
     any JSON                     struct kp_raw            json NULL = absent
     struct                       struct k8s_foo *x;       NULL = absent; `value` fields are never NULL after decode or kp_object_new
     []T                          struct { T *items; size_t len; }  same layout as struct kp_list; items non-NULL with len 0 = present, empty
     map[string]string, Quantity  struct kp_string_map     sorted by key, keys unique
     map[string]T otherwise       struct { struct { const char *key; T value; } *items; size_t len; }, T of a struct being a pointer
   A nullable field tells absent from zero, a nullable list or map absent from empty; any other scalar decoded as zero, or string decoded as "", is absent afterwards. */

struct kp_int_or_string {
    enum { KP_IOS_ABSENT, KP_IOS_INT, KP_IOS_STRING } kind;
    int32_t i;
    const char *s;
};
#define KP_IOS_OF_INT(n) ((struct kp_int_or_string){.kind = KP_IOS_INT, .i = (n)})
#define KP_IOS_OF_STRING(str) ((struct kp_int_or_string){.kind = KP_IOS_STRING, .s = (str)})

struct kp_time {
    int64_t seconds; /* since 1970, UTC */
    int32_t nanos;
    bool set;
};
#define KP_TIME_OF(s) ((struct kp_time){.seconds = (s), .set = true})

struct kp_raw {
    const char *json; /* compact JSON text, NUL-terminated; NULL = absent */
    size_t len;
};
struct kp_list {
    void *items;
    size_t len;
};
struct kp_string_list {
    const char **items;
    size_t len;
};
struct kp_i32_list {
    int32_t *items;
    size_t len;
};
struct kp_i64_list {
    int64_t *items;
    size_t len;
};
struct kp_bool_list {
    bool *items;
    size_t len;
};
struct kp_double_list {
    double *items;
    size_t len;
};
struct kp_raw_list {
    struct kp_raw *items;
    size_t len;
};
struct kp_string_pair {
    const char *key, *value;
};
struct kp_string_map {
    struct kp_string_pair *items;
    size_t len;
};
struct kp_bytes_pair {
    const char *key;
    struct kp_bytes value;
};
struct kp_bytes_map {
    struct kp_bytes_pair *items;
    size_t len;
};
struct kp_time_pair {
    const char *key;
    struct kp_time value;
};
struct kp_time_map {
    struct kp_time_pair *items;
    size_t len;
};
struct kp_string_list_pair {
    const char *key;
    struct kp_string_list value;
};
struct kp_string_list_map {
    struct kp_string_list_pair *items;
    size_t len;
};
/* Layout of every map of structs. */
struct kp_struct_pair {
    const char *key;
    void *value;
};
struct kp_struct_map {
    struct kp_struct_pair *items;
    size_t len;
};

/* Sets a number or boolean field and marks it present: KP_SET(spec, replicas, 3). */
#define KP_SET(obj, field, val) ((void)((obj)->field = (val), (obj)->has_##field = true))

/* Appends one zeroed element to a list (any struct with the layout of kp_list) and gives its address. The array moves. */
#define KP_LIST_ADD(arena, list)                                                                                       \
    ((__typeof__((list)->items))kp_list_add_((arena), (struct kp_list *)(void *)(list), sizeof(*(list)->items)))
void *kp_list_add_(struct kp_arena *arena, struct kp_list *list, size_t item_size);
void kp_string_list_add(struct kp_arena *arena, struct kp_string_list *list, const char *s); /* borrows s */
bool kp_string_list_has(const struct kp_string_list *list, const char *s);
const char *kp_string_map_get(const struct kp_string_map *map, const char *key); /* NULL when absent */
bool kp_string_map_equal(const struct kp_string_map *a, const struct kp_string_map *b);
/* Keeps the order; borrows key and value; copies the array, so maps shared with an immutable object stay whole. */
void kp_string_map_set(struct kp_arena *arena, struct kp_string_map *map, const char *key, const char *value);
bool kp_string_map_remove(struct kp_arena *arena, struct kp_string_map *map, const char *key); /* true when it was there */

/* ---- reflection: const tables made by the generator ------------------------------------------------------------- */
enum kp_kind {
    KP_KIND_STRING,
    KP_KIND_QUANTITY,
    KP_KIND_DURATION,
    KP_KIND_BOOL,
    KP_KIND_INT32,
    KP_KIND_INT64,
    KP_KIND_DOUBLE,
    KP_KIND_INT_OR_STRING,
    KP_KIND_TIME,
    KP_KIND_MICRO_TIME,
    KP_KIND_BYTES,
    KP_KIND_RAW,         /* any JSON */
    KP_KIND_STRING_LIST, /* only as the element of a map */
    KP_KIND_STRUCT,
};
enum kp_cardinality { KP_ONE, KP_LIST, KP_MAP };
enum kp_list_type { KP_LIST_UNSPECIFIED, KP_LIST_ATOMIC, KP_LIST_SET, KP_LIST_MAP };

struct kp_type;
struct kp_field {
    const char *json_name;
    uint8_t json_name_len;
    uint32_t offset;
    int32_t has_offset; /* of has_x; -1 when the kind shows absence itself */
    enum kp_kind kind;
    enum kp_cardinality cardinality;
    const struct kp_type *type; /* KP_KIND_STRUCT: the element's type */
    const char *ref;            /* OpenAPI name of the special types (Quantity, Time, IntOrString, RawExtension ...), else NULL */
    uint32_t pb_number;         /* 0: not on the protobuf wire */
    uint8_t pb_outer[2];        /* numbers of the nested messages the field travels in, outermost first; 0 = none */
    bool pb_wrapped;            /* a list that travels as a message with field 1 */
    bool required;
    bool value;    /* a by-value struct in Go: always present */
    bool nullable; /* zero differs from absent */
    bool always;   /* written even when zero or absent */
    bool omitzero;   /* value, but not written while it is empty */
    bool map_atomic; /* a map replaced as a whole by server-side apply */
    bool rest;       /* no field of its own: the members that no other field takes, as one raw JSON object; the last field, named "" */
    enum kp_list_type list_type;
    const char *const *list_map_keys;  /* NULL-terminated; NULL when none */
    const char *patch_strategy;        /* "merge", "replace", "retainKeys", "merge,retainKeys" or NULL */
    const char *patch_merge_key;       /* or NULL */
    const char *default_json;          /* JSON text, or NULL */
    const char *const *enum_values;    /* NULL-terminated; NULL when open */
    const char *doc;                   /* one line; "" when none */
};

/* Unions that JSON writes without naming the member (apiextensions). */
enum kp_json_form { KP_FORM_OBJECT, KP_FORM_SCHEMA_OR_BOOL, KP_FORM_SCHEMA_OR_ARRAY, KP_FORM_SCHEMA_OR_STRINGS };

#define KP_FIELDS_MAX 128 /* of one type; the schema's largest has 53 */
struct kp_type {
    const char *openapi_name; /* "io.k8s.api.core.v1.PodSpec" */
    const char *name;         /* "PodSpec" */
    const char *group, *version; /* "" for core */
    const char *kind;         /* name when the type is a top-level object with apiVersion and kind, else NULL */
    size_t size;
    const struct kp_field *fields; /* in the order they are written */
    size_t n_fields;
    const uint16_t *pb_order; /* indices of the fields on the protobuf wire, by outer message and number */
    size_t n_pb;
    int32_t metadata_offset; /* of the ObjectMeta or ListMeta pointer; -1 when none */
    bool has_object_meta;
    bool is_list;            /* a List kind: ListMeta and items */
    uint32_t items_offset;   /* is_list: of the struct kp_list */
    const struct kp_type *item_type; /* is_list */
    enum kp_json_form json_form;
    bool atomic;             /* replaced as a whole by server-side apply */
    const char *doc;
    const char *schema_json; /* of a custom resource: its OpenAPI v3 schema, published as it stands; NULL: made of the fields */
};

enum kp_verb {
    KP_VERB_CREATE = 1 << 0,
    KP_VERB_DELETE = 1 << 1,
    KP_VERB_DELETECOLLECTION = 1 << 2,
    KP_VERB_GET = 1 << 3,
    KP_VERB_LIST = 1 << 4,
    KP_VERB_PATCH = 1 << 5,
    KP_VERB_UPDATE = 1 << 6,
    KP_VERB_WATCH = 1 << 7,
};
#define KP_VERB_COUNT 8
const char *kp_verb_name(enum kp_verb verb); /* "deletecollection" */

struct kp_subresource {
    const char *name; /* "status" */
    unsigned verbs;   /* kp_verb bits */
    const char *group, *version, *kind; /* of the body */
    const struct kp_type *type;         /* of the body; NULL when it has no schema (proxy options) */
};
struct kp_column {
    const char *name, *type, *format;
    int priority; /* 0 always, 1 with -o wide */
    const char *doc;
    const char *path; /* of a custom resource: JSONPath of the cell's value (".spec.size"); NULL: made by the table's row code */
};
struct kp_resource {
    const char *group, *version, *name, *singular, *kind; /* "apps", "v1", "deployments", "deployment", "Deployment" */
    const char *const *short_names; /* NULL-terminated, never NULL */
    const char *const *categories;  /* NULL-terminated, never NULL */
    bool namespaced;
    unsigned verbs; /* kp_verb bits */
    const struct kp_type *type, *list_type; /* list_type NULL for what cannot be listed */
    const struct kp_subresource *subresources;
    size_t n_subresources;
    const char *table; /* name of the table's row code; NULL: name and age only */
    const struct kp_column *columns;
    size_t n_columns;
    const void *custom; /* of a custom resource: what the API server keeps of it; NULL: one of the schema's own */
};

const struct kp_type *const *kp_types(size_t *ret_count);
const struct kp_resource *const *kp_resources(size_t *ret_count); /* those of the schema, then those added */
/* Adds to the schema's resources, in place of what was added before: custom resources, in the API server. The list and what it refers to are
   borrowed for good, for somebody may still use what was replaced. Any thread; one at a time. */
void kp_resources_extend(const struct kp_resource *const *more, size_t count);
uint64_t kp_resources_generation(void); /* counts the changes: what was made of the tables is stale when it differs */
/* Lookups give NULL when there is none. group "" is core. */
const struct kp_type *kp_type_find(const char *group, const char *version, const char *kind);
const struct kp_type *kp_type_find_api_version(const char *api_version, const char *kind); /* "apps/v1", "v1" */
const struct kp_type *kp_type_find_openapi(const char *openapi_name); /* of the schema, or of a custom resource or its list */
const struct kp_resource *kp_resource_find(const char *group, const char *version, const char *name);
const struct kp_resource *kp_resource_find_kind(const char *group, const char *version, const char *kind);
const struct kp_subresource *kp_subresource_find(const struct kp_resource *resource, const char *name);
const struct kp_field *kp_field_find(const struct kp_type *type, const char *json_name);
/* "apps/v1", or "v1" for core; into out (KP_API_VERSION_MAX bytes), which is returned. */
#define KP_API_VERSION_MAX 384 /* a group is a DNS subdomain, 253 characters, a version a label, 63 */
const char *kp_type_api_version(const struct kp_type *type, char out[KP_API_VERSION_MAX]);

/* ---- objects ------------------------------------------------------------------------------------------------------ */
struct k8s_object_meta;
struct k8s_list_meta;
struct k8s_label_selector;
void *kp_object_new(const struct kp_type *type, struct kp_arena *arena); /* zeroed, `value` members made, recursively */
#define KP_OBJECT_NEW(arena, name) ((struct name *)kp_object_new(&name##_type, (arena)))
/* A deep copy that shares nothing with obj. */
void *kp_object_clone(const struct kp_type *type, const void *obj, struct kp_arena *arena);
#define KP_OBJECT_CLONE(arena, name, obj) ((struct name *)kp_object_clone(&name##_type, (obj), (arena)))
/* Deep equality of what would be written: absent equals zero where the field is not nullable. Quantities compare by value. */
bool kp_object_equal(const struct kp_type *type, const void *a, const void *b);
/* Fills absent fields from the schema's defaults, through every nested object that is present. */
void kp_object_default(const struct kp_type *type, void *obj, struct kp_arena *arena);
/* The object's metadata; NULL when the type has no ObjectMeta (ListMeta). */
struct k8s_object_meta *kp_object_meta(const struct kp_type *type, const void *obj);
struct k8s_list_meta *kp_object_list_meta(const struct kp_type *type, const void *obj);

/* ---- typed decoding and encoding ---------------------------------------------------------------------------------- */
#define KP_DECODE_DEPTH_MAX 100          /* nesting of objects and lists */
#define KP_DECODE_PROBLEMS_MAX 100       /* unknown and duplicate fields kept */
#define KP_JSON_TEXT_MAX ((size_t)64 << 20)
struct kp_decode {
    bool strict;                /* in: collect unknown and duplicate fields into problems */
    const char *api_version;    /* out: what the document says; NULL when it says nothing; lives in the arena */
    const char *kind;           /* out */
    struct kp_string_list problems; /* out: `unknown field "spec.foo"`, `duplicate field "spec.bar"`; lives in the arena */
};
/* JSON text into a new object. options may be NULL. KP_EBADREQUEST with upstream's words on malformed input or wrong types;
   KP_ETOOLARGE past a limit. Names match case-sensitively; unknown fields are dropped. */
int kp_json_decode(const struct kp_type *type, const char *text, size_t len, struct kp_arena *arena, struct kp_decode *options,
                   void **ret_obj, struct kp_error *error) KP_NODISCARD;
/* Appends compact JSON; a top-level type starts with kind and apiVersion. Cannot fail. */
void kp_json_encode(const struct kp_type *type, const void *obj, struct kp_buf *out);
void kp_json_string(struct kp_buf *out, const char *s);            /* a quoted, escaped JSON string */
void kp_json_string_n(struct kp_buf *out, const char *s, size_t len);

/* The raw protobuf message of a type, without the envelope. */
int kp_proto_decode(const struct kp_type *type, const void *data, size_t len, struct kp_arena *arena, void **ret_obj,
                    struct kp_error *error) KP_NODISCARD;
void kp_proto_encode(const struct kp_type *type, const void *obj, struct kp_buf *out);

/* The Kubernetes envelope: "k8s\0" and runtime.Unknown. Pointers borrow the input, strings lie in the arena. */
#define KP_PROTO_MAGIC "k8s\0"
#define KP_PROTO_MAGIC_LEN 4
struct kp_proto_unknown {
    const char *api_version, *kind; /* NULL when absent */
    struct kp_bytes raw;
    const char *content_encoding, *content_type;
};
bool kp_proto_is_envelope(const void *data, size_t len);
int kp_proto_unwrap(const void *data, size_t len, struct kp_arena *arena, struct kp_proto_unknown *ret, struct kp_error *error)
    KP_NODISCARD;
void kp_proto_wrap(const char *api_version, const char *kind, const void *raw, size_t raw_len, struct kp_buf *out);
/* Envelope and body in one go. Decode: `type` NULL takes the type the envelope names; *ret_type (may be NULL) tells which. */
void kp_proto_encode_object(const struct kp_type *type, const void *obj, struct kp_buf *out);
int kp_proto_decode_object(const struct kp_type *type, const void *data, size_t len, struct kp_arena *arena,
                           struct kp_decode *options, const struct kp_type **ret_type, void **ret_obj, struct kp_error *error)
    KP_NODISCARD;
/* A watch frame's body: meta.v1.WatchEvent whose object is already an enveloped message. The caller frames it by length. */
void kp_proto_encode_watch_event(const char *event_type, const void *enveloped, size_t len, struct kp_buf *out);

/* ---- trees: for patches, custom resources and whatever has no schema ---------------------------------------------- */
enum kp_value_kind { KP_VALUE_NULL, KP_VALUE_BOOL, KP_VALUE_INT, KP_VALUE_DOUBLE, KP_VALUE_STRING, KP_VALUE_ARRAY, KP_VALUE_OBJECT };
struct kp_value;
struct kp_member {
    const char *key;
    struct kp_value *value;
};
struct kp_value {
    enum kp_value_kind kind;
    int line; /* where it began, from 1; 0 unknown */
    union {
        bool boolean;
        int64_t integer;
        double number;
        const char *string;
        struct {
            struct kp_value **items;
            size_t len, cap;
        } array;
        struct {
            struct kp_member *members; /* in document order */
            size_t len, cap;
        } object;
    };
};
/* Parses one document. problems (may be NULL) collects `duplicate field "a.b"`; the last one wins. */
int kp_value_parse(const char *text, size_t len, struct kp_arena *arena, struct kp_string_list *problems,
                   struct kp_value **ret_value, struct kp_error *error) KP_NODISCARD;
void kp_value_print(const struct kp_value *value, struct kp_buf *out);        /* compact, document order */
void kp_value_print_sorted(const struct kp_value *value, struct kp_buf *out); /* compact, keys sorted as Go does */
void kp_value_print_pretty(const struct kp_value *value, int indent, struct kp_buf *out); /* for -o json; indent spaces, keys sorted */
struct kp_value *kp_value_null(struct kp_arena *arena);
struct kp_value *kp_value_bool(struct kp_arena *arena, bool b);
struct kp_value *kp_value_int(struct kp_arena *arena, int64_t i);
struct kp_value *kp_value_double(struct kp_arena *arena, double d);
struct kp_value *kp_value_string(struct kp_arena *arena, const char *s); /* copies */
struct kp_value *kp_value_array(struct kp_arena *arena);
struct kp_value *kp_value_object(struct kp_arena *arena);
/* Member or element access; all accept NULL and wrong kinds and give NULL. */
struct kp_value *kp_value_get(const struct kp_value *object, const char *key);
struct kp_value *kp_value_at(const struct kp_value *array, size_t index);
struct kp_value *kp_value_path(const struct kp_value *root, ...) __attribute__((sentinel)); /* keys, NULL-terminated */
const char *kp_value_str(const struct kp_value *value); /* NULL unless a string */
void kp_value_set(struct kp_arena *arena, struct kp_value *object, const char *key, struct kp_value *value); /* replaces or appends; copies key */
bool kp_value_remove(struct kp_value *object, const char *key);
void kp_value_append(struct kp_arena *arena, struct kp_value *array, struct kp_value *value);
bool kp_value_array_remove(struct kp_value *array, size_t index);
bool kp_value_array_insert(struct kp_arena *arena, struct kp_value *array, size_t index, struct kp_value *value);
struct kp_value *kp_value_clone(const struct kp_value *value, struct kp_arena *arena); /* deep */
bool kp_value_equal(const struct kp_value *a, const struct kp_value *b); /* member order does not matter; 1 equals 1.0 */
/* Between trees and structs. A tree of a top-level type carries apiVersion and kind. */
struct kp_value *kp_value_from_object(const struct kp_type *type, const void *obj, struct kp_arena *arena);
int kp_value_to_object(const struct kp_type *type, const struct kp_value *value, struct kp_arena *arena, struct kp_decode *options,
                       void **ret_obj, struct kp_error *error) KP_NODISCARD;

/* ---- JSONPath: the columns of custom resources --------------------------------------------------------------------- */
/* As client-go's util/jsonpath has it between { and }, keys that are missing being no error: .a.b ['a'] ["a"] [0] [-1] [0:2] [::2] [*] .* ..a
   ['a','b'] [?(@.a=="x")] with == != < <= > >=, [?(@.a)]. A leading $ may be left out. In names a backslash takes the next character as it is; as
   upstream, ['a.b'] is .a.b and ['a\.b'] one name. Numbers of both kinds compare with one another, which upstream refuses. */
#define KP_JSONPATH_TEXT_MAX 4096
#define KP_JSONPATH_FILTERS_MAX 4                    /* nesting of filters */
#define KP_JSONPATH_VISITS_MAX 500000                /* values one evaluation looks at, so also what it can find */
#define KP_JSONPATH_MEMORY_MAX ((size_t)32 << 20)    /* what it needs meanwhile */
struct kp_jsonpath;
struct kp_value_list {
    const struct kp_value **items;
    size_t len;
};
/* Copies from text. KP_EINVALID names the place and what to write instead. */
int kp_jsonpath_parse(const char *text, struct kp_arena *arena, struct kp_jsonpath **ret_path, struct kp_error *error) KP_NODISCARD;
/* All that path leads to, in the order of the document; values borrow from root, the array is in arena. KP_EINVALID with upstream's words for
   what no value can be found by (an index out of bounds, a comparison of different types); KP_ETOOLARGE past a limit. */
int kp_jsonpath_find(const struct kp_jsonpath *path, const struct kp_value *root, struct kp_arena *arena, struct kp_value_list *ret_found,
                     struct kp_error *error) KP_NODISCARD;

/* ---- YAML --------------------------------------------------------------------------------------------------------- */
#define KP_YAML_TEXT_MAX ((size_t)16 << 20)
#define KP_YAML_NODES_MAX 1000000 /* after aliases are expanded */
#define KP_YAML_DOCUMENTS_MAX 10000
/* Every document of a stream, empty ones left out. Scalars resolve as in sigs.k8s.io/yaml (YAML 1.1 core: yes/no/on/off are
   booleans); keys become strings; duplicate keys fail. Each value knows its line. */
int kp_yaml_parse(const char *text, size_t len, struct kp_arena *arena, struct kp_value ***ret_documents, size_t *ret_count,
                  struct kp_error *error) KP_NODISCARD;
void kp_yaml_print(const struct kp_value *value, struct kp_buf *out); /* one document, keys sorted, block style, as kubectl -o yaml */
/* One YAML (or JSON) document straight into a struct. */
int kp_yaml_decode(const struct kp_type *type, const char *text, size_t len, struct kp_arena *arena, struct kp_decode *options,
                   void **ret_obj, struct kp_error *error) KP_NODISCARD;

/* ---- quantities ("100m", "1.5Gi", "1e3") -------------------------------------------------------------------------- */
/* Exact: nanos is the value times 10^9. Larger numbers than +-2^63 are capped at it, smaller steps than 10^-9 rounded up, as upstream. */
enum kp_quantity_format { KP_QUANTITY_DECIMAL_SI, KP_QUANTITY_BINARY_SI, KP_QUANTITY_DECIMAL_EXPONENT };
struct kp_quantity {
    __extension__ __int128 nanos;
    enum kp_quantity_format format;
};
#define KP_QUANTITY_MAX 64 /* bytes of a printed quantity, with the NUL */
int kp_quantity_parse(const char *s, struct kp_quantity *ret, struct kp_error *error) KP_NODISCARD; /* upstream's error text */
bool kp_quantity_valid(const char *s);
void kp_quantity_format(const struct kp_quantity *q, char out[KP_QUANTITY_MAX]); /* canonical form */
const char *kp_quantity_string(const struct kp_quantity *q, struct kp_arena *arena);
/* The canonical spelling of s; s itself when it is canonical already; NULL when it is no quantity or the arena is full. */
const char *kp_quantity_canonical(const char *s, struct kp_arena *arena);
struct kp_quantity kp_quantity_of(const char *s);           /* NULL or malformed give 0 */
struct kp_quantity kp_quantity_from_i64(int64_t value, enum kp_quantity_format format);
struct kp_quantity kp_quantity_from_milli(int64_t milli, enum kp_quantity_format format);
int64_t kp_quantity_value(const struct kp_quantity *q);       /* rounded away from zero, capped at int64 */
int64_t kp_quantity_milli_value(const struct kp_quantity *q); /* likewise, of the value times 1000 */
int64_t kp_quantity_str_value(const char *s);                 /* kp_quantity_value(kp_quantity_of(s)) */
int64_t kp_quantity_str_milli(const char *s);
int kp_quantity_cmp(const struct kp_quantity *a, const struct kp_quantity *b); /* -1, 0, 1 */
int kp_quantity_str_cmp(const char *a, const char *b);                         /* NULL counts as 0 */
void kp_quantity_add(struct kp_quantity *a, const struct kp_quantity *b);      /* a takes b's format when a is zero */
void kp_quantity_sub(struct kp_quantity *a, const struct kp_quantity *b);
/* total[key] += add[key] over a resource list (map of quantities). */
void kp_resource_list_add(struct kp_arena *arena, struct kp_string_map *total, const struct kp_string_map *add);
void kp_resource_list_sub(struct kp_arena *arena, struct kp_string_map *total, const struct kp_string_map *sub);
void kp_resource_list_max(struct kp_arena *arena, struct kp_string_map *total, const struct kp_string_map *other);

/* ---- selectors ---------------------------------------------------------------------------------------------------- */
enum kp_selector_op { KP_SEL_EQUALS, KP_SEL_NOT_EQUALS, KP_SEL_IN, KP_SEL_NOT_IN, KP_SEL_EXISTS, KP_SEL_NOT_EXISTS, KP_SEL_GT, KP_SEL_LT };
struct kp_requirement {
    const char *key;
    enum kp_selector_op op;
    struct kp_string_list values;
};
struct kp_selector {
    struct kp_requirement *items;
    size_t len;   /* 0 selects everything */
    bool nothing; /* selects nothing at all */
};
#define KP_SELECTOR_REQUIREMENTS_MAX 1000
/* "a=b,c!=d,e in (x,y),!f,g,h>1"; validated like upstream, with its error texts (KP_EBADREQUEST). Copies into the arena. */
int kp_label_selector_parse(const char *s, struct kp_arena *arena, struct kp_selector *ret, struct kp_error *error) KP_NODISCARD;
/* From metav1.LabelSelector: NULL selects nothing, an empty one everything. Borrows from it. */
int kp_label_selector_from(const struct k8s_label_selector *ls, struct kp_arena *arena, struct kp_selector *ret,
                           struct kp_error *error) KP_NODISCARD;
void kp_label_selector_from_map(const struct kp_string_map *map, struct kp_arena *arena, struct kp_selector *ret);
bool kp_selector_matches(const struct kp_selector *selector, const struct kp_string_map *labels); /* labels NULL: none */
/* Parse-free match for hot paths; false when ls is NULL or malformed. */
bool kp_label_selector_matches(const struct k8s_label_selector *ls, const struct kp_string_map *labels);
void kp_selector_print(const struct kp_selector *selector, struct kp_buf *out); /* the canonical string form */
/* "metadata.name=a,status.phase!=Running": requirements with KP_SEL_EQUALS and KP_SEL_NOT_EQUALS, one value each. */
int kp_field_selector_parse(const char *s, struct kp_arena *arena, struct kp_selector *ret, struct kp_error *error) KP_NODISCARD;
/* get gives the field's value, "" when unset. */
bool kp_field_selector_matches(const struct kp_selector *selector, const char *(*get)(void *ctx, const char *field), void *ctx);
/* Upstream's syntax checks; the text of the fault (static) or NULL when fine. */
const char *kp_validate_qualified_name(const char *s);
const char *kp_validate_label_value(const char *s);

#endif
