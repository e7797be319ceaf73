/* controlplane/apiserver/status: the failure of an API request as metav1.Status tells it, and lists of field errors. */
#ifndef APISERVER_STATUS_H
#define APISERVER_STATUS_H

#include "lib/base/base.h"
#include "lib/codec/codec.h"

struct api_cause {
    const char *reason, *message, *field; /* "FieldValueRequired", "Required value", "spec.selector" */
};
/* The error object of the API server: last parameter of what serves requests. Zeroed but for the arena, in which every
   string set later lives (constants may be static). */
struct api_status {
    struct kp_arena *arena;
    int code; /* enum kp_code; 0: nothing went wrong */
    int http_status;
    const char *reason; /* "NotFound"; NULL writes none */
    const char *message;
    const char *group, *kind, *name, *uid; /* details; kind may be a resource name, as upstream has it */
    struct api_cause *causes;
    size_t cause_count;
    int32_t retry_after_s;
    bool has_details;
};
#define API_STATUS(request_arena) ((struct api_status){.arena = (request_arena)})

/* Each sets *status (not NULL) and returns the negative code that fits. */
int status_fail(struct api_status *status, int code, int http_status, const char *reason, const char *format, ...) KP_PRINTF(5, 6);
int status_bad_request(struct api_status *status, const char *format, ...) KP_PRINTF(2, 3);
int status_internal(struct api_status *status, const char *format, ...) KP_PRINTF(2, 3);
int status_unauthorized(struct api_status *status);
/* `pods "x" is forbidden: why`; resource with its group: "deployments.apps". */
int status_forbidden(struct api_status *status, const char *group, const char *resource, const char *name, const char *format, ...)
    KP_PRINTF(5, 6);
int status_not_found(struct api_status *status, const char *group, const char *resource, const char *name);
int status_already_exists(struct api_status *status, const char *group, const char *resource, const char *name);
/* `Operation cannot be fulfilled on pods "x": why`; why NULL: the object has been modified. */
int status_conflict(struct api_status *status, const char *group, const char *resource, const char *name, const char *why);
int status_method_not_allowed(struct api_status *status, const char *group, const char *resource, const char *action);
int status_expired(struct api_status *status, const char *format, ...) KP_PRINTF(2, 3);
int status_too_many(struct api_status *status, int32_t retry_after_s, const char *format, ...) KP_PRINTF(3, 4);
int status_timeout(struct api_status *status, const char *format, ...) KP_PRINTF(2, 3);
/* From a library's error; code and reason by kp_code_info(). */
int status_from_error(struct api_status *status, const struct kp_error *error);
void status_add_cause(struct api_status *status, const char *reason, const char *message, const char *field);
/* Appends the metav1.Status JSON. */
void status_encode(const struct api_status *status, struct kp_buf *out);

/* ---- field errors: what validation finds --------------------------------------------------------------------- */
#define FIELD_ERRORS_MAX 256
struct field_errors {
    struct kp_arena *arena;
    struct api_cause *items;
    size_t len;
};
/* path is a printf format with its arguments last: field_required(errors, "must be set", "spec.containers[%zu].name", i). */
void field_required(struct field_errors *errors, const char *detail, const char *path, ...) KP_PRINTF(3, 4);
/* value: printed as Go's %#v does for a string when quoted (use field_invalid), raw JSON otherwise (field_invalid_raw). */
void field_invalid(struct field_errors *errors, const char *value, const char *detail, const char *path, ...) KP_PRINTF(4, 5);
void field_invalid_raw(struct field_errors *errors, const char *value, const char *detail, const char *path, ...) KP_PRINTF(4, 5);
void field_invalid_int(struct field_errors *errors, int64_t value, const char *detail, const char *path, ...) KP_PRINTF(4, 5);
/* supported: NULL-terminated. */
void field_not_supported(struct field_errors *errors, const char *value, const char *const *supported, const char *path, ...)
    KP_PRINTF(4, 5);
void field_forbidden(struct field_errors *errors, const char *detail, const char *path, ...) KP_PRINTF(3, 4);
void field_duplicate(struct field_errors *errors, const char *value, const char *path, ...) KP_PRINTF(3, 4);
void field_not_found(struct field_errors *errors, const char *value, const char *path, ...) KP_PRINTF(3, 4);
void field_too_long(struct field_errors *errors, int64_t max, const char *path, ...) KP_PRINTF(3, 4);
/* Any of them, for what the others do not say: reason "FieldValueTypeInvalid"; message without the path, in the list's arena or static. */
void field_add(struct field_errors *errors, const char *reason, const char *message, const char *path, ...) KP_PRINTF(4, 5);
void field_too_many(struct field_errors *errors, int64_t actual, int64_t max, const char *path, ...) KP_PRINTF(4, 5);
/* 0 when errors is empty, else 422 with `Kind.group "name" is invalid: ...` and its causes. */
int status_invalid(struct api_status *status, const char *group, const char *kind, const char *name, const struct field_errors *errors);

#endif
