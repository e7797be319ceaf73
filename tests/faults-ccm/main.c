/* The fault matrix of the cloud-controller-manager: every cloud call of every operation fails, hangs, loses its answer, does its work when nobody
 * waits for it any more, or is refused for a while; then all must be as it is without faults.
 *   ccm-faults FOLDER...                          cells are dealt out to as many processes as folders; each has an API server of its own
 *   ccm-faults FOLDER -- OPERATION POINT FAULT    one cell, with logs
 * A folder has admin.conf and ccm.conf, kubeconfigs, and room for the cloud. Prints a line for each cell that fails, and the table of counts. */
#include <limits.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/faults-ccm/operations.h"

#define QUIET_MS 100 /* more than one resync: what is right must stay so */

enum { FAILS, LOST, HANGS, LATE, THROTTLED, BROKEN, SLOW, COLUMNS };
static const char *const columns[COLUMNS] = {
    [FAILS] = "fails four times", [LOST] = "answer lost",      [HANGS] = "hangs", [LATE] = "works late",
    [THROTTLED] = "429 for a while", [BROKEN] = "500 for a while", [SLOW] = "PENDING",
};
static const struct fault {
    const char *name;
    int column;
    const char *what; /* for fake_faults_set; NULL: see run_cell */
    int fired;        /* so often at least */
    bool changes_only; /* of calls that change something */
} faults[] = {
    {"error-before", FAILS, "1:error-before:4", 4, false}, {"error-after", LOST, "1:error-after:2", 1, true},   {"hang-before", HANGS, "1:hang-before", 1, false},
    {"hang-after", HANGS, "1:hang-after", 1, false},       {"late", LATE, NULL, 0, true},                      {"throttle", THROTTLED, "1:throttle:3", 3, false},
    {"unavailable", BROKEN, "1:unavailable:8", 8, false},  {"pending", SLOW, NULL, 0, true},
};

#define OPERATIONS_MAX 32
#define WORKERS_MAX 8
struct counts { /* of one process */
    struct {
        int run, held;
    } cells[OPERATIONS_MAX][COLUMNS];
    int run, held; /* all, and what is in no cell */
};
struct matrix {
    struct client *admin, *client;
    const char *folder;
    int worker, n_workers;
    int dealt; /* cells passed by, by all */
    struct counts *counts; /* of this process */
};

/* Whether the next cell is this process's. */
static bool is_mine(struct matrix *m)
{
    return m->dealt++ % m->n_workers == m->worker;
}

static bool is_question(const char *point)
{
    return kp_ends_with(point, "_list") || kp_ends_with(point, "_get");
}

static bool has_fired(const struct operation *op, const struct fault *fault)
{
    return kp_streq(fault->name, "late") ? late_done() : fake_faults_fired() >= (op->once ? KP_MIN(fault->fired, 1) : fault->fired);
}

static bool run_steps(struct world *w, const struct operation *op)
{
    for (size_t s = 0; s < STEPS_MAX && op->steps[s].act; s++) {
        op->steps[s].act(w);
        if (!wait_for(w, op->steps[s].done))
            return false;
    }
    return true;
}

/* Whether it is as it must be, once the fault has come about, and stays so. */
static bool settles(struct world *w, const struct operation *op, const struct fault *fault)
{
    size_t last = 0;
    while (last + 1 < STEPS_MAX && op->steps[last + 1].act)
        last++;
    for (int64_t until_ms = kp_mono_ms() + LIMIT_MS; !has_fired(op, fault); kp_sleep_ms(4))
        if (kp_mono_ms() > until_ms)
            return wrong(w, "the fault did not come about");
    if (!wait_for(w, op->steps[last].done))
        return false;
    kp_sleep_ms(QUIET_MS);
    return op->steps[last].done(w);
}

static bool run_cell(struct matrix *m, const struct operation *op, const char *point, const struct fault *fault)
{
    struct world w;
    struct kp_error error = {0};
    char uid[32], spec[96];
    snprintf(uid, sizeof(uid), "f%d", m->dealt);
    fake_faults_set("");
    late_set(NULL);
    if (kp_streq(fault->name, "pending"))
        setenv("FAKE_CLOUD_PENDING", "3", 1);
    bool held = world_open(&w, m->folder, uid, m->admin, m->client, &error) == 0 && world_start(&w, &error) == 0;
    if (!held)
        wrong(&w, "%s", error.message);
    if (held)
        op->prepare(&w);
    if (held && op->prepared)
        held = wait_for(&w, op->prepared);
    snprintf(spec, sizeof(spec), "%s:%s", point, fault->what ? fault->what : "");
    fake_faults_set(fault->what ? spec : "");
    late_set(kp_streq(fault->name, "late") ? point : NULL);
    held = held && run_steps(&w, op) && settles(&w, op, fault);
    if (!held)
        printf("not ok - %s, %s %s: %s\n", op->name, point, fault->name, w.why);
    fake_faults_set("");
    late_set(NULL);
    world_close(&w);
    unsetenv("FAKE_CLOUD_PENDING");
    return held;
}

