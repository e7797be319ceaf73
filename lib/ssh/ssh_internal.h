/* What the files of the SSH client share: the session, and waiting for it with a deadline. */
#ifndef KP_SSH_INTERNAL_H
#define KP_SSH_INTERNAL_H

#include <libssh2.h>

#include "ssh/ssh.h"

struct sshc {
    LIBSSH2_SESSION *session; /* never blocks: every wait is ours, with a deadline */
    int fd;
    char *name;              /* "root@10.0.0.5", with ":2222" when the port is another: for errors */
    int64_t keepalive_ms;
    int64_t heard_ms, asked_ms; /* when the server last said something, and when it was last asked to */
};

/* Waits until the session may go on (0) or extra_fd (-1: none) can be read (1). Sends keepalives. deadline_ms on kp_mono_ms's
   clock, 0: none. KP_ETIMEOUT says `doing`. */
int sshc_wait(struct sshc *ssh, int extra_fd, int64_t deadline_ms, const char *doing, struct kp_error *error);
/* An error of libssh2 as ours: "root@10.0.0.5: doing: what it says". */
int sshc_fail(struct sshc *ssh, int code, const char *doing, struct kp_error *error);
int64_t sshc_deadline(int64_t timeout_ms); /* 0 stays 0 */

/* Repeats a call of libssh2 that gives a negative code until it does not ask to come again. `r` gets its result, `failed` 0
   or one of our codes from waiting. */
#define SSHC_REPEAT(ssh, r, failed, deadline_ms, doing, error, call)                                                   \
    do {                                                                                                               \
        (failed) = 0;                                                                                                  \
        while (((r) = (call)) == LIBSSH2_ERROR_EAGAIN) {                                                               \
            (failed) = sshc_wait((ssh), -1, (deadline_ms), (doing), (error));                                          \
            if ((failed) < 0)                                                                                          \
                break;                                                                                                 \
        }                                                                                                              \
    } while (0)

/* ---- hostkey.c */
#define SSHC_HOST_KEYS_MAX 64 /* lines of one host */
struct sshc_known { /* the lines that are about one host */
    LIBSSH2_KNOWNHOSTS *good, *revoked;
    size_t n_good;
    char methods[256]; /* the kinds of those keys, as libssh2_session_method_pref wants them */
};
int sshc_known_read(struct sshc *ssh, const char *text, const char *host, int port, struct sshc_known *ret,
                    struct kp_error *error);
int sshc_known_check(struct sshc *ssh, const struct sshc_known *known, const char *host, int port, struct kp_error *error);
void sshc_known_done(struct sshc_known *known);

/* ---- auth.c */
int sshc_log_in(struct sshc *ssh, const struct sshc_target *target, int64_t deadline_ms, struct kp_error *error);

#endif
