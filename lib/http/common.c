/* Output queues of counted blobs, and header lists copied into one allocation. */
#include "lib/http/h1_internal.h"
#include "lib/http/http_internal.h"

#include <strings.h>

void outq_push_slice(struct outq *queue, const struct http_slice *slice)
{
    if (slice->len == 0)
        return;
    struct out_chunk *chunk = kp_malloc(sizeof(*chunk));
    *chunk = (struct out_chunk){ .blob = kp_blob_ref(slice->blob), .offset = slice->offset, .end = slice->offset + slice->len };
    if (!queue->tail)
        queue->tail = &queue->head;
    *queue->tail = chunk;
    queue->tail = &chunk->next;
    queue->queued += slice->len;
}

void outq_push(struct outq *queue, struct kp_blob *blob)
{
    outq_push_slice(queue, &(struct http_slice){ .blob = blob, .len = blob->len });
}

void outq_push_copy(struct outq *queue, const void *data, size_t len)
{
    KP_AUTO(kp_blob_unref) struct kp_blob *blob = kp_blob_new(data, len);
    outq_push(queue, blob);
}

/* The reference of the first chunk, which goes. */
static struct kp_blob *take_first(struct outq *queue)
{
    struct out_chunk *chunk = queue->head;
    queue->head = chunk->next;
    if (!queue->head)
        queue->tail = NULL;
    struct kp_blob *blob = chunk->blob;
    queue->queued -= chunk->end - chunk->offset;
    free(chunk);
    return blob;
}

struct kp_blob *outq_pop(struct outq *queue, size_t *ret_offset)
{
    if (!queue->head)
        return NULL;
    size_t offset = queue->head->offset, end = queue->head->end;
    struct kp_blob *blob = take_first(queue);
    *ret_offset = offset;
    if (end == blob->len)
        return blob;
    struct kp_blob *part = kp_blob_new(blob->data + offset, end - offset);
    kp_blob_unref(blob);
    *ret_offset = 0;
    return part;
}

bool outq_take(struct outq *queue, size_t max, struct http_slice *ret_slice)
{
    struct out_chunk *chunk = queue->head;
    if (!chunk)
        return false;
    size_t len = KP_MIN(max, chunk->end - chunk->offset);
    *ret_slice = (struct http_slice){ .blob = chunk->blob, .offset = chunk->offset, .len = len };
    if (chunk->offset + len == chunk->end) {
        take_first(queue);
        return true;
    }
    kp_blob_ref(chunk->blob);
    chunk->offset += len;
    queue->queued -= len;
    return true;
}

size_t outq_read(struct outq *queue, void *out, size_t max)
{
    size_t total = 0;
    while (total < max && queue->head) {
        struct out_chunk *chunk = queue->head;
        size_t len = KP_MIN(max - total, chunk->end - chunk->offset);
        memcpy((char *)out + total, chunk->blob->data + chunk->offset, len);
        total += len;
        chunk->offset += len;
        queue->queued -= len;
        if (chunk->offset == chunk->end)
            kp_blob_unref(take_first(queue));
    }
    return total;
}

void outq_clear(struct outq *queue)
{
    while (queue->head)
        kp_blob_unref(take_first(queue));
}

static bool is_connection_specific(const char *name)
{
    static const char *const names[] = { "connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade", "host" };
    for (size_t i = 0; i < KP_ARRAY_LEN(names); i++)
        if (strcasecmp(name, names[i]) == 0)
            return true;
    return false;
}

void header_list_copy(struct header_list *list, const struct http_header *headers, size_t count, bool lower)
{
    size_t bytes = sizeof(struct http_header) * KP_MAX(count, (size_t)1);
    for (size_t i = 0; i < count; i++)
        bytes += strlen(headers[i].name) + strlen(headers[i].value) + 2;
    list->items = kp_malloc(bytes);
    list->count = 0;
    char *text = (char *)(list->items + KP_MAX(count, (size_t)1));
    for (size_t i = 0; i < count; i++) {
        size_t name_len = strlen(headers[i].name), value_len = strlen(headers[i].value);
        if (!h1_is_token(headers[i].name, name_len) || (lower && is_connection_specific(headers[i].name)))
            continue;
        list->items[list->count++] = (struct http_header){ text, text + name_len + 1 };
        memcpy(text, headers[i].name, name_len + 1);
        for (size_t k = 0; lower && k < name_len; k++)
            if (text[k] >= 'A' && text[k] <= 'Z')
                text[k] += 'a' - 'A';
        text += name_len + 1;
        memcpy(text, headers[i].value, value_len + 1);
        for (size_t k = 0; k < value_len; k++)
            if (((uint8_t)text[k] < 0x20 && text[k] != '\t') || text[k] == 0x7f)
                text[k] = ' ';
        text += value_len + 1;
    }
}

void header_list_done(struct header_list *list)
{
    free(list->items);
    *list = (struct header_list){ 0 };
}

struct peer_object *peer_ref(struct peer_object *peer)
{
    if (peer)
        atomic_fetch_add(&peer->refs, 1);
    return peer;
}

void peer_unref(struct peer_object *peer)
{
    if (!peer || atomic_fetch_sub(&peer->refs, 1) > 1)
        return;
    kp_arena_free(peer->arena);
    free(peer);
}