static bool is_chosen(char **choice, const char *a, const char *b, const char *c)
{
    return !choice || (kp_streq(choice[0], a) && kp_streq(choice[1], b) && kp_streq(choice[2], c));
}

static void run_matrix(struct matrix *m, char **choice)
{
    for (size_t o = 0; o < n_operations; o++)
        for (size_t p = 0; p < POINTS_MAX && operations[o].points[p]; p++)
            for (size_t f = 0; f < KP_ARRAY_LEN(faults); f++) {
                const char *point = operations[o].points[p];
                if ((faults[f].changes_only && is_question(point)) || (faults[f].column == SLOW && !kp_starts_with(point, "balancer_")) ||
                    !is_chosen(choice, operations[o].name, point, faults[f].name) || !is_mine(m))
                    continue;
                bool held = run_cell(m, &operations[o], point, &faults[f]);
                m->counts->cells[o][faults[f].column].run++;
                m->counts->cells[o][faults[f].column].held += held;
                m->counts->run++;
                m->counts->held += held;
            }
}

/* ---- what must not happen, however long it lasts */

static bool nodes_stay(struct world *w)
{
    return (api_get(w, "/api/v1/nodes/w-1") && api_get(w, "/api/v1/nodes/w-2")) || wrong(w, "a Node is gone");
}

/* A node that is not ready, and a cloud that answers nothing but this, at each of the ten looks. */
static bool errors_delete_nothing(struct matrix *m, const char *point, const char *what)
{
    struct world w;
    struct kp_error error = {0};
    char uid[32], spec[96];
    snprintf(uid, sizeof(uid), "n%d", m->dealt);
    fake_faults_set("");
    bool held = world_open(&w, m->folder, uid, m->admin, m->client, &error) == 0 && world_start(&w, &error) == 0;
    if (!held)
        wrong(&w, "%s", error.message);
    add_node(&w, "w-1", true, "10.244.1.0/24");
    add_node(&w, "w-2", true, "10.244.2.0/24");
    snprintf(spec, sizeof(spec), "%s:1:%s:10", point, what);
    fake_faults_set(spec);
    if (kp_streq(point, "machine_get"))
        held = held && cloud_machine_delete(w.hands, w.uid, "w-1", &error) == 0; /* the list does not have it, and the answer about it is an error */
    set_ready(&w, "w-1", false);
    for (int64_t until_ms = kp_mono_ms() + LIMIT_MS; held && fake_faults_fired() < 10; kp_sleep_ms(4)) {
        held = nodes_stay(&w) && (kp_mono_ms() < until_ms || wrong(&w, "the faults did not come about"));
        if (!held && fake_faults_fired() >= 10)
            held = true; /* gone after the last error, and not by it */
    }
    if (!held)
        printf("not ok - errors delete no Node, %s %s: %s\n", point, what, w.why);
    fake_faults_set("");
    world_close(&w);
    return held;
}

/* The cluster's folder is elsewhere: no machines, and NOT_FOUND for each, as from another account. */
static bool another_account_deletes_nothing(struct matrix *m)
{
    struct world w;
    struct kp_error error = {0};
    char uid[32];
    snprintf(uid, sizeof(uid), "a%d", m->dealt);
    bool held = world_open(&w, m->folder, uid, m->admin, m->client, &error) == 0 && world_start(&w, &error) == 0;
    const char *here = kp_arena_printf(w.arena, "%s/%s", m->folder, uid), *there = kp_arena_printf(w.arena, "%s/.%s", m->folder, uid);
    add_node(&w, "w-1", true, "10.244.1.0/24");
    add_node(&w, "w-2", true, "10.244.2.0/24");
    held = held && rename(here, there) == 0;
    set_ready(&w, "w-1", false);
    for (int looks = calls_of("machine_list"); held && calls_of("machine_list") < looks + 20; kp_sleep_ms(4))
        held = nodes_stay(&w);
    held = rename(there, here) == 0 && held;
    if (!held)
        printf("not ok - an account without the cluster deletes no Node: %s\n", w.why);
    world_close(&w);
    return held;
}

static void run_refusals(struct matrix *m)
{
    static const char *const points[] = {"machine_list", "machine_get"}, *const what[] = {"error-before", "hang-before", "throttle", "unavailable"};
    for (size_t p = 0; p < KP_ARRAY_LEN(points); p++)
        for (size_t f = 0; f < KP_ARRAY_LEN(what); f++) {
            if (!is_mine(m))
                continue;
            m->counts->run++;
            m->counts->held += errors_delete_nothing(m, points[p], what[f]);
        }
    if (!is_mine(m))
        return;
    m->counts->run++;
    m->counts->held += another_account_deletes_nothing(m);
}

