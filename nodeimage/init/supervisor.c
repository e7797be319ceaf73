/* Supervises the node's services: starts them in order, restarts them with back-off, reaps orphans, stops all in order.
 *
 *   WAITING --socket accepts--> RUNNING --exit--> BACKOFF --time--> WAITING
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "init_internal.h"

#define WAIT_POLL_MS 10
#define STOP_FIRST_MS 3000  /* for the services, last started first */
#define STOP_OTHERS_MS 10000 /* for what they left: containers */
#define PIPE_CHUNK 16384

enum service_state { SERVICE_WAITING, SERVICE_RUNNING, SERVICE_BACKOFF };
struct service {
    const struct init_service *spec;
    enum service_state state;
    pid_t pid;
    int log_fd; /* read end of its stdout and stderr */
    struct init_log log;
    unsigned failures;
    int64_t started_ms, retry_ms;
};
struct supervisor {
    struct service services[INIT_SERVICES_MAX + INIT_OWN_SERVICES_MAX];
    size_t n_services;
    int signal_fd;
    int button_fd; /* -1: there is none */
    struct init_rtc rtc;
};

int64_t init_backoff_ms(unsigned *failures, int64_t ran_ms)
{
    if (ran_ms >= INIT_STABLE_MS)
        *failures = 0;
    int64_t delay = INIT_BACKOFF_MS_MIN;
    for (unsigned i = 0; i < *failures && delay < INIT_BACKOFF_MS_MAX; i++)
        delay *= 2;
    if (*failures < 64)
        (*failures)++;
    return KP_MIN(delay, INIT_BACKOFF_MS_MAX);
}

static bool socket_accepts(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof(address.sun_path))
        return false;
    memcpy(address.sun_path, path, strlen(path) + 1);
    KP_AUTO_CLOSE int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    return fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0;
}

static _Noreturn void run_child(const struct init_service *spec, int log_fd)
{
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    setsid();
    int null = open("/dev/null", O_RDONLY);
    if (null >= 0)
        dup2(null, STDIN_FILENO);
    dup2(log_fd, STDOUT_FILENO);
    dup2(log_fd, STDERR_FILENO);
    execv(spec->argv[0], (char *const *)spec->argv);
    dprintf(STDERR_FILENO, "kprov-init: run %s: %s\n", spec->argv[0], strerror(errno));
    _exit(127);
}

