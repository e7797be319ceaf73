/* Reading what the runtime tells out of CRI messages. */
#include "nodeimage/kubelet/cri_messages_internal.h"

const char *cri_pairs_get(const struct cri_pairs *pairs, const char *key)
{
    for (size_t i = 0; i < pairs->len; i++)
        if (kp_streq(pairs->items[i].key, key))
            return pairs->items[i].value;
    return NULL;
}

#define READ_MAP(arena, message, field, pairs)                                                                         \
    do {                                                                                                               \
        (pairs)->items = KP_NEW_ARRAY((arena), struct cri_pair, (message)->n_##field + 1);                             \
        (pairs)->len = (message)->n_##field;                                                                           \
        for (size_t map_i_ = 0; map_i_ < (message)->n_##field; map_i_++) {                                             \
            (pairs)->items[map_i_].key = kp_arena_strdup((arena), (message)->field[map_i_]->key);                      \
            (pairs)->items[map_i_].value = kp_arena_strdup((arena), (message)->field[map_i_]->value);                  \
        }                                                                                                              \
    } while (0)

static void read_metadata(const Runtime__V1__PodSandboxMetadata *m, struct kp_arena *arena, struct cri_sandbox *ret)
{
    ret->name = kp_arena_strdup(arena, m ? m->name : "");
    ret->uid = kp_arena_strdup(arena, m ? m->uid : "");
    ret->ns = kp_arena_strdup(arena, m ? m->namespace_ : "");
    ret->attempt = m ? m->attempt : 0;
}

void cri_read_sandbox(const Runtime__V1__PodSandbox *m, struct kp_arena *arena, struct cri_sandbox *ret)
{
    *ret = (struct cri_sandbox){.id = kp_arena_strdup(arena, m->id),
                                .ready = m->state == RUNTIME__V1__POD_SANDBOX_STATE__SANDBOX_READY,
                                .created_ns = m->created_at};
    read_metadata(m->metadata, arena, ret);
    READ_MAP(arena, m, labels, &ret->labels);
    READ_MAP(arena, m, annotations, &ret->annotations);
}

void cri_read_sandbox_status(const Runtime__V1__PodSandboxStatus *m, struct kp_arena *arena, struct cri_sandbox *ret)
{
    *ret = (struct cri_sandbox){.id = kp_arena_strdup(arena, m->id),
                                .ready = m->state == RUNTIME__V1__POD_SANDBOX_STATE__SANDBOX_READY,
                                .created_ns = m->created_at};
    read_metadata(m->metadata, arena, ret);
    READ_MAP(arena, m, labels, &ret->labels);
    READ_MAP(arena, m, annotations, &ret->annotations);
    if (m->linux_ && m->linux_->namespaces && m->linux_->namespaces->options)
        ret->host_network = m->linux_->namespaces->options->network == RUNTIME__V1__NAMESPACE_MODE__NODE;
    if (!m->network || !m->network->ip || !*m->network->ip)
        return;
    ret->ips = KP_NEW_ARRAY(arena, const char *, m->network->n_additional_ips + 1);
    ret->ips[ret->n_ips++] = kp_arena_strdup(arena, m->network->ip);
    for (size_t i = 0; i < m->network->n_additional_ips; i++)
        ret->ips[ret->n_ips++] = kp_arena_strdup(arena, m->network->additional_ips[i]->ip);
}

static enum cri_state state_of(Runtime__V1__ContainerState state)
{
    switch ((int)state) {
    case RUNTIME__V1__CONTAINER_STATE__CONTAINER_CREATED:
        return CRI_CREATED;
    case RUNTIME__V1__CONTAINER_STATE__CONTAINER_RUNNING:
        return CRI_RUNNING;
    case RUNTIME__V1__CONTAINER_STATE__CONTAINER_EXITED:
        return CRI_EXITED;
    default:
        return CRI_UNKNOWN;
    }
}

void cri_read_container(const Runtime__V1__Container *m, struct kp_arena *arena, struct cri_container *ret)
{
    *ret = (struct cri_container){
        .id = kp_arena_strdup(arena, m->id),
        .sandbox_id = kp_arena_strdup(arena, m->pod_sandbox_id),
        .name = kp_arena_strdup(arena, m->metadata ? m->metadata->name : ""),
        .attempt = m->metadata ? m->metadata->attempt : 0,
        .state = state_of(m->state),
        .created_ns = m->created_at,
        .image = kp_arena_strdup(arena, m->image ? m->image->image : ""),
        .image_ref = kp_arena_strdup(arena, m->image_ref),
        .image_id = kp_arena_strdup(arena, m->image_id),
    };
    READ_MAP(arena, m, labels, &ret->labels);
    READ_MAP(arena, m, annotations, &ret->annotations);
}

void cri_read_container_status(const Runtime__V1__ContainerStatus *m, struct kp_arena *arena, struct cri_container *ret)
{
    *ret = (struct cri_container){
        .id = kp_arena_strdup(arena, m->id),
        .name = kp_arena_strdup(arena, m->metadata ? m->metadata->name : ""),
        .attempt = m->metadata ? m->metadata->attempt : 0,
        .state = state_of(m->state),
        .created_ns = m->created_at,
        .started_ns = m->started_at,
        .finished_ns = m->finished_at,
        .exit_code = m->exit_code,
        .image = kp_arena_strdup(arena, m->image ? m->image->image : ""),
        .image_ref = kp_arena_strdup(arena, m->image_ref),
        .image_id = kp_arena_strdup(arena, m->image_id),
        .reason = kp_arena_strdup(arena, m->reason),
        .message = kp_arena_strdup(arena, m->message),
        .log_path = kp_arena_strdup(arena, m->log_path),
    };
    READ_MAP(arena, m, labels, &ret->labels);
    READ_MAP(arena, m, annotations, &ret->annotations);
    ret->mounts = KP_NEW_ARRAY(arena, struct cri_mount, m->n_mounts + 1);
    ret->n_mounts = m->n_mounts;
    for (size_t i = 0; i < m->n_mounts; i++)
        ret->mounts[i] = (struct cri_mount){.container_path = kp_arena_strdup(arena, m->mounts[i]->container_path),
                                            .host_path = kp_arena_strdup(arena, m->mounts[i]->host_path),
                                            .readonly = m->mounts[i]->readonly};
}

static struct cri_strings read_strings(struct kp_arena *arena, char *const *items, size_t n)
{
    struct cri_strings out = {.items = KP_NEW_ARRAY(arena, const char *, n + 1), .len = n};
    for (size_t i = 0; i < n; i++)
        out.items[i] = kp_arena_strdup(arena, items[i]);
    return out;
}

void cri_read_image(const Runtime__V1__Image *m, struct kp_arena *arena, struct cri_image *ret)
{
    *ret = (struct cri_image){
        .id = kp_arena_strdup(arena, m->id),
        .tags = read_strings(arena, m->repo_tags, m->n_repo_tags),
        .digests = read_strings(arena, m->repo_digests, m->n_repo_digests),
        .size_bytes = m->size,
        .has_uid = m->uid != NULL,
        .uid = m->uid ? m->uid->value : 0,
        .username = kp_arena_strdup(arena, m->username),
        .pinned = m->pinned,
    };
}

static uint64_t value_of(const Runtime__V1__UInt64Value *m)
{
    return m ? m->value : 0;
}

void cri_read_stats(const Runtime__V1__ContainerStats *m, struct kp_arena *arena, struct cri_container_stats *ret)
{
    *ret = (struct cri_container_stats){0};
    if (m->attributes) {
        ret->id = kp_arena_strdup(arena, m->attributes->id);
        ret->name = kp_arena_strdup(arena, m->attributes->metadata ? m->attributes->metadata->name : "");
        READ_MAP(arena, m->attributes, labels, &ret->labels);
    }
    if (m->cpu) {
        ret->timestamp_ns = m->cpu->timestamp;
        ret->cpu_usage_ns = value_of(m->cpu->usage_core_nano_seconds);
    }
    if (m->memory) {
        ret->memory_working_set_bytes = value_of(m->memory->working_set_bytes);
        ret->memory_usage_bytes = value_of(m->memory->usage_bytes);
        ret->memory_rss_bytes = value_of(m->memory->rss_bytes);
    }
    if (m->writable_layer) {
        ret->fs_used_bytes = value_of(m->writable_layer->used_bytes);
        ret->fs_inodes_used = value_of(m->writable_layer->inodes_used);
    }
}
