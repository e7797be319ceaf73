/* The SSH client against a real sshd on a loopback port. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "ssh/ssh.h"

#define SSHD "/usr/sbin/sshd"

static struct world {
    char dir[64];
    int port;
    pid_t sshd, agent;
    struct sshc_key host, user;
    struct kp_buf known, identity;
} world;

static const char *in_dir(const char *name, char out[128])
{
    snprintf(out, 128, "%s/%s", world.dir, name);
    return out;
}

static void write_text(const char *name, const char *text, size_t len)
{
    char path[128];
    struct kp_error error = {0};
    assert_int_equal(kp_write_file(in_dir(name, path), text, len, 0600, &error), 0);
}

static void run_tool(const char *const argv[])
{
    KP_AUTO_BUF struct kp_buf complaint = {0};
    struct kp_error error = {0};
    int status = 0;
    if (kp_run(argv, 20000, NULL, &complaint, &status, &error) < 0 || status != 0)
        fail_msg("%s: %s%s", argv[0], error.message, complaint.data ? complaint.data : "");
}

static int listen_on(int *ret_port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0 && bind(fd, (struct sockaddr *)&address, len) == 0 && listen(fd, 4) == 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &len), 0);
    *ret_port = ntohs(address.sin_port);
    return fd;
}

static bool answers(int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons((uint16_t)port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool yes = connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0;
    close(fd);
    return yes;
}

static pid_t start(const char *const argv[], const char *log)
{
    char path[128];
    int fd = open(in_dir(log, path), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    pid_t pid = fork();
    if (pid == 0) {
        dup2(fd, 1);
        dup2(fd, 2);
        execv(argv[0], (char *const *)(uintptr_t)argv);
        _exit(127);
    }
    close(fd);
    assert_true(pid > 0);
    return pid;
}

static void start_sshd(void)
{
    char config[128], ed25519[128], ecdsa[128], authorized[128];
    KP_AUTO_BUF struct kp_buf text = {0};
    KP_AUTO_BUF struct kp_buf line = {0};
    sshc_key_private_text(&world.host, "host", &text);
    write_text("host_ed25519", text.data, text.len);
    run_tool((const char *const[]){"ssh-keygen", "-q", "-t", "ecdsa", "-N", "", "-f", in_dir("host_ecdsa", ecdsa), NULL});
    sshc_key_public_line(&world.user, "user", &line);
    write_text("authorized_keys", line.data, line.len);
    text.len = 0;
    kp_buf_printf(&text,
                  "ListenAddress 127.0.0.1:%d\nHostKey %s\nHostKey %s\nAuthorizedKeysFile %s\nStrictModes no\nUsePAM no\n"
                  "PasswordAuthentication no\nKbdInteractiveAuthentication no\nPidFile none\nPermitRootLogin yes\nMaxStartups 100\n",
                  world.port, in_dir("host_ed25519", ed25519), ecdsa, in_dir("authorized_keys", authorized));
    write_text("sshd_config", text.data, text.len);
    mkdir("/run/sshd", 0755); /* which sshd wants, and Debian's unit makes */
    world.sshd = start((const char *const[]){SSHD, "-D", "-e", "-f", in_dir("sshd_config", config), NULL}, "sshd.log");
    for (int i = 0; i < 500 && !answers(world.port); i++) {
        assert_int_equal(waitpid(world.sshd, NULL, WNOHANG), 0);
        kp_sleep_ms(20);
    }
}

static int make_world(void **state)
{
    uint8_t seed[SSHC_SEED_BYTES];
    snprintf(world.dir, sizeof(world.dir), "/tmp/kprov-test-ssh-XXXXXX");
    assert_non_null(mkdtemp(world.dir));
    int fd = listen_on(&world.port);
    close(fd);
    kp_random_bytes(seed, sizeof(seed));
    sshc_key_from_seed(seed, &world.host);
    kp_random_bytes(seed, sizeof(seed));
    sshc_key_from_seed(seed, &world.user);
    sshc_key_host_line(&world.host, "127.0.0.1", world.port, &world.known);
    sshc_key_private_text(&world.user, "user", &world.identity);
    if (kp_path_exists(SSHD))
        start_sshd();
    return 0;
}

static int end_world(void **state)
{
    struct kp_error error = {0};
    const pid_t pids[] = {world.sshd, world.agent};
    for (size_t i = 0; i < KP_ARRAY_LEN(pids); i++) {
        if (pids[i] > 0) {
            kill(pids[i], SIGTERM);
            waitpid(pids[i], NULL, 0);
        }
    }
    kp_buf_done(&world.known);
    kp_buf_done(&world.identity);
    return kp_remove_tree(world.dir, &error);
}

