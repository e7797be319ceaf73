/* AdmissionReviews: what a webhook is asked, and what its answer says (k8s.io/apiserver pkg/admission/plugin/webhook/request). */
#include "controlplane/apiserver/webhook/webhook_internal.h"

bool webhook_question_make(struct webhook_question *question, const struct admission_attributes *a, const struct admission_views *views)
{
    struct extension_request told;
    char uid[37];
    if (!extension_request_make(a, question->resource, views, &told))
        return false;
    kp_uuid4(uid);
    question->type = told.type;
    question->body = told.object;
    question->uid = told.request.uid = kp_arena_strdup(a->arena, uid);
    KP_AUTO_BUF struct kp_buf text = {0};
    kp_buf_printf(&text, "{\"kind\":\"AdmissionReview\",\"apiVersion\":\"admission.k8s.io/%s\",\"request\":", question->hook->review_version);
    kp_json_encode(&k8s_admission_request_type, &told.request, &text);
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
    *ret = (struct webhook_answer){.allowed = response->allowed, .result = response->status, .warnings = response->warnings, .audit_annotations = response->audit_annotations};
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
