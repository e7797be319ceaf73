/* lib/base: what every module stands on - errors, ownership, arenas, buffers, containers, logs, time, files, processes. */
#ifndef KP_BASE_H
#define KP_BASE_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KP_PRINTF(format_index, first_arg) __attribute__((format(printf, format_index, first_arg)))
#define KP_NODISCARD __attribute__((warn_unused_result))
#define KP_ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
#define KP_MIN(a, b) ((a) < (b) ? (a) : (b))
#define KP_MAX(a, b) ((a) > (b) ? (a) : (b))
#define KP_CONTAINER_OF(ptr, type, member) ((type *)(void *)((char *)(ptr) - offsetof(type, member)))

/* ---- assertions: for our own bugs, on in production; bad input gets an error instead -------------------------- */
_Noreturn void kp_assert_fail(const char *expr, const char *file, int line);
#define KP_ASSERT(expr) ((expr) ? (void)0 : kp_assert_fail(#expr, __FILE__, __LINE__))

/* ---- ownership ------------------------------------------------------------------------------------------------ */
/* KP_AUTO(foo_free) struct foo *x = NULL;  calls foo_free(x) when x leaves scope. The destructor must accept NULL and
   must have been declared for KP_AUTO with KP_DEFINE_AUTO(struct foo *, foo_free). */
#define KP_DEFINE_AUTO(type, destructor)                                                                               \
    static inline __attribute__((unused)) void destructor##_auto(type *p)                                              \
    {                                                                                                                  \
        if (*p)                                                                                                        \
            destructor(*p);                                                                                            \
    }
#define KP_AUTO(destructor) __attribute__((cleanup(destructor##_auto), unused))
/* Hands a pointer over: evaluates to its value and leaves NULL behind, so that KP_AUTO does not free it. */
#define KP_TAKE(p) __extension__({ __typeof__(p) kp_take_ = (p); (p) = NULL; kp_take_; })

KP_DEFINE_AUTO(void *, free)
static inline __attribute__((unused)) void kp_free_auto(void *p) { free(*(void **)p); }
#define KP_AUTO_FREE __attribute__((cleanup(kp_free_auto)))
void kp_close_fd(int *fd); /* closes *fd when >= 0 and sets it to -1 */
#define KP_AUTO_CLOSE __attribute__((cleanup(kp_close_fd), unused))

/* Allocation that cannot fail: out of memory ends the process with a message (supervised programs come back). */
void *kp_malloc(size_t size) __attribute__((malloc));
void *kp_calloc(size_t count, size_t size) __attribute__((malloc));
void *kp_realloc(void *p, size_t size);
char *kp_strdup(const char *s);                   /* NULL gives NULL; caller frees */
char *kp_strndup(const char *s, size_t len);      /* caller frees */
char *kp_asprintf(const char *format, ...) KP_PRINTF(1, 2); /* caller frees */

/* ---- errors --------------------------------------------------------------------------------------------------- */
/* The one closed list. Functions return 0 or one of these; kp_code_info() maps each to an API Status reason, an HTTP
   status and an exit status. */
enum kp_code {
    KP_OK = 0,
    KP_EINTERNAL = -1,         /* our bug, or something that cannot be put better */
    KP_EBADREQUEST = -2,       /* malformed input */
    KP_EINVALID = -3,          /* well-formed but not allowed: validation */
    KP_EUNAUTHORIZED = -4,
    KP_EFORBIDDEN = -5,
    KP_ENOTFOUND = -6,
    KP_EEXISTS = -7,
    KP_ECONFLICT = -8,         /* optimistic concurrency lost, or a precondition failed */
    KP_EEXPIRED = -9,          /* resource version or continue token too old (410) */
    KP_ETOOLARGE = -10,
    KP_ETOOMANY = -11,         /* rate limit or quota of requests; retry later */
    KP_EUNAVAILABLE = -12,     /* peer not reachable, no leader, shutting down; retry later */
    KP_ETIMEOUT = -13,
    KP_ECANCELLED = -14,       /* the caller gave up */
    KP_ENOTSUPPORTED = -15,    /* method not allowed */
    KP_EMEDIATYPE = -16,       /* 415 */
    KP_ENOTACCEPTABLE = -17,   /* 406 */
    KP_EIO = -18,              /* a system call on a file or socket failed */
    KP_ECORRUPT = -19,         /* stored or received bytes contradict their checksum or format */
    KP_EUSAGE = -20,           /* wrong command line */
    KP_EQUOTA = -21,           /* cloud or store quota */
    KP_EAGAIN = -22,           /* nothing to do now; not a failure */
    KP_CODE_MIN = -22,
};
#define KP_ERROR_MESSAGE_MAX 1024 /* bytes, with the NUL; longer messages are cut */
struct kp_error {
    int code;                           /* enum kp_code; 0 when nothing went wrong */
    int64_t retry_after_ms;             /* of KP_ETOOMANY and KP_EUNAVAILABLE: what the other side asked to wait; 0: it did not say */
    char message[KP_ERROR_MESSAGE_MAX]; /* outermost context first: "control plane cp-0: read ca.crt: No such file" */
};
struct kp_code_info {
    const char *name;   /* "NOT_FOUND" */
    const char *reason; /* metav1.Status reason: "NotFound" */
    int http_status;
    int exit_status;
};
const struct kp_code_info *kp_code_info(int code);
/* Sets *error (may be NULL) and returns code. */
int kp_fail(struct kp_error *error, int code, const char *format, ...) KP_PRINTF(3, 4);
/* Like kp_fail with ": strerror(errno)" appended and the code chosen from errno (ENOENT -> KP_ENOTFOUND, ...). */
int kp_fail_errno(struct kp_error *error, const char *format, ...) KP_PRINTF(2, 3);
/* Puts "context: " before the message and returns the code that is there. */
int kp_wrap(struct kp_error *error, const char *format, ...) KP_PRINTF(2, 3);

