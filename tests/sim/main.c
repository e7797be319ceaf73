/* Runs seeds, each in a process of its own, and tells what was injected, what happened and what failed. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/sim/world.h"

#define RECOVERY_S 60        /* simulated: after everything healed the cluster serves within this */
#define SEED_SECONDS_MAX 120 /* real: a run that takes longer hangs */
#define JOBS_MAX 64
#define PLANT_SEEDS_MAX 1000

extern char **environ;
struct sim_counters counters;
bool sim_traces;
static bool stores; /* the store alone, without raft and server */
static const char *check_dir;
static char history_path[128];

/* What a child tells its parent. */
struct report {
    struct sim_counters counters;
    char checkers[128], message[1024];
    bool finished;
};
static struct report *report;

/* ---- failing ---- */

void sim_trace_line(const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    fprintf(stderr, "%10.6f ", (double)(sim_now_ns - SIM_START_NS) / 1e9);
    vfprintf(stderr, format, ap);
    fputc('\n', stderr);
    va_end(ap);
}

_Noreturn void __real__exit(int status);

void sim_fail(const char *checker, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    snprintf(report->checkers, sizeof report->checkers, "%s", checker);
    vsnprintf(report->message, sizeof report->message, format, ap);
    va_end(ap);
    report->counters = counters;
    sim_trace("FAILED: %s: %s", checker, report->message);
    if (world.history)
        history_flush(world.history);
    fflush(stderr);
    __real__exit(1);
}

/* ---- one run ---- */

static int64_t history_now(void *ctx) { return sim_now_ns; }

static void first_cluster(void)
{
    char initial[512] = "";
    for (unsigned i = 0; i < world.plan.members; i++) {
        struct sim_member *m = member_new(false);
        snprintf(initial + strlen(initial), sizeof initial - strlen(initial), "%s%s=%s", i ? "," : "", m->name, m->url);
    }
    for (unsigned i = 0; i < world.plan.members; i++) {
        member_set_cluster(&world.members[i], initial);
        member_start(&world.members[i]);
    }
}

static bool is_part(const struct sim_member *m) { return m->state != MEMBER_GONE && !m->removed; }

/* All serve, with the same log applied. */
static bool all_agree(void)
{
    uint64_t applied = 0;
    struct sim_member *leader = member_leader();
    if (!leader || !leader->server->node.term_applied) /* else it may not know yet what is committed */
        return false;
    for (size_t i = 0; i < world.members_len; i++) {
        struct sim_member *m = &world.members[i];
        if (!is_part(m))
            continue;
        if (!member_is_up(m))
            return false;
        uint64_t own = atomic_load(&m->server->node.applied);
        if (applied && own != applied)
            return false;
        applied = own;
    }
    return true;
}

static void wait_for(bool (*holds)(void), const char *what)
{
    for (int64_t until = sim_now_ns + RECOVERY_S * SIM_S; !holds();) {
        if (sim_now_ns >= until)
            sim_fail("liveness", "%d s after all healed: %s", RECOVERY_S, what);
        events_run(sim_now_ns + 50 * SIM_MS);
    }
}

/* What was acknowledged is on disks, not in memories: the power goes everywhere at once. */
static void lose_all_power(void)
{
    for (size_t i = 0; i < world.members_len; i++)
        if (member_is_up(&world.members[i])) {
            member_crash(&world.members[i], DISK_POWER, "the end");
            member_restart_in(&world.members[i], (int64_t)rng_below(&world.random, 1000) * SIM_MS);
        }
}

static uint64_t ok_before;
static bool clients_served(void) { return counters.ops_ok > ok_before + 20; }

static int64_t final_revision;
static bool all_watched(void) { return watchers_reached(final_revision); }

struct dump {
    struct sim_member *member;
    struct mvcc_range_result range;
    uint32_t hash;
    int64_t compact, revision;
};

static void dump_of(void *arg)
{
    struct dump *d = arg;
    struct mvcc_range_request all = {.key = {(const uint8_t *)"\0", 1}, .range_end = {(const uint8_t *)"\0", 1}};
    struct kp_error error = {0};
    if (mvcc_range(d->member->server->mvcc, &all, &d->range, &error) != MVCC_OK)
        sim_fail("sim", "%s cannot be read in the end: %s", d->member->name, error.message);
}

