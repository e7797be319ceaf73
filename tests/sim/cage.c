/* Running a member's code, which may crash at any call that it makes. */
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>

#include "tests/sim/disk.h"

static struct cage_owner *current;
static jmp_buf landing;
static enum cage_end landed;
static _Thread_local bool is_main;
static _Atomic bool crash_pending; /* met on a helper thread */

void libc_owner(struct cage_owner *owner);
struct cage_owner *libc_current(void);

struct cage_owner *cage_owner(void) { return is_main ? current : NULL; }

struct cage_owner *cage_leave(void)
{
    struct cage_owner *owner = current;
    current = NULL;
    return owner;
}

void cage_enter(struct cage_owner *owner) { current = owner; }

static _Noreturn void land(enum cage_end end)
{
    current = NULL;
    libc_owner(NULL);
    landed = end;
    longjmp(landing, 1);
}

_Noreturn void cage_crash(void) { land(CAGE_CRASHED); }

enum cage_end cage_run(struct cage_owner *owner, void (*fn)(void *arg), void *arg)
{
    KP_ASSERT(!current);
    /* One member asks another: the asker's turn goes on after the answer. */
    struct cage_owner *const outer = libc_current();
    bool outer_pending = crash_pending;
    jmp_buf outer_landing;
    memcpy(outer_landing, landing, sizeof landing);
    crash_pending = false;
    landed = CAGE_RETURNED;
    if (setjmp(landing) == 0) {
        current = owner;
        libc_owner(owner);
        fn(arg);
    }
    enum cage_end end = landed == CAGE_RETURNED && crash_pending ? CAGE_CRASHED : landed;
    memcpy(landing, outer_landing, sizeof landing);
    landed = CAGE_RETURNED;
    crash_pending = outer_pending;
    current = NULL;
    libc_owner(outer);
    return end;
}

bool cage_count_io(struct cage_owner *owner)
{
    counters.io_calls++;
    if (!is_main) { /* the copying thread of LMDB: its own calls alone are counted while it lives */
        if (owner->crash_at_io && --owner->crash_at_io == 0)
            crash_pending = true;
        return crash_pending;
    }
    if (crash_pending)
        return true;
    return owner->crash_at_io && --owner->crash_at_io == 0;
}

int64_t cage_mono_ns(const struct cage_owner *owner)
{
    int64_t ns = sim_now_ns + owner->busy_ns;
    return ns + owner->mono_offset_ns + ns / 1000000 * owner->skew_ppm;
}

/* ---- ways in which a member ends itself ---- */

static _Noreturn void die(const char *what, const char *detail)
{
    struct cage_owner *owner = libc_current();
    snprintf(owner->death, sizeof owner->death, "%s: %s", what, detail);
    land(CAGE_DIED);
}

void cage_die(void *ctx, struct etcd_server *server, const char *what, const struct kp_error *error)
{
    if (!cage_owner())
        sim_fail("sim", "a member ends itself outside of its code: %s", what);
    die(what, error ? error->message : "");
}

_Noreturn void __real__exit(int status);
_Noreturn void __wrap__exit(int status);
_Noreturn void __wrap__exit(int status)
{
    if (cage_owner())
        die("exits", "_exit");
    __real__exit(status);
}

_Noreturn void __real_abort(void);
_Noreturn void __wrap_abort(void);
_Noreturn void __wrap_abort(void)
{
    if (cage_owner())
        die("aborts", "abort");
    __real_abort();
}

_Noreturn void __wrap_kp_assert_fail(const char *expr, const char *file, int line);
_Noreturn void __wrap_kp_assert_fail(const char *expr, const char *file, int line)
{
    char text[200];
    snprintf(text, sizeof text, "%s:%d: %s", file, line, expr);
    if (cage_owner())
        die("assertion", text);
    fprintf(stderr, "assertion of the simulator failed: %s\n", text);
    __real_abort();
}

/* A wild read of a damaged database ends a process; here, the member. */
static void on_signal(int number)
{
    if (is_main && libc_current()) {
        sigset_t set;
        sigemptyset(&set);
        sigaddset(&set, number);
        sigprocmask(SIG_UNBLOCK, &set, NULL);
        die("signal", number == SIGSEGV ? "SIGSEGV" : number == SIGBUS ? "SIGBUS" : number == SIGFPE ? "SIGFPE" : "?");
    }
    signal(number, SIG_DFL);
    raise(number);
}

void cage_init(void)
{
    static uint8_t stack[65536];
    is_main = true;
    stack_t alternative = {.ss_sp = stack, .ss_size = sizeof stack};
    sigaltstack(&alternative, NULL);
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_ONSTACK | SA_NODEFER};
    sigaction(SIGSEGV, &action, NULL);
    sigaction(SIGBUS, &action, NULL);
    sigaction(SIGFPE, &action, NULL);
}