/* ---- arena: memory with one lifetime (a request, a reconcile, a decode) --------------------------------------- */
struct kp_arena;
#define KP_ARENA_CAP_DEFAULT ((size_t)256 << 20)
struct kp_arena *kp_arena_new(size_t cap_bytes); /* 0: KP_ARENA_CAP_DEFAULT; first block is allocated lazily */
void kp_arena_free(struct kp_arena *arena);      /* accepts NULL */
void kp_arena_reset(struct kp_arena *arena);     /* frees everything but the arena itself */
size_t kp_arena_used(const struct kp_arena *arena);
KP_DEFINE_AUTO(struct kp_arena *, kp_arena_free)
/* 16-byte aligned, zeroed. Over the cap: kp_arena_try gives NULL, kp_arena_alloc asserts. */
void *kp_arena_try(struct kp_arena *arena, size_t size);
void *kp_arena_alloc(struct kp_arena *arena, size_t size);
char *kp_arena_strdup(struct kp_arena *arena, const char *s); /* NULL gives NULL */
char *kp_arena_strndup(struct kp_arena *arena, const char *s, size_t len);
void *kp_arena_memdup(struct kp_arena *arena, const void *p, size_t len);
char *kp_arena_printf(struct kp_arena *arena, const char *format, ...) KP_PRINTF(2, 3);
char *kp_arena_vprintf(struct kp_arena *arena, const char *format, va_list ap);
#define KP_NEW(arena, type) ((type *)kp_arena_alloc((arena), sizeof(type)))
#define KP_NEW_ARRAY(arena, type, count) ((type *)kp_arena_alloc((arena), sizeof(type) * (count)))

/* ---- growable byte buffer ------------------------------------------------------------------------------------- */
/* data is always NUL-terminated when non-NULL; len excludes the NUL. Zero-initialise to start. */
struct kp_buf {
    char *data;
    size_t len, cap;
};
void kp_buf_done(struct kp_buf *buf); /* frees and zeroes */
static inline __attribute__((unused)) void kp_buf_done_auto(struct kp_buf *buf) { kp_buf_done(buf); }
#define KP_AUTO_BUF __attribute__((cleanup(kp_buf_done_auto)))
void kp_buf_reserve(struct kp_buf *buf, size_t extra);
void kp_buf_append(struct kp_buf *buf, const void *data, size_t len);
void kp_buf_puts(struct kp_buf *buf, const char *s);
void kp_buf_putc(struct kp_buf *buf, char c);
void kp_buf_printf(struct kp_buf *buf, const char *format, ...) KP_PRINTF(2, 3);
void kp_buf_consume(struct kp_buf *buf, size_t len); /* drops len bytes from the front */
char *kp_buf_take(struct kp_buf *buf); /* the NUL-terminated bytes, caller frees; the buffer is empty afterwards */

/* A borrowed range of bytes. */
struct kp_bytes {
    const uint8_t *data;
    size_t len;
};

/* Counted immutable bytes that cross threads. */
struct kp_blob {
    int refs; /* atomic */
    size_t len;
    uint8_t data[]; /* len bytes and a NUL */
};
struct kp_blob *kp_blob_new(const void *data, size_t len); /* copies; data NULL leaves it for the maker to fill in */
struct kp_blob *kp_blob_ref(struct kp_blob *blob);
void kp_blob_unref(struct kp_blob *blob); /* accepts NULL */
KP_DEFINE_AUTO(struct kp_blob *, kp_blob_unref)

