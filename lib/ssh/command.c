/* Runs a command on the server: its three streams to descriptors or buffers, its exit status back. */
#include <errno.h>
#include <unistd.h>

#include "ssh/ssh_internal.h"

#define CHUNK 32768

struct run {
    struct sshc *ssh;
    const struct sshc_command *command;
    LIBSSH2_CHANNEL *channel;
    int64_t deadline_ms;
    char input[CHUNK]; /* read from stdin_fd and not yet sent */
    const char *next;
    size_t left;
    bool input_ended, eof_sent;
    struct kp_error *error;
};

static int write_all(struct run *run, int fd, const char *data, size_t len)
{
    while (len > 0) {
        ssize_t n = write(fd, data, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return kp_fail_errno(run->error, "ssh %s: write the command's output", run->ssh->name);
        data += n;
        len -= (size_t)n;
    }
    return 0;
}

/* One stream as far as it goes; *ret_moved is set when there was something. */
static int take_output(struct run *run, int stream, int fd, struct kp_buf *out, bool *ret_moved)
{
    char chunk[CHUNK];
    for (;;) {
        ssize_t n = libssh2_channel_read_ex(run->channel, stream, chunk, sizeof(chunk));
        if (n == LIBSSH2_ERROR_EAGAIN || n == 0)
            return 0;
        if (n < 0)
            return sshc_fail(run->ssh, KP_EUNAVAILABLE, "read the command's output", run->error);
        *ret_moved = true;
        run->ssh->heard_ms = kp_mono_ms();
        if (fd >= 0) {
            int r = write_all(run, fd, chunk, (size_t)n);
            if (r < 0)
                return r;
        } else if (out) {
            kp_buf_append(out, chunk, KP_MIN((size_t)n, SSHC_OUTPUT_MAX - KP_MIN(out->len, SSHC_OUTPUT_MAX)));
        }
    }
}

static int read_input(struct run *run)
{
    ssize_t n = read(run->command->stdin_fd, run->input, sizeof(run->input));
    if (n < 0 && (errno == EINTR || errno == EAGAIN))
        return 0;
    if (n < 0)
        return kp_fail_errno(run->error, "ssh %s: read the command's input", run->ssh->name);
    run->input_ended = n == 0;
    run->next = run->input;
    run->left = (size_t)n;
    return 0;
}

/* *ret_half: a packet is half out, and libssh2 takes nothing else before its rest has gone. */
static int give_input(struct run *run, bool *ret_moved, bool *ret_half)
{
    *ret_half = false;
    while (run->left > 0) {
        ssize_t n = libssh2_channel_write_ex(run->channel, 0, run->next, run->left);
        if (n == LIBSSH2_ERROR_EAGAIN) {
            *ret_half = (libssh2_session_block_directions(run->ssh->session) & LIBSSH2_SESSION_BLOCK_OUTBOUND) != 0;
            return 0;
        }
        if (n < 0) /* a command that has ended does not read any more: its status says how it went */
            return libssh2_channel_eof(run->channel) ? 0 : sshc_fail(run->ssh, KP_EUNAVAILABLE, "send the command's input", run->error);
        *ret_moved = true;
        run->next += n;
        run->left -= (size_t)n;
    }
    if (!run->input_ended || run->eof_sent)
        return 0;
    int r = libssh2_channel_send_eof(run->channel);
    if (r < 0 && r != LIBSSH2_ERROR_EAGAIN)
        return sshc_fail(run->ssh, KP_EUNAVAILABLE, "end the command's input", run->error);
    run->eof_sent = r == 0;
    *ret_half = r == LIBSSH2_ERROR_EAGAIN;
    return 0;
}

static int pump(struct run *run)
{
    const struct sshc_command *command = run->command;
    for (;;) {
        bool moved = false, half = false;
        int r = give_input(run, &moved, &half);
        if (r == 0 && !half)
            r = take_output(run, 0, command->stdout_fd, command->out, &moved);
        if (r == 0 && !half)
            r = take_output(run, SSH_EXTENDED_DATA_STDERR, command->stderr_fd, command->err_out, &moved);
        if (r < 0 || libssh2_channel_eof(run->channel))
            return r;
        if (run->deadline_ms && kp_mono_ms() > run->deadline_ms)
            return kp_fail(run->error, KP_ETIMEOUT, "ssh %s: the command took too long", run->ssh->name);
        if (moved)
            continue;
        bool wants_input = run->left == 0 && !run->input_ended;
        r = sshc_wait(run->ssh, wants_input ? command->stdin_fd : -1, run->deadline_ms, "run a command", run->error);
        if (r > 0)
            r = read_input(run);
        if (r < 0)
            return r;
    }
}

static int open_channel(struct run *run)
{
    struct sshc *ssh = run->ssh;
    for (;;) {
        run->channel = libssh2_channel_open_session(ssh->session);
        if (run->channel)
            break;
        if (libssh2_session_last_errno(ssh->session) != LIBSSH2_ERROR_EAGAIN)
            return sshc_fail(ssh, KP_EUNAVAILABLE, "open a channel", run->error);
        int r = sshc_wait(ssh, -1, run->deadline_ms, "open a channel", run->error);
        if (r < 0)
            return r;
    }
    int r, failed;
    SSHC_REPEAT(ssh, r, failed, run->deadline_ms, "start a command", run->error, libssh2_channel_exec(run->channel, run->command->line));
    if (failed < 0)
        return failed;
    return r < 0 ? sshc_fail(ssh, KP_EFORBIDDEN, "start a command", run->error) : 0;
}

/* RFC 4254 6.10 has names, a shell has numbers. */
static int signal_status(const char *name)
{
    static const struct {
        const char *name;
        int number;
    } signals[] = {{"ABRT", 6}, {"ALRM", 14}, {"FPE", 8},   {"HUP", 1},   {"ILL", 4},   {"INT", 2},  {"KILL", 9},
                   {"PIPE", 13}, {"QUIT", 3}, {"SEGV", 11}, {"TERM", 15}, {"USR1", 10}, {"USR2", 12}};
    for (size_t i = 0; i < KP_ARRAY_LEN(signals); i++) {
        if (kp_streq(signals[i].name, name))
            return 128 + signals[i].number;
    }
    return 255;
}

static int finish(struct run *run, int *ret_status)
{
    struct sshc *ssh = run->ssh;
    int64_t deadline_ms = run->deadline_ms ? run->deadline_ms : sshc_deadline(SSHC_CONNECT_MS);
    int r, failed;
    SSHC_REPEAT(ssh, r, failed, deadline_ms, "end a command", run->error, libssh2_channel_close(run->channel));
    if (failed == 0 && r == 0)
        SSHC_REPEAT(ssh, r, failed, deadline_ms, "end a command", run->error, libssh2_channel_wait_closed(run->channel));
    if (failed < 0 || r < 0)
        return failed < 0 ? failed : sshc_fail(ssh, KP_EUNAVAILABLE, "end a command", run->error);
    char *name = NULL;
    libssh2_channel_get_exit_signal(run->channel, &name, NULL, NULL, NULL, NULL, NULL);
    *ret_status = name ? signal_status(name) : libssh2_channel_get_exit_status(run->channel);
    if (name)
        libssh2_free(ssh->session, name);
    return 0;
}

int sshc_run(struct sshc *ssh, const struct sshc_command *command, int *ret_status, struct kp_error *error)
{
    struct run run = {.ssh = ssh, .command = command, .deadline_ms = sshc_deadline(command->timeout_ms), .error = error,
                      .next = command->input, .left = command->input ? command->input_len : 0,
                      .input_ended = command->input || command->stdin_fd < 0};
    ssh->heard_ms = kp_mono_ms(); /* nobody listened between two commands */
    int r = open_channel(&run);
    if (r == 0)
        r = pump(&run);
    if (r == 0)
        r = finish(&run, ret_status);
    if (run.channel) {
        int freed, failed; /* after a failure the connection may be dead: a second is enough to find out */
        SSHC_REPEAT(ssh, freed, failed, sshc_deadline(1000), "free a channel", NULL, libssh2_channel_free(run.channel));
        if (r == 0 && (freed < 0 || failed < 0))
            r = kp_fail(error, KP_EUNAVAILABLE, "ssh %s: the server did not end the command's channel", ssh->name);
    }
    return r;
}

int sshc_shell(struct sshc *ssh, const char *line, int64_t timeout_ms, struct kp_buf *out, struct kp_error *error)
{
    KP_AUTO_BUF struct kp_buf complaint = {0};
    const struct sshc_command command = {
        .line = line, .stdin_fd = -1, .stdout_fd = -1, .stderr_fd = -1, .out = out, .err_out = &complaint, .timeout_ms = timeout_ms};
    int status = 0;
    int r = sshc_run(ssh, &command, &status, error);
    while (complaint.len && complaint.data[complaint.len - 1] == '\n')
        complaint.data[--complaint.len] = 0;
    if (r == 0 && status != 0)
        r = kp_fail(error, KP_EIO, "ssh %s: a command ended with %d: %s", ssh->name, status,
                    complaint.len ? complaint.data : "it said nothing");
    return r;
}

void sshc_quote(struct kp_buf *out, const char *word)
{
    kp_buf_putc(out, '\'');
    for (; *word; word++) {
        if (*word == '\'')
            kp_buf_puts(out, "'\\''");
        else
            kp_buf_putc(out, *word);
    }
    kp_buf_putc(out, '\'');
}

void sshc_quote_words(struct kp_buf *out, const char *const *words)
{
    for (size_t i = 0; words[i]; i++) {
        if (i)
            kp_buf_putc(out, ' ');
        sshc_quote(out, words[i]);
    }
}