static struct sshc_target good_target(void)
{
    if (!world.sshd)
        skip(); /* named missing capability: openssh-server is not installed */
    return (struct sshc_target){.host = "127.0.0.1", .port = world.port, .known_hosts = world.known.data, .identity = world.identity.data};
}

static struct sshc *connect_well(void)
{
    struct sshc_target target = good_target();
    struct kp_error error = {0};
    struct sshc *ssh = NULL;
    if (sshc_connect(&target, &ssh, &error) < 0)
        fail_msg("%s", error.message);
    return ssh;
}

static void expect_refused(const struct sshc_target *target, int code, const char *part)
{
    struct kp_error error = {0};
    struct sshc *ssh = NULL;
    int r = sshc_connect(target, &ssh, &error);
    if (r != code || !strstr(error.message, part))
        fail_msg("%d %s; expected \"%s\"", r, error.message, part);
    assert_null(ssh);
}

/* ---- commands */
static void command_has_streams_and_a_status(void **state)
{
    KP_AUTO(sshc_close) struct sshc *ssh = connect_well();
    KP_AUTO_BUF struct kp_buf out = {0};
    KP_AUTO_BUF struct kp_buf complaint = {0};
    struct kp_error error = {0};
    int status = 0;
    struct sshc_command command = {.line = "tr a-z A-Z; echo bad >&2; exit 7", .input = "some text", .input_len = 9, .stdin_fd = -1,
                                   .stdout_fd = -1, .stderr_fd = -1, .out = &out, .err_out = &complaint};
    assert_int_equal(sshc_run(ssh, &command, &status, &error), 0);
    assert_int_equal(status, 7);
    assert_string_equal(out.data, "SOME TEXT");
    assert_string_equal(complaint.data, "bad\n");
    /* A second one on the same connection. */
    command.line = "kill -TERM $$";
    assert_int_equal(sshc_run(ssh, &command, &status, &error), 0);
    assert_int_equal(status, 128 + SIGTERM);
}

static void much_goes_both_ways_at_once(void **state)
{
    KP_AUTO(sshc_close) struct sshc *ssh = connect_well();
    KP_AUTO_BUF struct kp_buf out = {0};
    struct kp_error error = {0};
    size_t len = (size_t)5 << 20;
    KP_AUTO_FREE char *data = kp_malloc(len);
    for (size_t i = 0; i < len; i++)
        data[i] = (char)(i * 31 + i / 997);
    int status = -1;
    const struct sshc_command command = {
        .line = "cat", .input = data, .input_len = len, .stdin_fd = -1, .stdout_fd = -1, .stderr_fd = -1, .out = &out};
    assert_int_equal(sshc_run(ssh, &command, &status, &error), 0);
    assert_int_equal(status, 0);
    assert_int_equal(out.len, len);
    assert_memory_equal(out.data, data, len);
}

static void descriptors_are_copied_through(void **state)
{
    KP_AUTO(sshc_close) struct sshc *ssh = connect_well();
    struct kp_error error = {0};
    int in[2], out[2], status = -1;
    char text[16] = {0};
    assert_true(pipe(in) == 0 && pipe(out) == 0);
    assert_int_equal(write(in[1], "hello", 5), 5);
    close(in[1]);
    const struct sshc_command command = {.line = "cat; exit 3", .stdin_fd = in[0], .stdout_fd = out[1], .stderr_fd = -1};
    assert_int_equal(sshc_run(ssh, &command, &status, &error), 0);
    assert_int_equal(status, 3);
    assert_int_equal(read(out[0], text, sizeof(text)), 5);
    assert_string_equal(text, "hello");
    close(in[0]);
    close(out[0]);
    close(out[1]);
}

static void command_that_does_not_read_its_input_ends(void **state)
{
    KP_AUTO(sshc_close) struct sshc *ssh = connect_well();
    struct kp_error error = {0};
    size_t len = (size_t)8 << 20;
    KP_AUTO_FREE char *data = kp_calloc(1, len);
    int status = -1;
    const struct sshc_command command = {
        .line = "exit 5", .input = data, .input_len = len, .stdin_fd = -1, .stdout_fd = -1, .stderr_fd = -1};
    assert_int_equal(sshc_run(ssh, &command, &status, &error), 0);
    assert_int_equal(status, 5);
}

static void command_that_takes_too_long_is_given_up(void **state)
{
    KP_AUTO(sshc_close) struct sshc *ssh = connect_well();
    struct kp_error error = {0};
    assert_int_equal(sshc_shell(ssh, "exec sleep 100", 200, NULL, &error), KP_ETIMEOUT);
    assert_non_null(strstr(error.message, "root@127.0.0.1"));
}

