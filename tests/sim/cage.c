/* Running a member's code, which may crash at any call that it makes. */
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>

#include "tests/sim/disk.h"

static struct guard_owner *current;
static jmp_buf landing;
static enum guard_end landed;
static _Thread_local bool is_main;
static _Atomic bool crash_pending; /* met on a helper thread */

void libc_owner(struct guard_owner *owner);
struct guard_owner *libc_current(void);

struct guard_owner *guard_owner(void) { return is_main ? current : NULL; }

struct guard_owner *guard_leave(void)
{
    struct guard_owner *owner = current;
    current = NULL;
    return owner;
}

void guard_enter(struct guard_owner *owner) { current = owner; }

static _Noreturn void land(enum guard_end end)
{
    current = NULL;
    libc_owner(NULL);
    landed = end;
    longjmp(landing, 1);
}

_Noreturn void guard_crash(void) { land(GUARD_CRASHED); }

enum guard_end guard_run(struct guard_owner *owner, void (*fn)(void *arg), void *arg)
{
    KP_ASSERT(!current);
    /* One member asks another: the asker's turn goes on after the answer. */
    struct guard_owner *const outer = libc_current();
    bool outer_pending = crash_pending;
    jmp_buf outer_landing;
    memcpy(outer_landing, landing, sizeof landing);
    crash_pending = false;
    landed = GUARD_RETURNED;
    if (setjmp(landing) == 0) {
        current = owner;
        libc_owner(owner);
        fn(arg);
    }
    enum guard_end end = landed == GUARD_RETURNED && crash_pending ? GUARD_CRASHED : landed;
    memcpy(landing, outer_landing, sizeof landing);
    landed = GUARD_RETURNED;
    crash_pending = outer_pending;
    current = NULL;
    libc_owner(outer);
    return end;
}

bool guard_count_io(struct guard_owner *owner)
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

int64_t guard_mono_ns(const struct guard_owner *owner)
{
    int64_t ns = sim_now_ns + owner->busy_ns;
    return ns + owner->mono_offset_ns + ns / 1000000 * owner->skew_ppm;
}

/* ---- ways in which a member ends itself ---- */

static _Noreturn void die(const char *what, const char *detail)
{
    struct guard_owner *owner = libc_current();
    snprintf(owner->death, sizeof owner->death, "%s: %s", what, detail);
    land(GUARD_DIED);
}

void guard_die(void *ctx, struct etcd_server *server, const char *what, const struct kp_error *error)
{
    if (!guard_owner())
        sim_fail("sim", "a member ends itself outside of its code: %s", what);
    die(what, error ? error->message : "");
}

_Noreturn void __real__exit(int status);
_Noreturn void __wrap__exit(int status);
_Noreturn void __wrap__exit(int status)
{
    if (guard_owner())
        die("exits", "_exit");
    __real__exit(status);
}

_Noreturn void __real_abort(void);
_Noreturn void __wrap_abort(void);
_Noreturn void __wrap_abort(void)
{
    if (guard_owner())
        die("aborts", "abort");
    __real_abort();
}

_Noreturn void __wrap_kp_assert_fail(const char *expr, const char *file, int line);
_Noreturn void __wrap_kp_assert_fail(const char *expr, const char *file, int line)
{
    char text[200];
    snprintf(text, sizeof text, "%s:%d: %s", file, line, expr);
    if (guard_owner())
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

void guard_init(void)
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
