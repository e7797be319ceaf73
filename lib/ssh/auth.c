/* Logging in: a key given as text, a key file, then the keys of the agent. */
#include "ssh/ssh_internal.h"

struct login {
    struct sshc *ssh;
    const char *user;
    int64_t deadline_ms;
    struct kp_buf tried; /* what did not log in, for the error */
    struct kp_error *error;
};

static void note(struct login *login, const char *what)
{
    char *text = NULL;
    libssh2_session_last_error(login->ssh->session, &text, NULL, 0);
    kp_buf_printf(&login->tried, "%s%s (%s)", login->tried.len ? ", " : "", what, text && *text ? text : "refused");
}

/* 0 when logged in, KP_EAGAIN when this key was not taken, else what failed. */
static int try_key(struct login *login, const char *what, const char *text, size_t len)
{
    int r, failed;
    LIBSSH2_SESSION *session = login->ssh->session;
    SSHC_REPEAT(login->ssh, r, failed, login->deadline_ms, "log in", login->error,
                libssh2_userauth_publickey_frommemory(session, login->user, strlen(login->user), NULL, 0, text, len, NULL));
    if (failed < 0)
        return failed;
    if (r == 0)
        return 0;
    if (r == LIBSSH2_ERROR_SOCKET_DISCONNECT || r == LIBSSH2_ERROR_SOCKET_RECV || r == LIBSSH2_ERROR_SOCKET_SEND)
        return sshc_fail(login->ssh, KP_EUNAVAILABLE, "log in", login->error);
    if (strstr(text, "ENCRYPTED") || r == LIBSSH2_ERROR_FILE || r == LIBSSH2_ERROR_KEYFILE_AUTH_FAILED)
        kp_buf_printf(&login->tried, "%s%s (cannot be read: with a passphrase it must be in the agent)",
                      login->tried.len ? ", " : "", what);
    else
        note(login, what);
    return KP_EAGAIN;
}

static int try_file(struct login *login, const char *path)
{
    KP_AUTO_BUF struct kp_buf text = {0};
    int r = kp_read_file(path, SSHC_KEY_FILE_MAX, &text, login->error);
    if (r < 0)
        return kp_wrap(login->error, "ssh %s: key file", login->ssh->name);
    r = try_key(login, path, text.data ? text.data : "", text.len);
    if (text.data)
        explicit_bzero(text.data, text.len);
    return r;
}

static int try_identities(struct login *login, LIBSSH2_AGENT *agent)
{
    struct libssh2_agent_publickey *identity = NULL, *previous = NULL;
    if (libssh2_agent_list_identities(agent) < 0) {
        note(login, "the agent");
        return KP_EAGAIN;
    }
    size_t count = 0;
    while (libssh2_agent_get_identity(agent, &identity, previous) == 0) {
        int r, failed;
        SSHC_REPEAT(login->ssh, r, failed, login->deadline_ms, "log in by the agent", login->error,
                    libssh2_agent_userauth(agent, login->user, identity));
        if (failed < 0 || r == 0)
            return failed < 0 ? failed : 0;
        previous = identity;
        count++;
    }
    kp_buf_printf(&login->tried, "%sthe agent's %zu keys", login->tried.len ? ", " : "", count);
    return KP_EAGAIN;
}

static int try_agent(struct login *login)
{
    LIBSSH2_AGENT *agent = libssh2_agent_init(login->ssh->session);
    KP_ASSERT(agent);
    int r = KP_EAGAIN;
    if (libssh2_agent_connect(agent) < 0) {
        kp_buf_printf(&login->tried, "%sno agent (%s)", login->tried.len ? ", " : "",
                      getenv("SSH_AUTH_SOCK") ? "it does not answer" : "SSH_AUTH_SOCK is not set");
    } else {
        r = try_identities(login, agent);
        libssh2_agent_disconnect(agent);
    }
    libssh2_agent_free(agent);
    return r;
}

int sshc_log_in(struct sshc *ssh, const struct sshc_target *target, int64_t deadline_ms, struct kp_error *error)
{
    struct login login = {.ssh = ssh, .user = kp_empty(target->user) ? "root" : target->user, .deadline_ms = deadline_ms, .error = error};
    int r = KP_EAGAIN;
    if (target->identity)
        r = try_key(&login, "the key given", target->identity, strlen(target->identity));
    if (r == KP_EAGAIN && !kp_empty(target->identity_file))
        r = try_file(&login, target->identity_file);
    if (r == KP_EAGAIN && target->agent)
        r = try_agent(&login);
    if (r == KP_EAGAIN)
        r = kp_fail(error, KP_EUNAUTHORIZED, "ssh %s: not logged in; tried: %s: is the public key in ~%s/.ssh/authorized_keys there?",
                    ssh->name, login.tried.len ? login.tried.data : "no key at all", login.user);
    kp_buf_done(&login.tried);
    return r;
}
