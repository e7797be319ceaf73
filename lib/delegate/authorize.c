/* What they may: asked of the API server, which knows the roles. */
#include "lib/delegate/delegate_internal.h"

static int review_access(struct delegate *delegate, const struct delegate_user *user, const struct delegate_attributes *attributes,
                         bool *ret_allowed, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct k8s_subject_access_review *review = KP_OBJECT_NEW(arena, k8s_subject_access_review);
    if (!review->spec)
        review->spec = KP_OBJECT_NEW(arena, k8s_subject_access_review_spec);
    review->spec->user = user->name;
    for (size_t i = 0; i < user->n_groups; i++)
        kp_string_list_add(arena, &review->spec->groups, user->groups[i]);
    if (attributes->path) {
        struct k8s_non_resource_attributes *path = KP_OBJECT_NEW(arena, k8s_non_resource_attributes);
        path->verb = attributes->verb;
        path->path = attributes->path;
        review->spec->non_resource_attributes = path;
    } else {
        struct k8s_resource_attributes *resource = KP_OBJECT_NEW(arena, k8s_resource_attributes);
        resource->verb = attributes->verb;
        resource->version = attributes->version;
        resource->resource = attributes->resource;
        resource->subresource = attributes->subresource;
        resource->name = attributes->name;
        review->spec->resource_attributes = resource;
    }
    void *answer = NULL;
    client_thread_deadline(kp_mono_ms() + DELEGATE_REVIEW_MS);
    int rc = client_create(delegate->config.access, &k8s_subjectaccessreviews_resource, NULL, review, NULL, arena, &answer, error);
    client_thread_deadline(0);
    if (rc < 0)
        return kp_wrap(error, "SubjectAccessReview");
    const struct k8s_subject_access_review_status *status = ((struct k8s_subject_access_review *)answer)->status;
    *ret_allowed = status && status->allowed;
    return 0;
}

static const char *text_of(const char *text)
{
    return text ? text : "";
}

/* Each part with its length: names may have any byte in them. */
static void key_part(struct kp_buf *key, const char *text)
{
    kp_buf_printf(key, "%zu:%s", strlen(text_of(text)), text_of(text));
}

static void key_of(const struct delegate_user *user, const struct delegate_attributes *a, struct kp_buf *key)
{
    const char *const parts[] = {user->name, a->verb, a->path, a->version, a->resource, a->subresource, a->name};
    for (size_t i = 0; i < KP_ARRAY_LEN(parts); i++)
        key_part(key, parts[i]);
    for (size_t i = 0; i < user->n_groups; i++)
        key_part(key, user->groups[i]);
}

int delegate_authorize(struct delegate *delegate, const struct delegate_user *user, const struct delegate_attributes *attributes, bool *ret_allowed,
                       struct kp_error *error)
{
    KP_AUTO_BUF struct kp_buf key = {0};
    *ret_allowed = true;
    for (size_t i = 0; i < user->n_groups; i++)
        if (kp_streq(user->groups[i], "system:masters"))
            return 0; /* the API server would not look further either */
    *ret_allowed = false;
    if (!delegate->config.access)
        return 0;
    key_of(user, attributes, &key);
    pthread_mutex_lock(&delegate->lock);
    const struct delegate_answer *known = delegate_known(delegate->verdicts, key.data);
    if (known)
        *ret_allowed = known->allowed;
    pthread_mutex_unlock(&delegate->lock);
    if (known)
        return 0;
    int rc = review_access(delegate, user, attributes, ret_allowed, error);
    if (rc < 0)
        return rc;
    struct delegate_answer *answer = kp_calloc(1, sizeof(*answer));
    answer->allowed = *ret_allowed;
    answer->until_ms = kp_mono_ms() + (*ret_allowed ? delegate->config.allowed_ms : delegate->config.denied_ms);
    delegate_remember(delegate, &delegate->verdicts, key.data, answer);
    return 0;
}