/* ---- the table */

static void print_row(const struct counts *all, size_t first, size_t last, const char *name)
{
    printf("| %s |", name);
    for (int c = 0; c < COLUMNS; c++) {
        int run = 0, held = 0;
        for (size_t o = first; o <= last; o++) {
            run += all->cells[o][c].run;
            held += all->cells[o][c].held;
        }
        if (run)
            printf(" %d of %d |", held, run);
        else
            printf(" - |");
    }
    printf("\n");
}

static void print_table(const struct counts *all)
{
    printf("| operation |");
    for (int c = 0; c < COLUMNS; c++)
        printf(" %s |", columns[c]);
    printf("\n|---|");
    for (int c = 0; c < COLUMNS; c++)
        printf("---|");
    printf("\n");
    for (size_t o = 0; o < n_operations; o++)
        print_row(all, o, o, operations[o].name);
    print_row(all, 0, n_operations - 1, "all");
}

static struct counts sum(const struct counts *counts, int n)
{
    struct counts all = {0};
    for (int w = 0; w < n; w++) {
        for (size_t o = 0; o < n_operations; o++)
            for (int c = 0; c < COLUMNS; c++) {
                all.cells[o][c].run += counts[w].cells[o][c].run;
                all.cells[o][c].held += counts[w].cells[o][c].held;
            }
        all.run += counts[w].run;
        all.held += counts[w].held;
    }
    return all;
}

/* ---- processes */

static struct client *connect(struct loop *loop, const char *folder, const char *file, struct kp_arena *arena)
{
    struct client_config config = {0};
    struct client *client = NULL;
    struct kp_error error = {0};
    const char *path = kp_arena_printf(arena, "%s/%s", folder, file);
    if (client_config_from_kubeconfig(path, NULL, arena, &config, &error) == 0 && client_new(loop, &config, &client, &error) == 0)
        return client;
    fprintf(stderr, "%s\n", error.message);
    exit(2);
}

/* choice NULL: all cells, and what must not happen. */
static int work(const char *folder, int worker, int n_workers, struct counts *counts, char **choice)
{
    struct kp_arena *arena = kp_arena_new(0);
    struct loop *loop = loop_new();
    struct kp_error error = {0};
    struct matrix m = {.worker = worker, .n_workers = n_workers, .counts = counts, .folder = kp_arena_printf(arena, "%s/cloud", folder)};
    kp_log_init("ccm-faults", choice ? KP_LOG_DEBUG : KP_LOG_ERROR);
    setvbuf(stdout, NULL, _IOLBF, 0);
    KP_ASSERT(loop_start(loop, "client", &error) == 0);
    m.admin = connect(loop, folder, "admin.conf", arena);
    m.client = connect(loop, folder, "ccm.conf", arena);
    int r = add_roles(m.admin, &error);
    if (r < 0)
        fprintf(stderr, "%s\n", error.message);
    if (r == 0)
        run_matrix(&m, choice);
    if (r == 0 && !choice)
        run_refusals(&m);
    client_free(m.client);
    client_free(m.admin);
    loop_free(loop);
    kp_arena_free(arena);
    return r == 0 ? 0 : 2;
}

int main(int argc, char **argv)
{
    bool one = argc == 6 && kp_streq(argv[2], "--"), ended_well = true;
    int n = one ? 1 : argc - 1;
    KP_ASSERT(n_operations <= OPERATIONS_MAX);
    if (n < 1 || n > WORKERS_MAX) {
        fprintf(stderr, "usage: ccm-faults FOLDER... or FOLDER -- OPERATION POINT FAULT\n");
        return 2;
    }
    struct counts *counts = mmap(NULL, WORKERS_MAX * sizeof(*counts), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid_t pids[WORKERS_MAX];
    KP_ASSERT(counts != MAP_FAILED);
    for (int w = 0; w < n; w++) {
        pids[w] = fork();
        KP_ASSERT(pids[w] >= 0);
        if (pids[w] == 0)
            _exit(work(argv[w + 1], w, n, &counts[w], one ? argv + 3 : NULL));
    }
    for (int w = 0; w < n; w++) {
        int status = 0;
        ended_well = waitpid(pids[w], &status, 0) == pids[w] && status == 0 && ended_well;
    }
    const struct counts all = sum(counts, n);
    if (!one)
        print_table(&all);
    printf("faults-ccm: %d passed, %d failed\n", all.held, all.run - all.held + !ended_well);
    return ended_well && all.held == all.run && all.run > 0 ? 0 : 1;
}
