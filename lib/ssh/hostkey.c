/* Host keys: which lines of a known_hosts text are about a host, and whether the server's key is one of them. */
#include "ssh/ssh_internal.h"
#include "tls/tls.h"

static const struct {
    int known, session;
    const char *method;
} kinds[] = {
    {LIBSSH2_KNOWNHOST_KEY_ED25519, LIBSSH2_HOSTKEY_TYPE_ED25519, "ssh-ed25519"},
    {LIBSSH2_KNOWNHOST_KEY_ECDSA_256, LIBSSH2_HOSTKEY_TYPE_ECDSA_256, "ecdsa-sha2-nistp256"},
    {LIBSSH2_KNOWNHOST_KEY_ECDSA_384, LIBSSH2_HOSTKEY_TYPE_ECDSA_384, "ecdsa-sha2-nistp384"},
    {LIBSSH2_KNOWNHOST_KEY_ECDSA_521, LIBSSH2_HOSTKEY_TYPE_ECDSA_521, "ecdsa-sha2-nistp521"},
    {LIBSSH2_KNOWNHOST_KEY_SSHRSA, LIBSSH2_HOSTKEY_TYPE_RSA, "ssh-rsa"},
};
#define CHECK_FLAGS (LIBSSH2_KNOWNHOST_TYPE_PLAIN | LIBSSH2_KNOWNHOST_KEYENC_RAW)

/* Whether a line is about the host, and the kind of its key: a key that nobody has never matches, but tells so. */
static bool about_host(struct sshc *ssh, const char *line, size_t len, const char *host, int port, int *ret_kind)
{
    LIBSSH2_KNOWNHOSTS *one = libssh2_knownhost_init(ssh->session);
    struct libssh2_knownhost *entry = NULL;
    bool about = one && libssh2_knownhost_readline(one, line, len, LIBSSH2_KNOWNHOST_FILE_OPENSSH) == 0 &&
                 libssh2_knownhost_checkp(one, host, port, "nobody", 6, CHECK_FLAGS, &entry) == LIBSSH2_KNOWNHOST_CHECK_MISMATCH;
    if (about)
        *ret_kind = entry->typemask & (int)LIBSSH2_KNOWNHOST_KEY_MASK;
    libssh2_knownhost_free(one);
    return about;
}

static void take_line(struct sshc *ssh, const char *line, size_t len, const char *host, int port, struct sshc_known *known,
                      unsigned *kinds_seen)
{
    static const char revoked[] = "@revoked ";
    bool bad = len > strlen(revoked) && strncmp(line, revoked, strlen(revoked)) == 0;
    int kind = 0;
    if (bad) {
        line += strlen(revoked);
        len -= strlen(revoked);
    }
    /* Certificates of hosts are not understood, so a line of their authority vouches for nothing. */
    if (len == 0 || line[0] == '@' || line[0] == '#' || known->n_good >= SSHC_HOST_KEYS_MAX ||
        !about_host(ssh, line, len, host, port, &kind))
        return;
    if (libssh2_knownhost_readline(bad ? known->revoked : known->good, line, len, LIBSSH2_KNOWNHOST_FILE_OPENSSH) < 0 || bad)
        return;
    known->n_good++;
    for (size_t i = 0; i < KP_ARRAY_LEN(kinds); i++)
        *kinds_seen |= kind == kinds[i].known ? 1u << i : 0;
}

int sshc_known_read(struct sshc *ssh, const char *text, const char *host, int port, struct sshc_known *ret,
                    struct kp_error *error)
{
    unsigned seen = 0;
    if (text && strlen(text) > SSHC_KNOWN_HOSTS_MAX)
        return kp_fail(error, KP_ETOOLARGE, "ssh %s: more than %zu bytes of known hosts", ssh->name, SSHC_KNOWN_HOSTS_MAX);
    ret->good = libssh2_knownhost_init(ssh->session);
    ret->revoked = libssh2_knownhost_init(ssh->session);
    KP_ASSERT(ret->good && ret->revoked);
    for (const char *line = text; line && *line;) {
        const char *end = strchrnul(line, '\n');
        const char *next = *end ? end + 1 : end; /* with its newline: libssh2 takes off one it sees behind the length, too */
        take_line(ssh, line, (size_t)(next - line), host, port, ret, &seen);
        line = next;
    }
    /* The server has several keys and shows one: it must be asked for one of those that are known. */
    for (size_t i = 0; i < KP_ARRAY_LEN(kinds); i++) {
        size_t len = strlen(ret->methods);
        if (seen & 1u << i)
            snprintf(ret->methods + len, sizeof(ret->methods) - len, "%s%s", len ? "," : "", kinds[i].method);
    }
    if (!ret->methods[0])
        return kp_fail(error, KP_EUNAUTHORIZED,
                       "ssh %s: no host key is known for it: add the line that `ssh-keyscan -p %d %s` prints, after comparing "
                       "its fingerprint on the machine itself", ssh->name, port, host);
    return 0;
}

int sshc_known_check(struct sshc *ssh, const struct sshc_known *known, const char *host, int port, struct kp_error *error)
{
    size_t len = 0;
    int type = 0, kind = LIBSSH2_KNOWNHOST_KEY_UNKNOWN;
    const char *key = libssh2_session_hostkey(ssh->session, &len, &type);
    if (!key)
        return kp_fail(error, KP_EUNAUTHORIZED, "ssh %s: the server has shown no host key", ssh->name);
    for (size_t i = 0; i < KP_ARRAY_LEN(kinds); i++)
        kind = kinds[i].session == type ? kinds[i].known : kind;
    KP_AUTO_BUF struct kp_buf fingerprint = {0};
    uint8_t hash[TLS_SHA256_BYTES];
    tls_sha256(key, len, hash);
    kp_base64_encode(&fingerprint, hash, sizeof(hash));
    while (fingerprint.len && fingerprint.data[fingerprint.len - 1] == '=')
        fingerprint.data[--fingerprint.len] = 0;
    if (libssh2_knownhost_checkp(known->revoked, host, port, key, len, CHECK_FLAGS | kind, NULL) == LIBSSH2_KNOWNHOST_CHECK_MATCH)
        return kp_fail(error, KP_EUNAUTHORIZED, "ssh %s: its host key SHA256:%s is revoked: do not log in there", ssh->name,
                       fingerprint.data);
    if (libssh2_knownhost_checkp(known->good, host, port, key, len, CHECK_FLAGS | kind, NULL) != LIBSSH2_KNOWNHOST_CHECK_MATCH)
        return kp_fail(error, KP_EUNAUTHORIZED,
                       "ssh %s: its host key SHA256:%s is not the one that is known: another machine answers there, or it was "
                       "installed anew; nothing was sent to it", ssh->name, fingerprint.data);
    return 0;
}

void sshc_known_done(struct sshc_known *known)
{
    if (known->good)
        libssh2_knownhost_free(known->good);
    if (known->revoked)
        libssh2_knownhost_free(known->revoked);
}
