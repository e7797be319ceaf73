/* What policies have to say to the audit log: values of their auditAnnotations, and what bindings with the action Audit did not refuse (k8s.io/apiserver
 * pkg/admission/plugin/policy/validating/dispatcher.go). */
#include "controlplane/apiserver/policy/policy_internal.h"

void policy_note_failure(struct policy_notes *notes, const struct policy_hook *hook, size_t index, const char *message, struct kp_arena *arena)
{
    if (notes->failures.len < POLICY_FAILURES_MAX)
        *KP_LIST_ADD(arena, &notes->failures) = (struct policy_failure){.message = message, .hook = hook, .index = index};
}

void policy_note(struct policy_notes *notes, const struct policy_hook *hook, const char *key, const char *value, struct kp_arena *arena)
{
    const char *full = kp_arena_printf(arena, "%s/%s", hook->policy->name, key);
    const char *cut = kp_arena_strndup(arena, value, KP_MIN(strlen(value), (size_t)POLICY_ANNOTATION_BYTES_MAX));
    struct policy_note *note = NULL;
    for (size_t i = 0; i < notes->notes.len && !note; i++)
        if (strcmp(notes->notes.items[i].key, full) == 0)
            note = &notes->notes.items[i];
    if (!note) {
        note = KP_LIST_ADD(arena, &notes->notes);
        *note = (struct policy_note){.key = full};
    }
    if (!kp_string_list_has(&note->values, cut)) /* bindings may say the same */
        kp_string_list_add(arena, &note->values, cut);
}

static void put_failure(const struct policy_failure *failure, struct kp_buf *out)
{
    const struct policy_binding *binding = failure->hook->binding;
    const struct kp_string_list *actions = &binding->source->spec->validation_actions;
    kp_buf_puts(out, "{\"message\":");
    kp_json_string(out, failure->message);
    kp_buf_puts(out, ",\"policy\":");
    kp_json_string(out, failure->hook->policy->name);
    kp_buf_puts(out, ",\"binding\":");
    kp_json_string(out, binding->name);
    kp_buf_printf(out, ",\"expressionIndex\":%zu,\"validationActions\":[", failure->index);
    for (size_t i = 0; i < actions->len; i++) {
        kp_buf_puts(out, i ? "," : "");
        kp_json_string(out, actions->items[i]);
    }
    kp_buf_puts(out, "]}");
}

void policy_notes_publish(const struct policy_notes *notes, const struct admission_attributes *a)
{
    KP_AUTO_BUF struct kp_buf out = {0};
    for (size_t i = 0; i < notes->notes.len; i++) {
        out.len = 0;
        for (size_t k = 0; k < notes->notes.items[i].values.len; k++)
            kp_buf_printf(&out, "%s%s", k ? ", " : "", notes->notes.items[i].values.items[k]);
        audit_annotate(a->audit, AUDIT_METADATA, notes->notes.items[i].key, out.data);
    }
    if (!notes->failures.len)
        return;
    out.len = 0;
    for (size_t i = 0; i < notes->failures.len; i++) {
        kp_buf_puts(&out, i ? "," : "[");
        put_failure(&notes->failures.items[i], &out);
    }
    kp_buf_putc(&out, ']');
    audit_annotate(a->audit, AUDIT_METADATA, "validation.policy.admission.k8s.io/validation_failure", out.data);
}