/* ---- string helpers ------------------------------------------------------------------------------------------- */
bool kp_streq(const char *a, const char *b); /* NULL equals NULL only */
bool kp_starts_with(const char *s, const char *prefix);
bool kp_ends_with(const char *s, const char *suffix);
bool kp_empty(const char *s); /* NULL or "" */
/* Decimal; the whole string must be the number. Returns 0 or KP_EBADREQUEST. */
int kp_parse_i64(const char *s, int64_t *ret_value);
int kp_parse_u64(const char *s, uint64_t *ret_value);
/* Go's duration syntax ("1h2m3.5s", "300ms", "0"); nanoseconds. Returns 0 or KP_EBADREQUEST. */
int kp_parse_duration_ns(const char *s, int64_t *ret_ns);
/* The same syntax as Go prints it: "1h2m3.5s", "1.5ms", "0s". */
#define KP_DURATION_MAX 32
void kp_format_duration(char out[KP_DURATION_MAX], int64_t ns);
/* Of the NULL-terminated known words the one that a slip of the keyboard could have made into word, or NULL. */
const char *kp_closest(const char *word, const char *const *known);
size_t kp_base64_encoded_len(size_t len);
void kp_base64_encode(struct kp_buf *out, const void *data, size_t len);    /* standard alphabet, padded */
int kp_base64_decode(struct kp_buf *out, const char *s, size_t len);        /* strict; 0 or KP_EBADREQUEST */
void kp_base64url_encode(struct kp_buf *out, const void *data, size_t len); /* RFC 4648 5, no padding */
int kp_base64url_decode(struct kp_buf *out, const char *s, size_t len);
void kp_hex_encode(struct kp_buf *out, const void *data, size_t len);
uint64_t kp_hash64(const void *data, size_t len);  /* FNV-1a 64: stable over runs and machines */
uint32_t kp_crc32c(uint32_t crc, const void *data, size_t len); /* Castagnoli; pass 0 to start */
bool kp_equal_constant_time(const void *a, const void *b, size_t len);

/* ---- hash map from strings to pointers; keys are copied, values borrowed -------------------------------------- */
struct kp_strmap;
struct kp_strmap *kp_strmap_new(void);
void kp_strmap_free(struct kp_strmap *map, void (*free_value)(void *)); /* accepts NULL; free_value may be NULL */
void *kp_strmap_get(const struct kp_strmap *map, const char *key);      /* NULL when absent */
void *kp_strmap_put(struct kp_strmap *map, const char *key, void *value); /* gives back the value replaced, or NULL */
void *kp_strmap_remove(struct kp_strmap *map, const char *key);         /* gives back the value, or NULL */
size_t kp_strmap_len(const struct kp_strmap *map);
/* Walks in no order: iter starts at 0; false at the end. Removing the entry just returned is allowed. */
bool kp_strmap_next(const struct kp_strmap *map, size_t *iter, const char **ret_key, void **ret_value);

/* ---- time ----------------------------------------------------------------------------------------------------- */
int64_t kp_now_ns(void);  /* wall clock, nanoseconds since 1970 */
int64_t kp_now_s(void);
int64_t kp_mono_ns(void); /* monotonic */
int64_t kp_mono_ms(void);
void kp_sleep_ms(int64_t ms);
/* How long whoever polls rests after a look that took took_ms: eight times as long, within the bounds. On a slow machine, or against
   a slow server, looking must not be all that happens. */
int64_t kp_rest_ms(int64_t took_ms, int64_t min_ms, int64_t max_ms);
/* Rests so after a look that began at *began_ms (kp_mono_ms), and notes there when the next one begins. */
void kp_rest(int64_t *began_ms, int64_t min_ms, int64_t max_ms);
#define KP_RFC3339_MAX 40
/* "2026-11-21T03:57:00Z", or with 6 fractional digits when micro (Kubernetes MicroTime). */
void kp_format_rfc3339(char out[KP_RFC3339_MAX], int64_t seconds, int32_t nanos, bool micro);
int kp_parse_rfc3339(const char *s, int64_t *ret_seconds, int32_t *ret_nanos); /* any offset; 0 or KP_EBADREQUEST */

/* ---- random --------------------------------------------------------------------------------------------------- */
void kp_random_bytes(void *out, size_t len); /* getrandom(2) */
uint64_t kp_random_u64(void);
void kp_uuid4(char out[37]);
/* The suffix alphabet of Kubernetes' generateName: "bcdfghjklmnpqrstvwxz2456789". Writes len characters and a NUL. */
void kp_random_suffix(char *out, size_t len);

/* ---- logs ----------------------------------------------------------------------------------------------------- */
/* One line each on stderr: I1121 03:57:00.123456 program "pod bound" pod="default/a" node="w1". Arguments are pairs of
   strings, ended by NULL. Never pass a secret. */