static void drift(void *arg)
{
    struct sim_member *m = arg;
    struct kp_error error = {0};
    int64_t deleted;
    mvcc_begin(m->server->mvcc);
    if (mvcc_delete_range(m->server->mvcc, (struct kp_bytes){(const uint8_t *)"k", 1},
                          (struct kp_bytes){(const uint8_t *)"l", 1}, &deleted, NULL, &error) != MVCC_OK)
        sim_fail("sim", "cannot plant: %s", error.message);
    mvcc_end(m->server->mvcc);
}

static void write_final(struct sim_member *m)
{
    struct dump d = {.member = m};
    if (!member_call(m, dump_of, &d))
        sim_fail("liveness", "%s went down in the end", m->name);
    history_final(world.history, (unsigned)m->slot, d.range.revision, d.range.count);
    for (size_t i = 0; i < d.range.len; i++) {
        const struct mvcc_kv *kv = &d.range.items[i].kv;
        struct history_kv out = {{kv->key.data, kv->key.len},
                                 {kv->value.data ? kv->value.data : (const uint8_t *)"", kv->value.len},
                                 kv->create_revision,
                                 kv->mod_revision,
                                 kv->version,
                                 kv->lease};
        history_final_kv(world.history, (unsigned)m->slot, &out);
    }
    mvcc_range_done(&d.range);
}

/* The checkers of histories are programs of their own. */
static void run_checkers(void)
{
    static const char *const names[] = {"check_order", "check_linear", "check_watch", "check_durable", "check_lease"};
    char output[160], found[1024] = "";
    snprintf(output, sizeof output, "%s.out", history_path);
    for (size_t i = 0; i < KP_ARRAY_LEN(names); i++) {
        char path[256];
        snprintf(path, sizeof path, "%s/%s", check_dir, names[i]);
        posix_spawn_file_actions_t actions;
        posix_spawn_file_actions_init(&actions);
        posix_spawn_file_actions_addopen(&actions, 1, output, O_WRONLY | O_CREAT | O_TRUNC, 0600);
        posix_spawn_file_actions_adddup2(&actions, 1, 2);
        char *const argv[] = {path, history_path, NULL};
        pid_t pid;
        int status = 0, rc = posix_spawn(&pid, path, &actions, NULL, argv, environ);
        posix_spawn_file_actions_destroy(&actions);
        if (rc || waitpid(pid, &status, 0) < 0)
            sim_fail("sim", "cannot run %s: %s", path, strerror(rc ? rc : errno));
        if (status == 0)
            continue;
        const char *short_name = names[i] + strlen("check_");
        size_t len = strlen(report->checkers);
        snprintf(report->checkers + len, sizeof report->checkers - len, "%s%s", len ? "," : "", short_name);
        KP_AUTO_BUF struct kp_buf text = {0};
        if (kp_read_file(output, 0, &text, NULL) == 0 && text.data && !*found)
            snprintf(found, sizeof found, "%s", text.data);
    }
    unlink(output);
    if (*report->checkers) {
        char checkers[128];
        snprintf(checkers, sizeof checkers, "%s", report->checkers);
        sim_fail(checkers, "%s", found);
    }
}

static void name_history(pid_t pid, uint64_t seed)
{
    snprintf(history_path, sizeof history_path, "%s/kprov-sim.%d.%llu.history", kp_path_exists("/dev/shm") ? "/dev/shm" : "/tmp", (int)pid, (unsigned long long)seed);
}

static void run_seed(uint64_t seed)
{
    name_history(getpid(), seed);
    plan_make();
    world.history = history_open(history_path, history_now, NULL);
    if (!world.history)
        sim_fail("sim", "cannot write %s", history_path);
    first_cluster();
    clients_start();
    watchers_start();
    nemesis_start();
    events_run(world.end_ns);
    nemesis_heal();
    wait_for(operator_heal, "the cluster is not whole again");
    ok_before = counters.ops_ok;
    wait_for(clients_served, "clients are not served");
    clients_stop();
    wait_for(clients_idle, "clients wait for answers");
    wait_for(all_agree, "members have not applied the same log");
    lose_all_power();
    wait_for(all_agree, "members do not come back after losing power together");
    final_revision = mvcc_revision(member_leader()->server->mvcc);
    wait_for(all_watched, "watchers have not got all");
    wait_for(all_agree, "members have not applied the same log");
    watchers_finish(final_revision);
    if (plant_is(PLANT_DRIFT) && is_part(&world.members[0]) && !member_call(&world.members[0], drift, &world.members[0]))
        sim_fail("sim", "cannot plant");
    for (size_t i = 0; i < world.members_len; i++)
        if (is_part(&world.members[i]))
            write_final(&world.members[i]);
    if (history_close(world.history) < 0)
        sim_fail("sim", "cannot write %s", history_path);
    world.history = NULL;
    run_checkers();
    if (!getenv("SIM_KEEP"))
        unlink(history_path);
    report->counters = counters;
    report->finished = true;
}

