/* AdmissionReviews: what a webhook is asked, and what its answer says (k8s.io/apiserver pkg/admission/plugin/webhook/request). */
#include "controlplane/apiserver/webhook/webhook_internal.h"

static struct k8s_group_version_kind *kind_of(struct kp_arena *arena, const struct kp_type *type)
{
    struct k8s_group_version_kind *kind = KP_NEW(arena, struct k8s_group_version_kind);
    *kind = (struct k8s_group_version_kind){.group = type->group, .version = type->version, .kind = type->kind};
    return kind;
}

static struct k8s_group_version_resource *resource_of(struct kp_arena *arena, const struct kp_resource *resource)
{
    struct k8s_group_version_resource *r = KP_NEW(arena, struct k8s_group_version_resource);
    *r = (struct k8s_group_version_resource){.group = resource->group, .version = resource->version, .resource = resource->name};
    return r;
}

static struct kp_raw raw_of(struct kp_arena *arena, const struct kp_type *type, const void *body)
{
    KP_AUTO_BUF struct kp_buf json = {0};
    if (!body)
        return (struct kp_raw){0};
    kp_json_encode(type, body, &json);
    return (struct kp_raw){kp_arena_strndup(arena, json.data, json.len), json.len};
}

static struct kp_raw options_of(const struct admission_attributes *a)
{
    static const char *const kinds[] = {[ADMISSION_CREATE] = "CreateOptions", [ADMISSION_UPDATE] = "UpdateOptions"};
    KP_AUTO_BUF struct kp_buf json = {0};
    if (a->operation == ADMISSION_DELETE)
        return a->delete_options;
    if (a->operation == ADMISSION_CONNECT)
        return (struct kp_raw){0};
    kp_buf_printf(&json, "{\"kind\":\"%s\",\"apiVersion\":\"meta.k8s.io/v1\"", kinds[a->operation]);
    if (a->dry_run)
        kp_buf_puts(&json, ",\"dryRun\":[\"All\"]");
    if (!kp_empty(a->field_manager)) {
        kp_buf_puts(&json, ",\"fieldManager\":");
        kp_json_string(&json, a->field_manager);
    }
    kp_buf_puts(&json, "}");
    return (struct kp_raw){kp_arena_strndup(a->arena, json.data, json.len), json.len};
}

static struct k8s_user_info *user_of(const struct admission_attributes *a)
{
    struct k8s_user_info *user = KP_NEW(a->arena, struct k8s_user_info);
    *user = (struct k8s_user_info){.username = a->user->name, .uid = a->user->uid, .groups = a->user->groups, .extra = a->user->extra};
    return user;
}

bool webhook_question_make(struct webhook_question *question, const struct admission_attributes *a, const struct admission_views *views)
{
    const struct kp_type *request_type;
    const void *old = NULL, *ignored;
    char uid[37];
    if (!views->view(a, question->resource, a->object, &question->type, &question->body) || !views->view(a, question->resource, a->old_object, &question->type, &old) ||
        !views->view(a, a->resource, NULL, &request_type, &ignored))
        return false;
    kp_uuid4(uid);
    question->uid = kp_arena_strdup(a->arena, uid);
    struct k8s_admission_request request = {.uid = question->uid,
                                            .kind = kind_of(a->arena, question->type),
                                            .resource = resource_of(a->arena, question->resource),
                                            .sub_resource = a->subresource,
                                            .request_kind = kind_of(a->arena, request_type),
                                            .request_resource = resource_of(a->arena, a->resource),
                                            .request_sub_resource = a->subresource,
                                            .name = a->name,
                                            .namespace = webhook_namespace(a),
                                            .operation = webhook_operation(a->operation),
                                            .user_info = user_of(a),
                                            .object = raw_of(a->arena, question->type, question->body),
                                            .old_object = raw_of(a->arena, question->type, old),
                                            .options = options_of(a)};
    KP_SET(&request, dry_run, a->dry_run);
    KP_AUTO_BUF struct kp_buf text = {0};
    kp_buf_printf(&text, "{\"kind\":\"AdmissionReview\",\"apiVersion\":\"admission.k8s.io/%s\",\"request\":", question->hook->review_version);
    kp_json_encode(&k8s_admission_request_type, &request, &text);
    kp_buf_puts(&text, "}");
    question->text = kp_arena_strndup(a->arena, text.data, text.len);
    question->len = text.len;
    return true;
}