enum kp_log_level { KP_LOG_ERROR, KP_LOG_WARNING, KP_LOG_INFO, KP_LOG_DEBUG };
void kp_log_init(const char *program, enum kp_log_level level);
bool kp_log_enabled(enum kp_log_level level);
void kp_log(enum kp_log_level level, const char *message, ...) __attribute__((sentinel));
#define kp_error_log(...) kp_log(KP_LOG_ERROR, __VA_ARGS__)
#define kp_warn(...) kp_log(KP_LOG_WARNING, __VA_ARGS__)
#define kp_info(...) kp_log(KP_LOG_INFO, __VA_ARGS__)
#define kp_debug(...) (kp_log_enabled(KP_LOG_DEBUG) ? kp_log(KP_LOG_DEBUG, __VA_ARGS__) : (void)0)

/* ---- files ---------------------------------------------------------------------------------------------------- */
/* Reads a whole file of at most max bytes (0: 64 MiB); appends to *out. */
int kp_read_file(const char *path, size_t max, struct kp_buf *out, struct kp_error *error) KP_NODISCARD;
/* Writes it all, however many calls that takes; the name is for the error, whose code is errno's (KP_EIO for most). */
int kp_write_all(int fd, const void *data, size_t len, const char *name, struct kp_error *error) KP_NODISCARD;
/* Temporary file beside it, fsync, rename, fsync of the folder. */
int kp_write_file(const char *path, const void *data, size_t len, unsigned mode, struct kp_error *error) KP_NODISCARD;
int kp_mkdir_p(const char *path, unsigned mode, struct kp_error *error) KP_NODISCARD;
/* Removes a tree without crossing into other mounts and without following links; absent is fine. */
int kp_remove_tree(const char *path, struct kp_error *error) KP_NODISCARD;
bool kp_path_exists(const char *path);

/* ---- processes ------------------------------------------------------------------------------------------------ */
/* Runs argv (NULL-terminated; PATH is searched), waits at most timeout_ms (0: no bound; on expiry it is killed and the
   call fails with KP_ETIMEOUT). out and err_out, when not NULL, receive stdout and stderr (each cut at 16 MiB).
   *ret_status gets the exit status (128 + signal when killed); failing to start at all is an error. */
int kp_run(const char *const argv[], int64_t timeout_ms, struct kp_buf *out, struct kp_buf *err_out, int *ret_status,
           struct kp_error *error) KP_NODISCARD;

/* ---- command lines: flags in the upstream spelling --flag=value or --flag value ------------------------------- */
enum kp_flag_kind { KP_FLAG_STRING, KP_FLAG_BOOL, KP_FLAG_I64, KP_FLAG_DURATION /* int64 ns */, KP_FLAG_STRINGS /* repeatable */ };
struct kp_flag {
    const char *name;   /* without dashes */
    char short_name;    /* 0: none */
    enum kp_flag_kind kind;
    void *value;        /* const char **, bool *, int64_t *, int64_t *, struct kp_strings * */
    const char *help;
    const char *env;    /* environment variable that sets it when the flag is absent, or NULL */
};
struct kp_strings {
    char **items;
    size_t len;
};
void kp_strings_add(struct kp_strings *strings, const char *s); /* copies */
void kp_strings_done(struct kp_strings *strings);
/* flags ends with name == NULL. argv[0] is skipped; words that are no flags, and everything after "--", are moved to
   *ret_rest (copies; may be NULL, then any is an error). Unknown flags and bad values fail with KP_EUSAGE.
   A "--help" or "-h" sets *ret_help when ret_help is not NULL. String values are borrowed from argv or environ. */
int kp_flags_parse(const struct kp_flag *flags, int argc, char **argv, struct kp_strings *ret_rest, bool *ret_help,
                   struct kp_error *error) KP_NODISCARD;
void kp_flags_print(const struct kp_flag *flags, FILE *out);

/* ---- metrics: a process-wide registry in the Prometheus text format ------------------------------------------- */
struct kp_metric; /* one family; thread-safe; lives as long as the process */
/* label_names: NULL-terminated list or NULL. Names and help are borrowed for good. */
struct kp_metric *kp_counter(const char *name, const char *help, const char *const *label_names);
struct kp_metric *kp_gauge(const char *name, const char *help, const char *const *label_names);
/* buckets: ascending upper bounds, bucket_count of them, borrowed for good. */
struct kp_metric *kp_histogram(const char *name, const char *help, const char *const *label_names,
                               const double *buckets, size_t bucket_count);
/* Label values follow in the order of label_names, as const char *. At most 4096 series a family; more are folded
   into a series whose values are "other". */
void kp_metric_add(struct kp_metric *metric, double delta, ...);
void kp_metric_set(struct kp_metric *metric, double value, ...);
void kp_metric_observe(struct kp_metric *metric, double value, ...);
void kp_metrics_write(struct kp_buf *out); /* the whole registry, with process_* families, text format 0.0.4 */

#endif
