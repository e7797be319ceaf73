/* Reading what the runtime has of one pod, with the messages its containers left behind. */
#include <fcntl.h>
#include <unistd.h>

#include "nodeimage/kubelet/kubelet_internal.h"

#define MESSAGE_BYTES_MAX 4096
#define MESSAGE_LOG_BYTES_MAX 2048
#define MESSAGE_LOG_LINES_MAX 80

static int newest_sandbox(const void *a, const void *b)
{
    const struct cri_sandbox *x = a, *y = b;
    if (x->attempt != y->attempt)
        return x->attempt > y->attempt ? -1 : 1;
    return x->created_ns > y->created_ns ? -1 : x->created_ns < y->created_ns;
}

static int newest_container(const void *a, const void *b)
{
    const struct cri_container *x = a, *y = b;
    return x->created_ns > y->created_ns ? -1 : x->created_ns < y->created_ns;
}

/* The end of a file that a container wrote about its own end. */
static char *read_message_file(const char *path, struct kp_arena *arena)
{
    KP_AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0)
        return NULL;
    char text[MESSAGE_BYTES_MAX];
    off_t size = lseek(fd, 0, SEEK_END);
    off_t start = size > MESSAGE_BYTES_MAX ? size - MESSAGE_BYTES_MAX : 0;
    ssize_t n = pread(fd, text, sizeof(text), start);
    return n > 0 ? kp_arena_strndup(arena, text, (size_t)n) : NULL;
}

static void add_message(struct cri_container *c, struct kp_arena *arena)
{
    const char *path = cri_pairs_get(&c->annotations, KUBELET_ANNOTATION_MESSAGE_PATH);
    const char *policy = cri_pairs_get(&c->annotations, KUBELET_ANNOTATION_MESSAGE_POLICY);
    char *message = NULL;
    for (size_t i = 0; !kp_empty(path) && i < c->n_mounts && !message; i++)
        if (kp_streq(c->mounts[i].container_path, path))
            message = read_message_file(c->mounts[i].host_path, arena);
    if (!message && kp_streq(policy, "FallbackToLogsOnError") && c->exit_code != 0 && !kp_empty(c->log_path)) {
        char *tail = kubelet_log_tail(arena, c->log_path, MESSAGE_LOG_BYTES_MAX, MESSAGE_LOG_LINES_MAX);
        message = *tail ? tail : NULL;
    }
    if (message)
        c->message = message;
}

static int load_sandboxes(struct kubelet *kubelet, const char *uid, struct kp_arena *arena, struct kubelet_runtime *ret,
                          struct kp_error *error)
{
    struct cri *cri = kubelet->cri;
    int rc = cri_list_sandboxes(cri, KUBELET_LABEL_POD_UID, uid, arena, &ret->sandboxes, &ret->n_sandboxes, error);
    if (rc < 0)
        return rc;
    if (ret->n_sandboxes > 1)
        qsort(ret->sandboxes, ret->n_sandboxes, sizeof(*ret->sandboxes), newest_sandbox);
    size_t kept = 0;
    for (size_t i = 0; i < ret->n_sandboxes; i++) {
        rc = cri_sandbox_status(cri, ret->sandboxes[i].id, arena, &ret->sandboxes[kept], error);
        if (rc < 0 && rc != KP_ENOTFOUND)
            return rc;
        kept += rc == 0;
    }
    ret->n_sandboxes = kept;
    return 0;
}

int kubelet_runtime_load(struct kubelet *kubelet, const char *uid, struct kp_arena *arena, struct kubelet_runtime *ret,
                         struct kp_error *error)
{
    *ret = (struct kubelet_runtime){0};
    int rc = load_sandboxes(kubelet, uid, arena, ret, error);
    if (rc < 0)
        return rc;
    if (ret->n_sandboxes == 0)
        return 0; /* containers do not outlive their sandbox */
    struct cri_container *list;
    size_t n;
    rc = cri_list_containers(kubelet->cri, KUBELET_LABEL_POD_UID, uid, arena, &list, &n, error);
    if (rc < 0)
        return rc;
    size_t kept = 0;
    for (size_t i = 0; i < n; i++) {
        struct cri_container full;
        rc = cri_container_status(kubelet->cri, list[i].id, arena, &full, error);
        if (rc == KP_ENOTFOUND)
            continue;
        if (rc < 0)
            return rc;
        full.sandbox_id = list[i].sandbox_id;
        if (full.state == CRI_EXITED)
            add_message(&full, arena);
        list[kept++] = full;
    }
    if (kept > 1)
        qsort(list, kept, sizeof(*list), newest_container);
    ret->containers = list;
    ret->n_containers = kept;
    return 0;
}
