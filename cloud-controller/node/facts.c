/* A machine's facts as a Node shows them. */
#include "cloud-controller/node/node.h"

#define LABEL_VALUE_MAX 63

static bool is_word(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

/* A cloud may call a size "m1 large (old)"; a label may not. */
static const char *label_value(const char *text, struct kp_arena *arena)
{
    char *value = kp_arena_strndup(arena, text, KP_MIN(strlen(text), (size_t)LABEL_VALUE_MAX)), *start = value;
    for (char *p = value; *p; p++)
        if (!is_word(*p) && *p != '-' && *p != '_' && *p != '.')
            *p = '-';
    while (*start && !is_word(*start))
        start++;
    for (size_t len = strlen(start); len > 0 && !is_word(start[len - 1]); len--)
        start[len - 1] = '\0';
    return start;
}

static void print_labels(const struct cloud_machine *machine, struct kp_buf *out, struct kp_arena *arena)
{
    /* Upstream still writes both names of each. */
    const char *labels[][2] = {
        {"node.kubernetes.io/instance-type", machine->machine_type}, {"beta.kubernetes.io/instance-type", machine->machine_type},
        {"topology.kubernetes.io/region", machine->region},          {"failure-domain.beta.kubernetes.io/region", machine->region},
        {"topology.kubernetes.io/zone", machine->zone},              {"failure-domain.beta.kubernetes.io/zone", machine->zone},
    };
    const char *comma = "";
    kp_buf_puts(out, ",\"labels\":{");
    for (size_t i = 0; i < KP_ARRAY_LEN(labels); i++) {
        const char *value = kp_empty(labels[i][1]) ? "" : label_value(labels[i][1], arena);
        if (!*value)
            continue;
        kp_buf_printf(out, "%s\"%s\":\"%s\"", comma, labels[i][0], value);
        comma = ",";
    }
    kp_buf_putc(out, '}');
}

const char *node_identity_patch(const struct k8s_node *node, const struct cloud_machine *machine, const char *resource_version, struct kp_arena *arena)
{
    KP_AUTO_BUF struct kp_buf body = {0};
    kp_buf_puts(&body, "{\"metadata\":{\"resourceVersion\":");
    kp_json_string(&body, resource_version);
    print_labels(machine, &body, arena);
    kp_buf_puts(&body, "},\"spec\":{");
    if (kp_empty(node->spec->provider_id) && !kp_empty(machine->provider_id)) {
        kp_buf_puts(&body, "\"providerID\":");
        kp_json_string(&body, machine->provider_id);
        kp_buf_putc(&body, ',');
    }
    kp_buf_puts(&body, "\"taints\":");
    ccm_print_taints(node, CCM_TAINT_UNINITIALIZED, false, &body);
    kp_buf_puts(&body, "}}");
    return kp_arena_strndup(arena, body.data, body.len);
}

static bool has_addresses(const struct k8s_node *node, const char *const (*wanted)[2], size_t n)
{
    if (node->status->addresses.len != n)
        return false;
    for (size_t i = 0; i < n; i++) {
        bool found = false;
        for (size_t j = 0; j < n && !found; j++)
            found = kp_streq(node->status->addresses.items[j].type, wanted[i][0]) && kp_streq(node->status->addresses.items[j].address, wanted[i][1]);
        if (!found)
            return false;
    }
    return true;
}

const char *node_addresses_patch(const struct k8s_node *node, const struct cloud_machine *machine, struct kp_arena *arena)
{
    const char *wanted[3][2];
    size_t n = 0;
    KP_AUTO_BUF struct kp_buf body = {0};
    if (kp_empty(machine->address)) /* the cloud has not said it yet: what the kubelet says stays */
        return NULL;
    wanted[n][0] = "InternalIP", wanted[n++][1] = machine->address;
    if (!kp_empty(machine->public_address) && !kp_streq(machine->public_address, machine->address))
        wanted[n][0] = "ExternalIP", wanted[n++][1] = machine->public_address;
    wanted[n][0] = "Hostname", wanted[n++][1] = node->metadata->name;
    if (has_addresses(node, (const char *const(*)[2])wanted, n))
        return NULL;
    kp_buf_puts(&body, "{\"status\":{\"addresses\":[");
    for (size_t i = 0; i < n; i++) {
        kp_buf_printf(&body, "%s{\"type\":\"%s\",\"address\":", i ? "," : "", wanted[i][0]);
        kp_json_string(&body, wanted[i][1]);
        kp_buf_putc(&body, '}');
    }
    kp_buf_puts(&body, "]}}");
    return kp_arena_strndup(arena, body.data, body.len);
}

bool node_is_of(const struct k8s_node *node, const struct cloud_machine *machine)
{
    return kp_empty(node->spec->provider_id) || kp_streq(node->spec->provider_id, machine->provider_id);
}

const struct cloud_machine *node_find_machine(const struct cloud_machine_list *machines, const char *name)
{
    for (size_t i = 0; i < machines->len; i++)
        if (kp_streq(machines->items[i].name, name))
            return &machines->items[i];
    return NULL;
}
