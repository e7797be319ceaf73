/* Taints and conditions of a Node as the cloud's controllers read and write them, and when to try again. */
#include "cloud-controller/context/context.h"

#define DOUBLINGS_MAX 20

int64_t ccm_retry_ms(const struct ccm_options *options, int failures, const struct kp_error *error)
{
    int64_t ms = options->retry_ms << KP_MIN(KP_MAX(failures - 1, 0), DOUBLINGS_MAX);
    ms = KP_MIN(ms, options->retry_max_ms);
    return KP_MAX(ms, error->retry_after_ms);
}

bool ccm_is_stale(int code)
{
    return code == KP_ECONFLICT;
}

bool ccm_has_taint(const struct k8s_node *node, const char *key)
{
    for (size_t i = 0; i < node->spec->taints.len; i++)
        if (kp_streq(node->spec->taints.items[i].key, key))
            return true;
    return false;
}

void ccm_print_taints(const struct k8s_node *node, const char *key, bool add, struct kp_buf *out)
{
    const char *before = "[";
    for (size_t i = 0; i < node->spec->taints.len; i++) {
        if (kp_streq(node->spec->taints.items[i].key, key))
            continue;
        kp_buf_puts(out, before);
        kp_json_encode(&k8s_taint_type, &node->spec->taints.items[i], out);
        before = ",";
    }
    if (add)
        kp_buf_printf(out, "%s{\"key\":\"%s\",\"effect\":\"NoSchedule\"}", before, key);
    kp_buf_puts(out, *before == '[' && !add ? "null" : "]");
}

const struct k8s_node_condition *ccm_condition(const struct k8s_node *node, const char *type)
{
    for (size_t i = 0; i < node->status->conditions.len; i++)
        if (kp_streq(node->status->conditions.items[i].type, type))
            return &node->status->conditions.items[i];
    return NULL;
}

bool ccm_is_ready(const struct k8s_node *node)
{
    const struct k8s_node_condition *ready = ccm_condition(node, "Ready");
    return ready && kp_streq(ready->status, "True");
}