/* ---- many runs ---- */

struct job {
    pid_t pid;
    uint64_t seed;
};

static pid_t start_seed(uint64_t seed, enum plant plant, struct report *own)
{
    *own = (struct report){0};
    fflush(stdout);
    pid_t pid = fork();
    if (pid)
        return pid;
    report = own;
    if (!sim_traces && !freopen("/dev/null", "w", stderr)) /* LMDB's assertions over rotten pages */
        __real__exit(2);
    alarm(SEED_SECONDS_MAX);
    plant_set(plant);
    kp_log_init("sim", sim_traces ? KP_LOG_INFO : (enum kp_log_level)-1);
    world.seed = seed;
    world.random.state = seed * 0x9e3779b97f4a7c15u + 1;
    cage_init();
    if (stores) {
        store_run();
        report->counters = counters;
        report->finished = true;
    } else {
        run_seed(seed);
    }
    __real__exit(0);
}

static void add_counters(struct sim_counters *all, const struct sim_counters *one)
{
#define ADD(name) all->name += one->name;
    SIM_COUNTERS(ADD)
#undef ADD
}

static void print_counters(const struct sim_counters *c)
{
    int column = 0;
#define PRINT(name) printf("%-22s %12llu%s", #name, (unsigned long long)c->name, ++column % 3 ? "   " : "\n");
    SIM_COUNTERS(PRINT)
#undef PRINT
    printf("%s", column % 3 ? "\n" : "");
}

