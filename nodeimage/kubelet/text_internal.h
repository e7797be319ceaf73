/* Pure text helpers of the kubelet: variable expansion, /etc/hosts, resolv.conf, the CRI log format, restart back-off. */
#ifndef KUBELET_TEXT_INTERNAL_H
#define KUBELET_TEXT_INTERNAL_H

#include "lib/base/base.h"

/* ---- $(VAR) expansion ------------------------------------------------------------------------------------------ */
/* Gives the variable's value (borrowed) or NULL. */
typedef const char *(*kubelet_lookup_fn)(void *arg, const char *name, size_t name_len);
/* "$(NAME)" becomes the value, or stays as written when lookup knows none; "$$" becomes "$". The result is in arena. */
char *kubelet_expand(struct kp_arena *arena, const char *input, kubelet_lookup_fn lookup, void *lookup_arg);

/* ---- back-off of restarts and pulls ---------------------------------------------------------------------------- */
#define KUBELET_BACKOFF_INITIAL_MS 10000
#define KUBELET_BACKOFF_MAX_MS 300000
struct kubelet_backoff; /* keyed by text; thread-safe */
struct kubelet_backoff *kubelet_backoff_new(int64_t initial_ms, int64_t max_ms);
void kubelet_backoff_free(struct kubelet_backoff *backoff); /* accepts NULL */
/* How long after now_ms the key has to wait, counted from event_ms (when the last try ended); 0: not at all. An entry not
   touched for twice the maximum before the event counts as none. Times are wall-clock milliseconds. */
int64_t kubelet_backoff_remaining_ms(struct kubelet_backoff *backoff, const char *key, int64_t event_ms, int64_t now_ms);
/* Doubles the key's delay (or starts it at the initial one): to be called when a try is made. */
void kubelet_backoff_next(struct kubelet_backoff *backoff, const char *key, int64_t event_ms, int64_t now_ms);
/* How long the key has to wait, counted from its last try; 0: not at all. */
int64_t kubelet_backoff_wait_ms(struct kubelet_backoff *backoff, const char *key, int64_t now_ms);
/* The delay in force; 0 when the key is unknown. */
int64_t kubelet_backoff_current_ms(struct kubelet_backoff *backoff, const char *key);
void kubelet_backoff_forget_prefix(struct kubelet_backoff *backoff, const char *prefix);

/* ---- resolv.conf ----------------------------------------------------------------------------------------------- */
#define KUBELET_DNS_SERVERS_MAX 3
#define KUBELET_DNS_SEARCHES_MAX 32
#define KUBELET_DNS_OPTIONS_MAX 32
struct kubelet_dns {
    const char *servers[KUBELET_DNS_SERVERS_MAX];
    const char *searches[KUBELET_DNS_SEARCHES_MAX];
    const char *options[KUBELET_DNS_OPTIONS_MAX];
    size_t n_servers, n_searches, n_options;
};
/* Parses resolv.conf text; entries over the limits are left out. Strings are copied into arena. */
void kubelet_dns_parse(struct kp_arena *arena, const char *text, size_t len, struct kubelet_dns *ret_dns);
/* Each adds (copying into arena) unless it is there already or the limit is reached. An option "name:value" replaces one
   of the same name. */
void kubelet_dns_add_server(struct kp_arena *arena, struct kubelet_dns *dns, const char *server);
void kubelet_dns_add_search(struct kp_arena *arena, struct kubelet_dns *dns, const char *search);
void kubelet_dns_add_option(struct kp_arena *arena, struct kubelet_dns *dns, const char *name, const char *value);

/* ---- container logs as CRI runtimes write them ------------------------------------------------------------------ */
struct kubelet_log_line {
    const char *timestamp;
    size_t timestamp_len;
    bool is_stderr;
    bool partial;
    const char *text; /* without the line end */
    size_t text_len;
};
/* "2016-10-06T00:17:09.669794202Z stdout F text". Borrows from line. 0 or KP_EBADREQUEST. */
int kubelet_log_parse(const char *line, size_t len, struct kubelet_log_line *ret_line);

enum kubelet_log_stream { KUBELET_LOG_ALL, KUBELET_LOG_STDOUT, KUBELET_LOG_STDERR };
struct kubelet_log_options {
    bool follow, timestamps;
    int64_t since_ns;    /* wall clock; lines before are left out; 0: all */
    int64_t tail_lines;  /* -1: all */
    int64_t limit_bytes; /* -1: no bound */
    enum kubelet_log_stream stream;
};
struct kubelet_log_sink {
    int (*write)(void *arg, const void *data, size_t len); /* negative ends the reading */
    bool (*running)(void *arg);                            /* the container still runs: a follower waits for more */
    void *arg;
};
/* Streams a container's log file to the sink, over rotations when following. Returns 0 at the end, KP_ENOTFOUND when there is
   no such file, or what write returned. */
int kubelet_log_read(const char *path, const struct kubelet_log_options *options, const struct kubelet_log_sink *sink,
                     struct kp_error *error);
/* The last lines of a log within max_bytes and max_lines as plain text (for termination messages), in arena. */
char *kubelet_log_tail(struct kp_arena *arena, const char *path, size_t max_bytes, size_t max_lines);
/* Offset in fd where the last `lines` lines begin. */
int64_t kubelet_log_tail_offset(int fd, int64_t lines);

#endif