static void service_ended(struct service *service, int status)
{
    char text[64];
    snprintf(text, sizeof(text), WIFSIGNALED(status) ? "signal %d" : "exit status %d",
             WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
    service->pid = 0;
    service->state = SERVICE_BACKOFF;
    int64_t now = kp_mono_ms();
    int64_t delay = init_backoff_ms(&service->failures, now - service->started_ms);
    service->retry_ms = now + delay;
    kp_warn("service ended", "service", service->spec->name, "status", text, NULL);
}

static void start_service(struct service *service)
{
    int fds[2];
    init_remove_stale();
    service->started_ms = kp_mono_ms();
    if (pipe2(fds, O_CLOEXEC) < 0) {
        service_ended(service, 127 << 8);
        return;
    }
    pid_t pid = fork();
    if (pid == 0)
        run_child(service->spec, fds[1]);
    close(fds[1]);
    if (pid < 0) {
        close(fds[0]);
        service_ended(service, 127 << 8);
        return;
    }
    kp_close_fd(&service->log_fd);
    fcntl(fds[0], F_SETFL, O_NONBLOCK);
    service->log_fd = fds[0];
    service->pid = pid;
    service->state = SERVICE_RUNNING;
    kp_info("service started", "service", service->spec->name, NULL);
}

/* Moves each service on; gives the milliseconds until something is due, -1 when nothing is. */
static int advance(struct supervisor *supervisor)
{
    int64_t now = kp_mono_ms(), due = supervisor->rtc.fd >= 0 ? KP_MAX(supervisor->rtc.due_ms - now, 0) : -1;
    for (size_t i = 0; i < supervisor->n_services; i++) {
        struct service *service = &supervisor->services[i];
        if (service->state == SERVICE_BACKOFF && now >= service->retry_ms)
            service->state = SERVICE_WAITING;
        if (service->state == SERVICE_WAITING) {
            if (!service->spec->wait_for || socket_accepts(service->spec->wait_for))
                start_service(service);
        }
        int64_t wait = -1;
        if (service->state == SERVICE_WAITING)
            wait = WAIT_POLL_MS;
        else if (service->state == SERVICE_BACKOFF)
            wait = KP_MAX(service->retry_ms - now, 1);
        if (wait >= 0 && (due < 0 || wait < due))
            due = wait;
    }
    return (int)due;
}

/* Gives whether any child is left. */
static bool reap(struct supervisor *supervisor)
{
    for (;;) {
        int status = 0;
        pid_t pid = waitpid(-1, &status, WNOHANG);
        if (pid < 0)
            return errno != ECHILD;
        if (pid == 0)
            return true;
        for (size_t i = 0; i < supervisor->n_services; i++) {
            if (supervisor->services[i].pid == pid)
                service_ended(&supervisor->services[i], status);
        }
    }
}

static void copy_log(struct service *service)
{
    char chunk[PIPE_CHUNK];
    ssize_t n = read(service->log_fd, chunk, sizeof(chunk));
    if (n > 0)
        init_log_write(&service->log, chunk, (size_t)n);
    else if (n == 0 || (errno != EAGAIN && errno != EINTR))
        kp_close_fd(&service->log_fd);
}

/* Their files have changed: all but the first, the container runtime, start anew, at once. */
static void renew_services(struct supervisor *supervisor)
{
    for (size_t i = 1; i < supervisor->n_services; i++) {
        supervisor->services[i].failures = 0;
        if (supervisor->services[i].pid > 0 && !supervisor->services[i].spec->keeps_running)
            kill(supervisor->services[i].pid, SIGTERM);
    }
}

/* Waits for events at most timeout_ms and handles them; gives a signal that asks for power off, or 0. */
static int turn(struct supervisor *supervisor, int timeout_ms)
{
    struct pollfd polls[KP_ARRAY_LEN(supervisor->services) + 3] = {{.fd = supervisor->signal_fd, .events = POLLIN}};
    for (size_t i = 0; i < supervisor->n_services; i++)
        polls[i + 1] = (struct pollfd){.fd = supervisor->services[i].log_fd, .events = POLLIN};
    polls[supervisor->n_services + 1] = (struct pollfd){.fd = supervisor->button_fd, .events = POLLIN};
    polls[supervisor->n_services + 2] = (struct pollfd){.fd = supervisor->rtc.fd, .events = POLLIN};
    int ready = poll(polls, supervisor->n_services + 3, timeout_ms);
    if (supervisor->rtc.fd >= 0 && (polls[supervisor->n_services + 2].revents || kp_mono_ms() >= supervisor->rtc.due_ms))
        init_rtc_look(&supervisor->rtc);
    if (ready <= 0)
        return 0;
    for (size_t i = 0; i < supervisor->n_services; i++) {
        if (polls[i + 1].revents)
            copy_log(&supervisor->services[i]);
    }
    struct signalfd_siginfo info;
    int asked = init_button_pressed(supervisor->button_fd) ? SIGPWR : 0;
    while (read(supervisor->signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
        if (info.ssi_signo == SIGHUP)
            renew_services(supervisor);
        else if (info.ssi_signo != SIGCHLD)
            asked = (int)info.ssi_signo;
    }
    return asked;
}

static void drain_until(struct supervisor *supervisor, int64_t deadline_ms, pid_t pid)
{
    for (;;) {
        bool children = reap(supervisor);
        bool gone = pid ? kill(pid, 0) < 0 : !children;
        int64_t left = deadline_ms - kp_mono_ms();
        if (gone || left <= 0)
            return;
        (void)turn(supervisor, (int)KP_MIN(left, 50)); /* a second request changes nothing: it is stopping already */
    }
}

/* The kubelet first, so that it restarts nothing; then the containers; containerd's shims go with them. */
static void stop_all(struct supervisor *supervisor)
{
    for (size_t i = supervisor->n_services; i-- > 1;) {
        struct service *service = &supervisor->services[i];
        if (service->pid <= 0)
            continue;
        pid_t pid = service->pid;
        kill(pid, SIGTERM);
        drain_until(supervisor, kp_mono_ms() + STOP_FIRST_MS, pid);
    }
    kill(-1, SIGTERM);
    drain_until(supervisor, kp_mono_ms() + STOP_OTHERS_MS, 0);
    kill(-1, SIGKILL);
    drain_until(supervisor, kp_mono_ms() + STOP_FIRST_MS, 0);
}

static int open_signals(struct supervisor *supervisor, struct kp_error *error)
{
    sigset_t mask;
    sigemptyset(&mask);
    sigaddset(&mask, SIGCHLD);
    sigaddset(&mask, SIGTERM);
    sigaddset(&mask, SIGINT);
    sigaddset(&mask, SIGPWR);
    sigaddset(&mask, SIGHUP);
    if (sigprocmask(SIG_BLOCK, &mask, NULL) < 0)
        return kp_fail_errno(error, "block signals");
    supervisor->signal_fd = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
    if (supervisor->signal_fd < 0)
        return kp_fail_errno(error, "open a signalfd");
    return 0;
}

int init_supervise(const struct init_config *config, struct kp_error *error)
{
    struct supervisor supervisor = {.signal_fd = -1, .button_fd = init_button_open(), .rtc = {.fd = -1}};
    for (size_t i = 0; i < config->n_services; i++) {
        struct service *service = &supervisor.services[i];
        *service = (struct service){.spec = &config->services[i], .log_fd = -1, .log = {.fd = -1}};
        int r = init_log_open(&service->log, INIT_LOG_DIR, service->spec->name, INIT_LOG_BYTES_MAX, error);
        if (r < 0)
            return r;
        supervisor.n_services++;
    }
    int r = open_signals(&supervisor, error);
    if (r < 0)
        return r;
    init_rtc_open(&supervisor.rtc, config->time.wanted);
    int asked = 0;
    while (!asked) {
        reap(&supervisor);
        asked = turn(&supervisor, advance(&supervisor));
    }
    kp_info("stopping", "signal", strsignal(asked), NULL);
    stop_all(&supervisor);
    for (size_t i = 0; i < supervisor.n_services; i++) {
        kp_close_fd(&supervisor.services[i].log_fd);
        init_log_close(&supervisor.services[i].log);
    }
    kp_close_fd(&supervisor.signal_fd);
    kp_close_fd(&supervisor.button_fd);
    init_rtc_close(&supervisor.rtc);
    return asked;
}