static void failing_shell_line_says_what_it_said(void **state)
{
    KP_AUTO(sshc_close) struct sshc *ssh = connect_well();
    struct kp_error error = {0};
    assert_int_equal(sshc_shell(ssh, "echo no such disk >&2; exit 9", 0, NULL, &error), KP_EIO);
    assert_non_null(strstr(error.message, "ended with 9: no such disk"));
}

static void quiet_server_that_lives_is_kept(void **state)
{
    struct sshc_target target = good_target();
    struct kp_error error = {0};
    KP_AUTO(sshc_close) struct sshc *ssh = NULL;
    target.keepalive_ms = 2200; /* libssh2 asks every 2 s at most; without answers the server would be given up after 6.6 s */
    assert_int_equal(sshc_connect(&target, &ssh, &error), 0);
    assert_int_equal(sshc_shell(ssh, "sleep 7.5", 0, NULL, &error), 0);
}

static void server_that_falls_silent_is_given_up(void **state)
{
    struct sshc_target target = good_target();
    struct kp_error error = {0};
    KP_AUTO(sshc_close) struct sshc *ssh = NULL;
    KP_AUTO_BUF struct kp_buf out = {0};
    target.keepalive_ms = 100;
    assert_int_equal(sshc_connect(&target, &ssh, &error), 0);
    assert_int_equal(sshc_shell(ssh, "echo $PPID", 0, &out, &error), 0);
    int64_t pid = 0;
    out.data[strcspn(out.data, "\n")] = 0;
    assert_int_equal(kp_parse_i64(out.data, &pid), 0);
    assert_int_equal(kill((pid_t)pid, SIGSTOP), 0);
    assert_int_equal(sshc_shell(ssh, "true", 0, NULL, &error), KP_ETIMEOUT);
    assert_non_null(strstr(error.message, "no sign of the server"));
    kill((pid_t)pid, SIGCONT);
}

static void server_that_dies_is_noticed(void **state)
{
    KP_AUTO(sshc_close) struct sshc *ssh = connect_well();
    struct kp_error error = {0};
    assert_int_equal(sshc_shell(ssh, "kill -9 $PPID; sleep 30", 0, NULL, &error), KP_EUNAVAILABLE);
}

/* ---- files */
static void file_goes_there_and_back(void **state)
{
    KP_AUTO(sshc_close) struct sshc *ssh = connect_well();
    KP_AUTO_BUF struct kp_buf out = {0};
    struct kp_error error = {0};
    struct stat st;
    char path[128];
    static const char data[] = "one\0two";
    in_dir("it's a file", path);
    assert_int_equal(sshc_upload(ssh, NULL, data, sizeof(data), path, 0640, 0, &error), 0);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0640);
    assert_int_equal(sshc_download(ssh, "env ", path, 100, 0, &out, &error), 0);
    assert_int_equal(out.len, sizeof(data));
    assert_memory_equal(out.data, data, sizeof(data));
    KP_AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_int_equal(sshc_upload_fd(ssh, NULL, fd, in_dir("copy", path), 0600, 0, &error), 0);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_size, sizeof(data));
    assert_int_equal(sshc_upload(ssh, NULL, NULL, 0, path, 0600, 0, &error), 0);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_size, 0);
}

static void half_a_file_does_not_get_the_name(void **state)
{
    KP_AUTO(sshc_close) struct sshc *ssh = connect_well();
    struct kp_error error = {0};
    char path[128];
    in_dir("half", path);
    /* As when the connection breaks: the input ends early. */
    assert_int_equal(sshc_upload(ssh, "head -c 3 | ", "abcdef", 6, path, 0600, 0, &error), KP_EIO);
    assert_non_null(strstr(error.message, "only 3 of 6 bytes"));
    assert_int_equal(access(path, F_OK), -1);
    assert_int_equal(sshc_shell(ssh, "set -- /tmp/kprov-test-ssh-*/half*.tmp; [ ! -e \"$1\" ]", 0, NULL, &error), 0);
}

