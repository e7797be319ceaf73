/* lib/ssh: an SSH client that trusts only host keys it was given - commands, files, and ed25519 keys in the formats of SSH.
 *
 * Files travel as the streams of a command, not by SFTP or SCP: the server needs neither, and `sudo` can be in front of it.
 * Names begin with sshc_, for libvirt brings libssh along, which has ssh_connect and its kind. */
#ifndef KP_SSH_H
#define KP_SSH_H

#include "lib/base/base.h"

#define SSHC_PORT 22
#define SSHC_KNOWN_HOSTS_MAX ((size_t)1 << 20)
#define SSHC_KEY_FILE_MAX ((size_t)64 << 10)
#define SSHC_OUTPUT_MAX ((size_t)16 << 20) /* of a command whose output is kept in memory; the rest is dropped */
#define SSHC_CONNECT_MS 10000
#define SSHC_KEEPALIVE_MS 5000
#define SSHC_DEAD_AFTER 3 /* keepalives without any answer */

/* ---- connections ---------------------------------------------------------------------------------------------- */
/* Who and how. Everything is borrowed by sshc_connect. */
struct sshc_target {
    const char *host; /* a name or an address */
    int port;         /* 0: 22 */
    const char *user; /* NULL: root */
    bool first_use;            /* any host key does: of a machine that has just made its own, which nobody can know; known_hosts does not count then */
    const char *known_hosts;   /* lines as ~/.ssh/known_hosts has them (hashed names, [host]:port, @revoked too) */
    const char *identity;      /* text of a private key, or NULL */
    const char *identity_file; /* a private key's file, or NULL */
    bool agent;                /* also ask the agent behind SSH_AUTH_SOCK, after the keys above */
    int64_t connect_timeout_ms; /* until logged in; 0: SSHC_CONNECT_MS */
    int64_t keepalive_ms;       /* how long the server may say nothing before it is asked to, from 2000 on; 0: SSHC_KEEPALIVE_MS */
};
struct sshc; /* one connection; used by one thread at a time */
/* KP_EUNAUTHORIZED when the server's host key is not one that is known, or no key logs in; KP_EUNAVAILABLE when nobody
   answers; KP_ETIMEOUT. A host of which known_hosts has no key is refused before a byte is sent. */
int sshc_connect(const struct sshc_target *target, struct sshc **ret_ssh, struct kp_error *error) KP_NODISCARD;
void sshc_close(struct sshc *ssh); /* accepts NULL; does not wait for the peer */
KP_DEFINE_AUTO(struct sshc *, sshc_close)

/* ---- commands ------------------------------------------------------------------------------------------------- */
struct sshc_command {
    const char *line;    /* for the login shell of the user */
    const void *input;   /* what its standard input is, or NULL */
    size_t input_len;
    int stdin_fd;        /* copied to its standard input; -1: none. Not together with input */
    int stdout_fd, stderr_fd; /* -1: to out and err_out */
    struct kp_buf *out, *err_out; /* NULL: dropped */
    int64_t timeout_ms;  /* 0: as long as the server answers keepalives */
};
/* *ret_status: the exit status, 128 + signal when it was killed. Failing to run, or losing the server, is an error. */
int sshc_run(struct sshc *ssh, const struct sshc_command *command, int *ret_status, struct kp_error *error) KP_NODISCARD;
/* A shell line's worth of what it printed, in which status other than 0 is an error that has its standard error. */
int sshc_shell(struct sshc *ssh, const char *line, int64_t timeout_ms, struct kp_buf *out, struct kp_error *error)
    KP_NODISCARD;
/* Appends a word as a POSIX shell reads it back. */
void sshc_quote(struct kp_buf *out, const char *word);
/* Appends words (NULL-terminated) with spaces between. */
void sshc_quote_words(struct kp_buf *out, const char *const *words);

/* ---- files ---------------------------------------------------------------------------------------------------- */
/* Writes `len` bytes to a file beside it, checks that all have come, and renames: never half a file under that name.
   prefix: words in front of the remote shell ("sudo -n "), or NULL. */
int sshc_upload(struct sshc *ssh, const char *prefix, const void *data, size_t len, const char *path, unsigned mode,
                int64_t timeout_ms, struct kp_error *error) KP_NODISCARD;
/* The same from a regular file that is open for reading, from its start. */
int sshc_upload_fd(struct sshc *ssh, const char *prefix, int fd, const char *path, unsigned mode, int64_t timeout_ms,
                   struct kp_error *error) KP_NODISCARD;
/* Appends a remote file; KP_ENOTFOUND, and KP_ETOOLARGE when it has more than max bytes. */
int sshc_download(struct sshc *ssh, const char *prefix, const char *path, size_t max, int64_t timeout_ms, struct kp_buf *out,
                  struct kp_error *error) KP_NODISCARD;

/* ---- keys ----------------------------------------------------------------------------------------------------- */
#define SSHC_SEED_BYTES 32
struct sshc_key { /* ed25519 (RFC 8032) */
    uint8_t seed[SSHC_SEED_BYTES]; /* the private half */
    uint8_t public_key[32];
};
void sshc_key_from_seed(const uint8_t seed[SSHC_SEED_BYTES], struct sshc_key *ret);
/* All append. A key as authorized_keys and *.pub have it: "ssh-ed25519 <base64> <comment>\n". */
void sshc_key_public_line(const struct sshc_key *key, const char *comment, struct kp_buf *out);
/* One line of known_hosts; names another port than 22. */
void sshc_key_host_line(const struct sshc_key *key, const char *host, int port, struct kp_buf *out);
/* The private key as OpenSSH keeps it in a file (PROTOCOL.key, no passphrase). */
void sshc_key_private_text(const struct sshc_key *key, const char *comment, struct kp_buf *out);
/* The private key as dropbear keeps it in a file; binary. */
void sshc_key_dropbear(const struct sshc_key *key, struct kp_buf *out);

#endif
