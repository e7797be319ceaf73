/* What the files of lib/codec share: the JSON reader, allocation that reports instead of asserting, access to fields. */
#ifndef KP_CODEC_INTERNAL_H
#define KP_CODEC_INTERNAL_H

#include "codec/codec.h"

/* ---- JSON reader: a cursor over text; strings go to the arena --------------------------------------------------- */
/* Our own rather than jansson: strict decoding needs the path of every unknown and duplicate field, results belong in an
   arena, and numbers must keep their digits. jansson serves REST answers elsewhere. */
struct kp_reader {
    const char *p, *end;
    struct kp_arena *arena;
    struct kp_error *error;
    int depth;
};
/* Skips blanks; the next character, or '\0' at the end. */
char kp_reader_peek(struct kp_reader *r);
int kp_reader_string(struct kp_reader *r, const char **ret, size_t *ret_len);
/* The digits of a number as written; not NUL-terminated. */
int kp_reader_number(struct kp_reader *r, const char **ret, size_t *ret_len);
int kp_reader_literal(struct kp_reader *r, const char *literal); /* true, false, null */
int kp_reader_skip(struct kp_reader *r);                         /* any value, checked */
int kp_reader_enter(struct kp_reader *r);                        /* past [ or {; counts depth */
void kp_reader_leave(struct kp_reader *r);
/* Inside an object: 1 and the key (cursor after the colon), 0 past the }, negative on error. *first starts true. */
int kp_reader_key(struct kp_reader *r, bool *first, const char **ret_key, size_t *ret_len);
/* Inside an array: 1 when an element follows, 0 past the ], negative on error. */
int kp_reader_element(struct kp_reader *r, bool *first);
int kp_reader_finish(struct kp_reader *r); /* nothing but blanks may follow */
int kp_reader_bad(struct kp_reader *r, const char *where); /* "invalid character 'x' looking for ..." at the cursor */
/* A raw value as compact text in the arena; json NULL for null. */
int kp_reader_raw(struct kp_reader *r, struct kp_raw *ret);
int kp_reader_too_large(struct kp_reader *r);

size_t kp_utf8_len(const unsigned char *s, size_t left); /* of the sequence at s (RFC 3629); 0 when malformed */
void kp_json_double(struct kp_buf *out, double value);

/* ---- where in a document --------------------------------------------------------------------------------------- */
struct kp_path {
    const struct kp_path *parent;
    const char *name; /* NULL: index */
    size_t index;
};
void kp_path_print(const struct kp_path *path, bool indices, struct kp_buf *out); /* "spec.containers[0].image" */
/* Adds `what "path"` to problems, up to KP_DECODE_PROBLEMS_MAX. */
void kp_path_problem(const struct kp_path *path, const char *what, struct kp_arena *arena, struct kp_string_list *problems);

/* ---- objects ----------------------------------------------------------------------------------------------------- */
bool kp_object_init(const struct kp_type *type, void *obj, struct kp_arena *arena); /* makes `value` members; false: arena full */
void *kp_object_try(const struct kp_type *type, struct kp_arena *arena);            /* NULL: arena full */
/* Room for one more element, zeroed; NULL: arena full. Capacity is the next power of two of len. */
void *kp_list_try(struct kp_arena *arena, struct kp_list *list, size_t item_size);
size_t kp_item_size(const struct kp_field *field); /* of a list element or map entry */
void kp_map_sort(void *items, size_t *len, size_t item_size); /* by key; of equal keys the last stays */
bool kp_field_present(const struct kp_field *field, const void *obj); /* would be written without `always` or `value` */
bool kp_field_zero(const struct kp_field *field, const void *obj);    /* nothing is there at all */

/* ---- trees ------------------------------------------------------------------------------------------------------ */
bool kp_value_add_try(struct kp_arena *arena, struct kp_value *object, const char *key, struct kp_value *value); /* false: arena full */
bool kp_value_append_try(struct kp_arena *arena, struct kp_value *array, struct kp_value *value);
struct kp_value *kp_value_clone_try(const struct kp_value *value, struct kp_arena *arena); /* NULL: arena full */
struct kp_member *kp_value_members_sorted(const struct kp_value *object); /* caller frees the array */

/* ---- YAML ------------------------------------------------------------------------------------------------------- */
/* What a plain scalar means under the YAML 1.1 rules of Go's yaml.v2; text that means nothing else is a string, which
   borrows text. false: a number that JSON cannot hold. */
bool kp_yaml_resolve(const char *text, struct kp_value *ret);

/* Years 0 to 9999 in UTC: what RFC 3339 can write. */
#define KP_TIME_MIN (-62167219200LL)
#define KP_TIME_MAX 253402300799LL

#define KP_AT(obj, offset_) ((void *)((char *)(obj) + (offset_)))
#define KP_CAT(obj, offset_) ((const void *)((const char *)(obj) + (offset_)))
#define KP_HAS(field, obj) (*(const bool *)KP_CAT(obj, (field)->has_offset))

/* Made by api/gen: the resources of the schema. */
const struct kp_resource *const *kp_schema_resources(size_t *ret_count);

#endif