static double now_s(void)
{
    struct timespec ts;
    timespec_get(&ts, TIME_UTC);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

struct tally {
    struct sim_counters counters;
    uint64_t runs, failures, first_failed, others;
    char checkers[128], message[1300];
};

/* With a bug planted, what other checkers say is no answer. */
static void end_job(struct job *job, const struct report *r, int status, enum plant plant, struct tally *tally)
{
    tally->runs++;
    add_counters(&tally->counters, &r->counters);
    if (status == 0 && r->finished)
        return;
    if (plant && !getenv("SIM_KEEP")) { /* a run with a bug planted is meant to fail: its history tells nobody anything */
        name_history(job->pid, job->seed);
        unlink(history_path);
    }
    if (plant && !plant_is_caught_by(plant, r->checkers)) {
        tally->others++;
        return;
    }
    char text[1300];
    if (WIFSIGNALED(status))
        snprintf(text, sizeof text, "sim: ended by signal %d%s", WTERMSIG(status),
                 WTERMSIG(status) == SIGALRM ? " (it hangs)" : "");
    else
        snprintf(text, sizeof text, "%s: %s", r->checkers, r->message);
    if (!tally->failures || job->seed < tally->first_failed) {
        tally->first_failed = job->seed;
        snprintf(tally->checkers, sizeof tally->checkers, "%s", WIFSIGNALED(status) ? "signal" : r->checkers);
        snprintf(tally->message, sizeof tally->message, "%s", text);
    }
    tally->failures++;
}

/* Runs seeds until the last or, with stop_at_failure, until one fails and all before it are done. */
static void run_seeds(uint64_t first, uint64_t count, unsigned jobs, enum plant plant, bool stop_at_failure, bool prints,
                      struct tally *tally)
{
    static struct report *reports;
    if (!reports)
        reports = mmap(NULL, JOBS_MAX * sizeof *reports, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    struct job running[JOBS_MAX] = {0};
    *tally = (struct tally){0};
    uint64_t next = first;
    size_t under_way = 0;
    while (under_way || (next < first + count && !(stop_at_failure && tally->failures))) {
        if (next < first + count && under_way < jobs && !(stop_at_failure && tally->failures)) {
            size_t slot = 0;
            while (running[slot].pid)
                slot++;
            running[slot] = (struct job){start_seed(next, plant, &reports[slot]), next};
            next++;
            under_way++;
            continue;
        }
        int status;
        pid_t pid = waitpid(-1, &status, 0);
        for (size_t slot = 0; slot < jobs; slot++) {
            if (running[slot].pid != pid)
                continue;
            uint64_t before = tally->failures;
            end_job(&running[slot], &reports[slot], status, plant, tally);
            if (prints && tally->failures > before)
                printf("seed %llu FAILED: %s: %s\n", (unsigned long long)running[slot].seed, reports[slot].checkers,
                       *reports[slot].message ? reports[slot].message : tally->message);
            running[slot].pid = 0;
            under_way--;
        }
    }
}

static int many(uint64_t first, uint64_t count, unsigned jobs)
{
    struct tally tally;
    double start = now_s();
    run_seeds(first, count, jobs, PLANT_NONE, false, true, &tally);
    double seconds = now_s() - start;
    print_counters(&tally.counters);
    printf("%llu seeds from %llu in %.1f s (%.1f a second): %llu failed\n", (unsigned long long)tally.runs,
           (unsigned long long)first, seconds, (double)tally.runs / seconds, (unsigned long long)tally.failures);
    return tally.failures ? 1 : 0;
}

static int planted(unsigned jobs, const char *only)
{
    int escaped = 0;
    for (enum plant plant = 1; plant < PLANT_COUNT; plant++) {
        if (only && strcmp(only, plant_name(plant)) != 0)
            continue;
        struct tally tally;
        double start = now_s();
        run_seeds(1, PLANT_SEEDS_MAX, jobs, plant, true, false, &tally);
        bool caught = tally.failures && plant_is_caught_by(plant, tally.checkers);
        escaped += !caught;
        printf("%-20s %s after %4llu seeds (%5.1f s), by %s", plant_name(plant), caught ? "caught " : "ESCAPED",
               (unsigned long long)(tally.failures ? tally.first_failed : tally.runs), now_s() - start,
               tally.failures ? tally.checkers : "nobody");
        printf(tally.others ? " (%llu seeds failed in other ways)\n" : "\n", (unsigned long long)tally.others);
        if (only || !caught)
            printf("    %s\n    %s\n", plant_what(plant), tally.message);
        fflush(stdout);
    }
    printf("%d planted bugs, %d escaped\n", PLANT_COUNT - 1, escaped);
    return escaped ? 1 : 0;
}

static int one(uint64_t seed, const char *plant)
{
    struct tally tally;
    enum plant which = PLANT_NONE;
    for (enum plant p = 1; plant && p < PLANT_COUNT; p++)
        if (strcmp(plant, plant_name(p)) == 0)
            which = p;
    sim_traces = getenv("SIM_TRACE") != NULL;
    run_seeds(seed, 1, 1, which, false, false, &tally);
    print_counters(&tally.counters);
    if (tally.failures)
        printf("seed %llu FAILED: %s\n", (unsigned long long)seed, tally.message);
    else
        printf("seed %llu is clean\n", (unsigned long long)seed);
    return tally.failures ? 1 : 0;
}

int main(int argc, char **argv)
{
    /* Addresses must not decide anything; where they can be the same in every run, they are. */
    if (!getenv("SIM_FIXED") && personality(ADDR_NO_RANDOMIZE) >= 0) {
        setenv("SIM_FIXED", "1", 1);
        execv("/proc/self/exe", argv);
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    const char *mode = argc > 2 ? argv[2] : "";
    check_dir = argc > 1 ? argv[1] : "";
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    unsigned jobs = getenv("SIM_JOBS") ? (unsigned)strtoul(getenv("SIM_JOBS"), NULL, 10) : (unsigned)cores;
    jobs = KP_MAX(1, KP_MIN(jobs, JOBS_MAX));
    uint64_t a = argc > 3 ? strtoull(argv[3], NULL, 10) : 0, b = argc > 4 ? strtoull(argv[4], NULL, 10) : 0;
    if (strncmp(mode, "store-", 6) == 0) {
        stores = true;
        mode += 6;
    }
    if (strcmp(mode, "seed") == 0 && argc > 3)
        return one(a, argc > 4 ? argv[4] : NULL);
    if (strcmp(mode, "seeds") == 0 && argc > 4)
        return many(a, b, jobs);
    if (strcmp(mode, "planted") == 0)
        return planted(jobs, argc > 3 ? argv[3] : NULL);
    fprintf(stderr, "usage: sim CHECKERS [store-]seed N [PLANT] | [store-]seeds FIRST COUNT | planted [PLANT]\n");
    return 2;
}
