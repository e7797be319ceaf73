/* lib/cloud/rest: requests to a cloud's REST or query API over libcurl - bounded, retried, counted. All drivers of clouds use it.
 *
 * A request has a deadline over all its attempts. An attempt that could not connect, or was answered with 429 or 503, is made again; one whose
 * answer was lost, or that was answered with 500, 502 or 504, only when the request may be repeated (`repeatable`). Between attempts it waits with
 * full jitter (Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog 2015): base 200 ms doubling up to 10 s, or as long as
 * Retry-After (seconds or date) says when that is longer; a wait that would go past the deadline is not begun and the last answer stands.
 * Redirects are not followed. TLS certificates are verified. Secrets never appear in logs or errors. */
#ifndef KP_CLOUD_REST_H
#define KP_CLOUD_REST_H

#include "base/base.h"

#define REST_ANSWER_MAX ((size_t)64 << 20) /* bytes of a body; a larger one is KP_ETOOLARGE */
#define REST_HEADERS_MAX 64                /* of a request */

struct rest; /* kept connections; calls may come from several threads */
struct rest_options {
    const char *cloud;          /* for metrics, errors and the user agent: "openstack" */
    const char *ca_file;        /* instead of the system's; NULL or "": the system's */
    bool insecure;              /* do not verify certificates (clouds.yaml's verify: false) */
    int64_t attempt_timeout_ms; /* of one attempt, uploads aside; 0: 30 s */
    int64_t deadline_ms;        /* over all attempts; 0: 2 min */
    int attempts_max;           /* 0: 8 */
};
int rest_new(const struct rest_options *options, struct rest **ret, struct kp_error *error) KP_NODISCARD;
void rest_free(struct rest *rest); /* accepts NULL */
KP_DEFINE_AUTO(struct rest *, rest_free)

struct rest_request {
    const char *operation;      /* for metrics and errors: "servers.create" */
    const char *method;         /* "GET" */
    const char *url;            /* whole, escaped */
    const char *const *headers; /* "Name: value", NULL-terminated; or NULL */
    const void *body;           /* or NULL; borrowed */
    size_t body_len;
    int upload_fd;              /* with upload_len > 0: a file sent from its start instead of body; rewound for each attempt */
    int64_t upload_len;
    bool repeatable;            /* GET, HEAD, PUT and DELETE are so anyhow */
    int64_t deadline_ms;        /* instead of the options'; 0: theirs */
    const char *sigv4;          /* "aws:amz:eu-west-1:ec2": signed by libcurl with the two below; NULL: not */
    const char *user, *secret;  /* of sigv4; a session token is a header */
};
struct rest_answer { /* in the arena */
    int status;
    const char *body; /* a NUL follows */
    size_t body_len;
    const char *const *headers; /* "Name: value" as they came, NULL-terminated */
    int attempts;
    int64_t retry_after_ms; /* what the last answer asked for; 0: nothing */
};
/* 0 with any answer of the server, also 404 or 500; KP_EUNAVAILABLE, KP_ETIMEOUT, KP_ETOOLARGE when there is none. */
int rest_do(struct rest *rest, const struct rest_request *request, struct kp_arena *arena, struct rest_answer *ret, struct kp_error *error)
    KP_NODISCARD;
/* The first value of a header, case-insensitive; NULL. */
const char *rest_header(const struct rest_answer *answer, const char *name);
/* The error that a status means: 400, 422 KP_EINVALID; 401 KP_EUNAUTHORIZED; 403 KP_EFORBIDDEN; 404, 410 KP_ENOTFOUND; 409, 412 KP_ECONFLICT;
   413 KP_ETOOLARGE; 408 KP_ETIMEOUT; 429 KP_ETOOMANY; 5xx KP_EUNAVAILABLE; others KP_EINTERNAL. */
int rest_code(int status);
/* Fails with rest_code of the answer, its Retry-After, and "<operation>: <status>: <detail>"; detail is what the cloud said (cut at 400 bytes). */
int rest_fail(const struct rest_request *request, const struct rest_answer *answer, const char *detail, struct kp_error *error);
/* Appends s with everything but letters, digits and "-_.~" as %XX (RFC 3986, upper case as SigV4 wants it). */
void rest_escape(struct kp_buf *out, const char *s);

#endif
