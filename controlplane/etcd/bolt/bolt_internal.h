/* The layout of pages, and what the files of the module share. All numbers are little-endian. */
#ifndef ETCD_BOLT_INTERNAL_H
#define ETCD_BOLT_INTERNAL_H

#include "controlplane/etcd/bolt/bolt.h"

#define BOLT_MAGIC 0xED0CDAEDu
#define BOLT_VERSION 2u
#define BOLT_NO_FREELIST UINT64_MAX /* the free pages are not kept in the file */

/* A page: id u64, flags u16, count u16, overflow u32, then its elements. */
#define PAGE_HEAD 16u
enum { PAGE_BRANCH = 0x01, PAGE_LEAF = 0x02, PAGE_META = 0x04, PAGE_FREELIST = 0x10 };
/* Leaf element: flags u32, position u32 (from the element itself), key length u32, value length u32.
   Branch element: position u32, key length u32, page id u64. */
#define ELEMENT 16u
#define ELEMENT_IS_BUCKET 0x01u
#define PAGE_COUNT_MAX 0xFFFEu /* 0xFFFF on a page of free ones says that the count is its first number */
/* A bucket in the tree of buckets: root page u64, sequence u64; root 0 means that its only page follows. */
#define BUCKET_HEAD 16u
/* Meta, behind the page's head: magic u32, version u32, page size u32, flags u32, root u64, sequence u64, freelist u64,
   pages u64, transaction u64, checksum u64 (FNV-1a 64 of all before it). */
#define META_BYTES 64u
#define META_SUMMED 56u

static inline uint16_t get_16(const uint8_t *p) { return (uint16_t)(p[0] | p[1] << 8); }
static inline uint32_t get_32(const uint8_t *p) { return get_16(p) | (uint32_t)get_16(p + 2) << 16; }
static inline uint64_t get_64(const uint8_t *p) { return get_32(p) | (uint64_t)get_32(p + 4) << 32; }
static inline void put_16(uint8_t *p, uint16_t v)
{
    p[0] = (uint8_t)v;
    p[1] = (uint8_t)(v >> 8);
}
static inline void put_32(uint8_t *p, uint32_t v)
{
    put_16(p, (uint16_t)v);
    put_16(p + 2, (uint16_t)(v >> 16));
}
static inline void put_64(uint8_t *p, uint64_t v)
{
    put_32(p, (uint32_t)v);
    put_32(p + 4, (uint32_t)(v >> 32));
}

struct bolt_bucket {
    char *name;
    size_t name_len;
    uint64_t root;      /* 0: the page is inside */
    uint8_t *inside;    /* owned: the page of a small bucket */
    size_t inside_len;
};
struct bolt_reader {
    int fd;
    uint32_t page_bytes;
    uint64_t pages; /* ids below this may be used */
    uint64_t root, freelist;
    struct bolt_bucket *buckets; /* ascending */
    size_t bucket_count;
};

/* A page with what it runs on over, read into memory. */
struct bolt_page {
    uint64_t id;
    uint16_t flags;
    size_t count;
    uint64_t run; /* pages it takes */
    uint8_t *data; /* from its head on; owned unless borrowed from a bucket's inside */
    size_t len;
};

/* One walk over a tree: which pages were met, and the key before. */
struct bolt_walk {
    struct bolt_reader *reader;
    uint8_t *seen; /* a bit a page; owned by the caller */
    uint8_t *last; /* key before; BOLT_KEY_BYTES_MAX bytes */
    size_t last_len;
    bool any;
    /* Gets every leaf element. */
    int (*each)(struct bolt_walk *walk, uint32_t flags, struct kp_bytes key, struct kp_bytes value,
                struct kp_error *error);
    void *ctx;
};
/* page_load reads and checks the head; page_free accepts an empty one. */
int page_load(struct bolt_walk *walk, uint64_t id, struct bolt_page *ret_page, struct kp_error *error);
void page_free(struct bolt_page *page);
uint8_t *walk_new_seen(const struct bolt_reader *reader);
int walk_tree(struct bolt_walk *walk, uint64_t root, struct kp_error *error);
int walk_inside(struct bolt_walk *walk, const struct bolt_bucket *bucket, struct kp_error *error);
int bolt_pread(const struct bolt_reader *reader, void *data, size_t len, uint64_t offset, struct kp_error *error);

#endif
