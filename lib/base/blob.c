/* Counted immutable bytes that cross threads. */
#include "lib/base/base.h"

struct kp_blob *kp_blob_new(const void *data, size_t len)
{
    struct kp_blob *blob = kp_malloc(sizeof(*blob) + len + 1);
    blob->refs = 1;
    blob->len = len;
    if (data && len)
        memcpy(blob->data, data, len);
    blob->data[len] = '\0';
    return blob;
}

struct kp_blob *kp_blob_ref(struct kp_blob *blob)
{
    int before = __atomic_fetch_add(&blob->refs, 1, __ATOMIC_RELAXED);
    KP_ASSERT(before > 0);
    return blob;
}

void kp_blob_unref(struct kp_blob *blob)
{
    if (!blob)
        return;
    int before = __atomic_fetch_sub(&blob->refs, 1, __ATOMIC_ACQ_REL);
    KP_ASSERT(before > 0);
    if (before == 1)
        free(blob);
}