static void file_that_is_not_there_or_too_long_is_an_error(void **state)
{
    KP_AUTO(sshc_close) struct sshc *ssh = connect_well();
    KP_AUTO_BUF struct kp_buf out = {0};
    struct kp_error error = {0};
    char path[128];
    assert_int_equal(sshc_download(ssh, NULL, in_dir("absent", path), 100, 0, &out, &error), KP_ENOTFOUND);
    write_text("long", "0123456789", 10);
    assert_int_equal(sshc_download(ssh, NULL, in_dir("long", path), 9, 0, &out, &error), KP_ETOOLARGE);
    assert_int_equal(out.len, 0);
    assert_int_equal(sshc_download(ssh, NULL, path, 10, 0, &out, &error), 0);
    assert_int_equal(sshc_upload(ssh, NULL, "x", 1, "/no/such/folder/file", 0600, 0, &error), KP_EIO);
    assert_non_null(strstr(error.message, "/no/such/folder/file"));
}

/* ---- host keys */
static void host_without_a_known_key_is_refused(void **state)
{
    struct sshc_target target = good_target();
    target.known_hosts = "# nothing\n\nother.example ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINdamAGCsQq31Uv+08lkBzoO4XLz2qYjJa8CGmj3B1Ea\n";
    expect_refused(&target, KP_EUNAUTHORIZED, "ssh-keyscan -p");
    target.known_hosts = NULL;
    expect_refused(&target, KP_EUNAUTHORIZED, "no host key is known");
}

static void another_host_key_is_refused(void **state)
{
    struct sshc_target target = good_target();
    KP_AUTO_BUF struct kp_buf line = {0};
    sshc_key_host_line(&world.user, "127.0.0.1", world.port, &line);
    target.known_hosts = line.data;
    expect_refused(&target, KP_EUNAUTHORIZED, "is not the one that is known");
    /* Beside the right one it does no harm: a machine may have several. */
    kp_buf_puts(&line, world.known.data);
    target.known_hosts = line.data;
    struct sshc *ssh = NULL;
    struct kp_error error = {0};
    assert_int_equal(sshc_connect(&target, &ssh, &error), 0);
    sshc_close(ssh);
}

static void revoked_host_key_is_refused(void **state)
{
    struct sshc_target target = good_target();
    KP_AUTO_BUF struct kp_buf text = {0};
    kp_buf_printf(&text, "%s@revoked %s", world.known.data, world.known.data);
    target.known_hosts = text.data;
    expect_refused(&target, KP_EUNAUTHORIZED, "is revoked");
}

static void authority_of_certificates_vouches_for_nothing(void **state)
{
    struct sshc_target target = good_target();
    KP_AUTO_BUF struct kp_buf text = {0};
    kp_buf_printf(&text, "@cert-authority %s", world.known.data);
    target.known_hosts = text.data;
    expect_refused(&target, KP_EUNAUTHORIZED, "no host key is known");
}

static void server_is_asked_for_the_kind_of_key_that_is_known(void **state)
{
    struct sshc_target target = good_target();
    KP_AUTO_BUF struct kp_buf text = {0}, key = {0};
    struct kp_error error = {0};
    struct sshc *ssh = NULL;
    char path[128];
    assert_int_equal(kp_read_file(in_dir("host_ecdsa.pub", path), 0, &key, &error), 0);
    kp_buf_printf(&text, "[127.0.0.1]:%d %s", world.port, key.data);
    target.known_hosts = text.data;
    if (sshc_connect(&target, &ssh, &error) < 0)
        fail_msg("%s", error.message);
    sshc_close(ssh);
}

static void hashed_names_are_understood(void **state)
{
    struct sshc_target target = good_target();
    KP_AUTO_BUF struct kp_buf text = {0};
    struct kp_error error = {0};
    struct sshc *ssh = NULL;
    char path[128];
    write_text("known", world.known.data, world.known.len);
    run_tool((const char *const[]){"ssh-keygen", "-q", "-H", "-f", in_dir("known", path), NULL});
    assert_int_equal(kp_read_file(path, 0, &text, &error), 0);
    assert_null(strstr(text.data, "127.0.0.1"));
    target.known_hosts = text.data;
    if (sshc_connect(&target, &ssh, &error) < 0)
        fail_msg("%s", error.message);
    sshc_close(ssh);
}

/* ---- logging in */
static void key_that_is_not_authorised_is_refused(void **state)
{
    struct sshc_target target = good_target();
    KP_AUTO_BUF struct kp_buf text = {0};
    sshc_key_private_text(&world.host, "another", &text);
    target.identity = text.data;
    expect_refused(&target, KP_EUNAUTHORIZED, "the key given");
    target.identity = "no key\n";
    expect_refused(&target, KP_EUNAUTHORIZED, "the key given");
    target.identity = NULL;
    expect_refused(&target, KP_EUNAUTHORIZED, "no key at all");
}

