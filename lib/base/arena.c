/* Arenas: memory with one lifetime, in blocks that double in size up to a limit. */
#include "lib/base/base.h"

#define ARENA_BLOCK_MIN ((size_t)4096)
#define ARENA_BLOCK_MAX ((size_t)256 << 10)
#define ARENA_ALIGN ((size_t)16)

struct arena_block {
    struct arena_block *next;
    size_t size, used;
    _Alignas(16) unsigned char data[];
};

struct kp_arena {
    struct arena_block *head; /* the block being filled */
    size_t cap_bytes, used_bytes, next_block_bytes;
};

struct kp_arena *kp_arena_new(size_t cap_bytes)
{
    struct kp_arena *arena = kp_calloc(1, sizeof(*arena));
    arena->cap_bytes = cap_bytes ? cap_bytes : KP_ARENA_CAP_DEFAULT;
    arena->next_block_bytes = ARENA_BLOCK_MIN;
    return arena;
}

void kp_arena_reset(struct kp_arena *arena)
{
    for (struct arena_block *block = arena->head; block;) {
        struct arena_block *next = block->next;
        free(block);
        block = next;
    }
    arena->head = NULL;
    arena->used_bytes = 0;
    arena->next_block_bytes = ARENA_BLOCK_MIN;
}

void kp_arena_free(struct kp_arena *arena)
{
    if (!arena)
        return;
    kp_arena_reset(arena);
    free(arena);
}

size_t kp_arena_used(const struct kp_arena *arena)
{
    return arena->used_bytes;
}

static struct arena_block *block_new(size_t size)
{
    /* calloc, so that memory handed out is zero without touching pages nobody asks for. */
    struct arena_block *block = kp_calloc(1, sizeof(*block) + size);
    block->size = size;
    return block;
}

void *kp_arena_try(struct kp_arena *arena, size_t size)
{
    if (size > arena->cap_bytes)
        return NULL;
    size_t need = size ? (size + ARENA_ALIGN - 1) & ~(ARENA_ALIGN - 1) : ARENA_ALIGN;
    if (need > arena->cap_bytes - KP_MIN(arena->used_bytes, arena->cap_bytes))
        return NULL;
    arena->used_bytes += need;
    struct arena_block *block = arena->head;
    if (block && block->size - block->used >= need) {
        void *p = block->data + block->used;
        block->used += need;
        return p;
    }
    if (need > arena->next_block_bytes / 4) {
        /* A large piece gets a block of its own behind the one being filled, whose rest stays usable. */
        struct arena_block *own = block_new(need);
        own->used = need;
        if (block) {
            own->next = block->next;
            block->next = own;
        } else {
            arena->head = own;
        }
        return own->data;
    }
    block = block_new(arena->next_block_bytes);
    arena->next_block_bytes = KP_MIN(arena->next_block_bytes * 2, ARENA_BLOCK_MAX);
    block->next = arena->head;
    block->used = need;
    arena->head = block;
    return block->data;
}

void *kp_arena_alloc(struct kp_arena *arena, size_t size)
{
    void *p = kp_arena_try(arena, size);
    KP_ASSERT(p != NULL);
    return p;
}

char *kp_arena_strdup(struct kp_arena *arena, const char *s)
{
    return s ? kp_arena_strndup(arena, s, strlen(s)) : NULL;
}

char *kp_arena_strndup(struct kp_arena *arena, const char *s, size_t len)
{
    char *copy = kp_arena_alloc(arena, len + 1);
    if (len)
        memcpy(copy, s, len);
    return copy;
}

void *kp_arena_memdup(struct kp_arena *arena, const void *p, size_t len)
{
    void *copy = kp_arena_alloc(arena, len);
    if (len)
        memcpy(copy, p, len);
    return copy;
}

char *kp_arena_vprintf(struct kp_arena *arena, const char *format, va_list ap)
{
    KP_ASSERT(format != NULL);
    va_list again;
    va_copy(again, ap);
    int len = vsnprintf(NULL, 0, format, ap);
    KP_ASSERT(len >= 0);
    char *text = kp_arena_alloc(arena, (size_t)len + 1);
    vsnprintf(text, (size_t)len + 1, format, again);
    va_end(again);
    return text;
}

char *kp_arena_printf(struct kp_arena *arena, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    char *text = kp_arena_vprintf(arena, format, ap);
    va_end(ap);
    return text;
}
