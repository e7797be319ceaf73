/* Objects as bytes in the version, form and shape a client asked for; shared by answers and watches. */
#ifndef APISERVER_ENCODE_INTERNAL_H
#define APISERVER_ENCODE_INTERNAL_H

#include "controlplane/apiserver/http/http_internal.h"

struct encoding {
    const struct kp_resource *resource; /* of the served version */
    const struct registry_kind *kind;
    enum output_form form;
    enum output_shape shape;
    enum { INCLUDE_METADATA, INCLUDE_NONE, INCLUDE_OBJECT } include; /* of table rows */
};
/* True when a cached object's own JSON is the answer. */
bool encoding_is_plain(const struct encoding *encoding);
/* The object as JSON (of the shape) or, for OUT_PROTO, as an enveloped message. columns: a table tells its columns. */
void encode_object(const struct encoding *encoding, const struct wcache_object *object, bool columns, struct kp_arena *arena, struct kp_buf *out);
void encode_list(const struct encoding *encoding, const struct registry_list *list, struct kp_arena *arena, struct kp_buf *out);
/* JSON text as YAML, when that is the form. */
int encode_form(const struct encoding *encoding, struct kp_arena *arena, struct kp_buf *text, struct kp_error *error);
struct encoding encoding_of(struct api_request *ar);

#endif