static void key_files_are_read(void **state)
{
    struct sshc_target target = good_target();
    struct kp_error error = {0};
    struct sshc *ssh = NULL;
    char path[128], secret[128];
    write_text("id", world.identity.data, world.identity.len);
    target.identity = NULL;
    target.identity_file = in_dir("id", path);
    assert_int_equal(sshc_connect(&target, &ssh, &error), 0);
    sshc_close(ssh);
    target.identity_file = in_dir("absent", secret);
    expect_refused(&target, KP_ENOTFOUND, "absent");
    run_tool((const char *const[]){"ssh-keygen", "-q", "-t", "ed25519", "-N", "passphrase", "-f", in_dir("secret", secret), NULL});
    target.identity_file = secret;
    expect_refused(&target, KP_EUNAUTHORIZED, "must be in the agent");
}

static void agent_logs_in(void **state)
{
    struct sshc_target target = good_target();
    struct kp_error error = {0};
    struct sshc *ssh = NULL;
    char socket_path[128], path[128];
    target.identity = NULL;
    target.agent = true;
    unsetenv("SSH_AUTH_SOCK");
    expect_refused(&target, KP_EUNAUTHORIZED, "SSH_AUTH_SOCK is not set");
    in_dir("agent.sock", socket_path);
    world.agent = start((const char *const[]){"/usr/bin/ssh-agent", "-D", "-a", socket_path, NULL}, "agent.log");
    for (int i = 0; i < 500 && !kp_path_exists(socket_path); i++)
        kp_sleep_ms(20);
    setenv("SSH_AUTH_SOCK", socket_path, 1);
    expect_refused(&target, KP_EUNAUTHORIZED, "the agent's 0 keys");
    write_text("id", world.identity.data, world.identity.len);
    run_tool((const char *const[]){"ssh-add", "-q", in_dir("id", path), NULL});
    if (sshc_connect(&target, &ssh, &error) < 0)
        fail_msg("%s", error.message);
    sshc_close(ssh);
    unsetenv("SSH_AUTH_SOCK");
}

/* ---- servers that are none */
static void nobody_there_says_so(void **state)
{
    int port = 0;
    int fd = listen_on(&port);
    KP_AUTO_BUF struct kp_buf line = {0};
    sshc_key_host_line(&world.host, "127.0.0.1", port, &line);
    struct sshc_target target = {.host = "127.0.0.1", .port = port, .known_hosts = line.data, .identity = world.identity.data,
                                 .connect_timeout_ms = 200};
    expect_refused(&target, KP_ETIMEOUT, "handshake"); /* it accepts and says nothing */
    close(fd);
    expect_refused(&target, KP_EUNAVAILABLE, "does sshd run there");
    target.host = "no-such-name.invalid";
    line.len = 0;
    sshc_key_host_line(&world.host, target.host, port, &line);
    target.known_hosts = line.data;
    struct sshc *ssh = NULL;
    struct kp_error error = {0};
    assert_true(sshc_connect(&target, &ssh, &error) < 0);
    assert_non_null(strstr(error.message, "look up \"no-such-name.invalid\""));
    target.host = "";
    expect_refused(&target, KP_EINVALID, "needs a host");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(command_has_streams_and_a_status),
        cmocka_unit_test(much_goes_both_ways_at_once),
        cmocka_unit_test(descriptors_are_copied_through),
        cmocka_unit_test(command_that_does_not_read_its_input_ends),
        cmocka_unit_test(command_that_takes_too_long_is_given_up),
        cmocka_unit_test(failing_shell_line_says_what_it_said),
        cmocka_unit_test(quiet_server_that_lives_is_kept),
        cmocka_unit_test(server_that_falls_silent_is_given_up),
        cmocka_unit_test(server_that_dies_is_noticed),
        cmocka_unit_test(file_goes_there_and_back),
        cmocka_unit_test(half_a_file_does_not_get_the_name),
        cmocka_unit_test(file_that_is_not_there_or_too_long_is_an_error),
        cmocka_unit_test(host_without_a_known_key_is_refused),
        cmocka_unit_test(another_host_key_is_refused),
        cmocka_unit_test(revoked_host_key_is_refused),
        cmocka_unit_test(authority_of_certificates_vouches_for_nothing),
        cmocka_unit_test(server_is_asked_for_the_kind_of_key_that_is_known),
        cmocka_unit_test(hashed_names_are_understood),
        cmocka_unit_test(key_that_is_not_authorised_is_refused),
        cmocka_unit_test(key_files_are_read),
        cmocka_unit_test(agent_logs_in),
        cmocka_unit_test(nobody_there_says_so),
    };
    return cmocka_run_group_tests(tests, make_world, end_world);
}