/* ---- the answer ----------------------------------------------------------------------------------------------------------------------- */
static int check_patch(const struct webhook_question *question, const struct k8s_admission_response *response, struct kp_error *error)
{
    bool v1 = strcmp(question->hook->review_version, "v1") == 0, patched = response->patch.len > 0;
    if (!question->hook->mutating)
        return 0;
    if (v1 && patched && !response->patch_type)
        return kp_fail(error, KP_EBADREQUEST, "webhook returned response.patch but not response.patchType");
    if (v1 && !patched && response->patch_type)
        return kp_fail(error, KP_EBADREQUEST, "webhook returned response.patchType but not response.patch");
    if (response->patch_type && strcmp(response->patch_type, "JSONPatch") != 0)
        return kp_fail(error, KP_EBADREQUEST, "webhook returned invalid response.patchType of \"%s\"", response->patch_type);
    return 0;
}

static int check_envelope(const struct webhook_question *question, const struct kp_decode *said, struct kp_error *error)
{
    char wanted[64];
    const char *version = said->api_version ? said->api_version : "", *kind = said->kind ? said->kind : "";
    snprintf(wanted, sizeof(wanted), "admission.k8s.io/%s", question->hook->review_version);
    bool lenient = strcmp(question->hook->review_version, "v1beta1") == 0; /* as upstream: it had no such rule */
    if ((strcmp(version, wanted) == 0 && strcmp(kind, "AdmissionReview") == 0) || lenient)
        return 0;
    return kp_fail(error, KP_EBADREQUEST, "expected webhook response of %s, Kind=AdmissionReview, got %s, Kind=%s", wanted, version, kind);
}

int webhook_answer_read(const struct webhook_question *question, const void *body, size_t len, struct kp_arena *arena, struct webhook_answer *ret,
                        struct kp_error *error)
{
    struct kp_decode said = {0};
    void *decoded = NULL;
    if (kp_json_decode(&k8s_admission_review_type, body, len, arena, &said, &decoded, error) < 0)
        return error->code;
    const struct k8s_admission_review *review = decoded;
    const struct k8s_admission_response *response = review->response;
    if (check_envelope(question, &said, error) < 0)
        return error->code;
    if (!response)
        return kp_fail(error, KP_EBADREQUEST, "webhook response was absent");
    const char *uid = response->uid ? response->uid : "";
    if (strcmp(question->hook->review_version, "v1") == 0 && strcmp(uid, question->uid) != 0)
        return kp_fail(error, KP_EBADREQUEST, "expected response.uid=\"%s\", got \"%s\"", question->uid, uid);
    if (check_patch(question, response, error) < 0)
        return error->code;
    *ret = (struct webhook_answer){.allowed = response->allowed, .result = response->status, .warnings = response->warnings};
    if (question->hook->mutating)
        ret->patch = response->patch;
    return 0;
}

int webhook_denied(const struct webhook *hook, const struct k8s_status *result, struct api_status *status)
{
    const char *why = result ? (!kp_empty(result->message) ? result->message : result->reason) : NULL;
    const char *denied = kp_arena_printf(status->arena, "admission webhook \"%s\" denied the request", hook->name);
    int http = result && result->code >= 400 && result->code <= 599 ? result->code : 400;
    status_fail(status, KP_EFORBIDDEN, http, NULL, "%s%s%s", denied, kp_empty(why) ? " without explanation" : ": ",
                kp_empty(why) ? "" : why);
    if (!result)
        return status->code;
    status->reason = kp_empty(result->reason) ? NULL : result->reason;
    if (!result->details)
        return status->code;
    status->has_details = true;
    status->group = result->details->group;
    status->kind = result->details->kind;
    status->name = result->details->name;
    status->uid = result->details->uid;
    for (size_t i = 0; i < result->details->causes.len; i++) {
        const struct k8s_status_cause *cause = &result->details->causes.items[i];
        status_add_cause(status, cause->reason, cause->message, cause->field);
    }
    return status->code;
}
