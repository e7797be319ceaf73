/* NamespaceLifecycle: nothing is created in a namespace that is missing or going away; the system's own are not deleted. */
#include "controlplane/apiserver/admission/admission_internal.h"

#define NAMESPACE_WAIT_MS 50 /* a namespace made through another API server may be on its way (upstream waits as long) */

static bool is_immortal(const char *name)
{
    return kp_streq(name, "default") || kp_streq(name, "kube-system") || kp_streq(name, "kube-public");
}

int admission_namespace_lifecycle(struct admission *admission, struct admission_attributes *a, struct api_status *status)
{
    if (a->operation == ADMISSION_DELETE && admission_is(a, "", "namespaces", "") && is_immortal(a->name))
        return status_forbidden(status, "", "namespaces", a->name, "this namespace may not be deleted");
    if (a->operation != ADMISSION_CREATE || kp_empty(a->ns) || kp_streq(a->resource->name, "namespaces") ||
        kp_streq(a->resource->name, "localsubjectaccessreviews"))
        return 0;
    struct k8s_namespace *ns = admission_load(admission->namespaces, &k8s_namespace_type, "", a->ns, a->arena);
    if (!ns) {
        kp_sleep_ms(NAMESPACE_WAIT_MS);
        ns = admission_load(admission->namespaces, &k8s_namespace_type, "", a->ns, a->arena);
    }
    if (!ns)
        return status_not_found(status, "", "namespaces", a->ns);
    if (!ns->metadata->deletion_timestamp.set && !kp_streq(ns->status->phase, "Terminating"))
        return 0;
    status_forbidden(status, a->resource->group, a->resource->name, a->name, "unable to create new content in namespace %s because it is being terminated", a->ns);
    status_add_cause(status, "NamespaceTerminating", kp_arena_printf(a->arena, "namespace %s is being terminated", a->ns), "metadata.namespace");
    return status->code;
}
