/* What webhooks said and did, as annotations of the audit log (k8s.io/apiserver pkg/admission/plugin/webhook/mutating and validating, dispatcher.go). */
#include "controlplane/apiserver/webhook/webhook_internal.h"

static void add(const struct admission_attributes *a, enum audit_level level, const char *prefix, size_t index, const char *value)
{
    int round = a->round && a->round->again;
    audit_annotate(a->audit, level, kp_arena_printf(a->arena, "%sround_%d_index_%zu", prefix, round, index), value);
}

/* Those of an answer have the webhook's name before their keys. */
void webhook_annotate_answer(const struct webhook *hook, const struct admission_attributes *a, const struct webhook_answer *answer)
{
    for (size_t i = 0; a->audit && i < answer->audit_annotations.len; i++)
        audit_annotate(a->audit, AUDIT_METADATA, kp_arena_printf(a->arena, "%s/%s", hook->name, answer->audit_annotations.items[i].key),
                       answer->audit_annotations.items[i].value);
}

static void open_value(const struct webhook *hook, struct kp_buf *out)
{
    kp_buf_puts(out, "{\"configuration\":");
    kp_json_string(out, hook->configuration);
    kp_buf_puts(out, ",\"webhook\":");
    kp_json_string(out, hook->name);
}

static void annotate_patch(const struct webhook *hook, const struct admission_attributes *a, size_t index, const struct kp_bytes *patch)
{
    KP_AUTO_BUF struct kp_buf out = {0};
    struct kp_value *value = NULL;
    if (!patch || !patch->len || !audit_wants(a->audit, AUDIT_REQUEST) || kp_value_parse((const char *)patch->data, patch->len, a->arena, NULL, &value, NULL) < 0)
        return;
    open_value(hook, &out);
    kp_buf_puts(&out, ",\"patch\":");
    kp_value_print(value, &out);
    kp_buf_puts(&out, ",\"patchType\":\"JSONPatch\"}");
    add(a, AUDIT_REQUEST, "patch.webhook.admission.k8s.io/", index, out.data);
}

void webhook_annotate_mutation(const struct webhook *hook, const struct admission_attributes *a, size_t index, bool mutated, const struct kp_bytes *patch)
{
    KP_AUTO_BUF struct kp_buf out = {0};
    if (!a->audit)
        return;
    annotate_patch(hook, a, index, patch);
    open_value(hook, &out);
    kp_buf_printf(&out, ",\"mutated\":%s}", mutated ? "true" : "false");
    add(a, AUDIT_METADATA, "mutation.webhook.admission.k8s.io/", index, out.data);
}

void webhook_annotate_open(const struct webhook *hook, const struct admission_attributes *a, size_t index)
{
    if (a->audit)
        add(a, AUDIT_METADATA, hook->mutating ? "failed-open.mutation.webhook.admission.k8s.io/" : "failed-open.validating.webhook.admission.k8s.io/", index, hook->name);
}
