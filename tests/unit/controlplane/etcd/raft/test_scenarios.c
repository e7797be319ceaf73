/* Runs the scenarios in tests/golden/raft: what each member of a cluster is told, and what it writes, sends and applies.

   Lines that begin with "> " are commands, "# " comments; the lines after a command are its output. REGEN=1 rewrites them.
   Commands:
     cluster voters=1,2,3 [learners=4] [pre-vote] [check-quorum] [election=10] [inflight=n] [message-bytes=n] [uncommitted=n]
     node 4                 a member that nobody knows yet, with nothing on its disk
     tick 1 [n]             campaign 1          propose 1 text [text ...]    read 1 id       transfer 1 to
     change 1 [explicit|implicit] voter+4 learner+5 -2 | leave
     ready 1                one ready: write, send, apply            deliver [from->to]   what is on the network now
     settle                 readies and deliveries until nothing moves      (settle quietly: without output)
     lose [from->to]        messages on the network       cut 1 [2]   the links of 1 (to 2), both ways       heal
     crash 1                power loss; what was written stays       start 1
     compact 1 index        status 1     log 1    unreachable 1 2 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <dirent.h>
#include <inttypes.h>

#include "tests/support/raft_cluster.h"

#define GOLDEN "tests/golden/raft"
#define WORDS_MAX 16

struct run {
    struct cluster cluster;
    struct raft_config options;
    struct kp_buf out; /* of the command */
};

static uint64_t number(const char *s)
{
    return s ? strtoull(s, NULL, 10) : 0;
}

static void add_ids(struct raft_id_set *set, const char *list)
{
    while (*list) {
        char *end;
        raft_id_set_add(set, strtoull(list, &end, 10));
        list = *end == ',' ? end + 1 : end;
    }
}

static struct cluster_node *node_of(struct run *run, const char *word)
{
    struct cluster_node *node = word ? cluster_node(&run->cluster, number(word)) : NULL;
    if (!node)
        fail_msg("no member %s", word ? word : "named");
    return node;
}

static struct raft *up(struct run *run, const char *word)
{
    struct cluster_node *node = node_of(run, word);
    if (!node->raft)
        fail_msg("member %s is down", word);
    return node->raft;
}

static void outcome(struct run *run, int code, const struct kp_error *error)
{
    if (code < 0)
        kp_buf_printf(&run->out, "refused: %s\n", error->message);
}

static void do_cluster(struct run *run, char **words, size_t len)
{
    struct raft_config *options = &run->options;
    for (size_t i = 1; i < len; i++) {
        char *value = strchr(words[i], '=');
        value = value ? value + 1 : words[i];
        if (strncmp(words[i], "voters=", 7) == 0)
            add_ids(&options->conf.voters, value);
        else if (strncmp(words[i], "learners=", 9) == 0)
            add_ids(&options->conf.learners, value);
        else if (strncmp(words[i], "election=", 9) == 0)
            options->election_ticks = (unsigned)number(value);
        else if (strncmp(words[i], "inflight=", 9) == 0)
            options->inflight_messages_max = (size_t)number(value);
        else if (strncmp(words[i], "message-bytes=", 14) == 0)
            options->message_bytes_max = (size_t)number(value);
        else if (strncmp(words[i], "uncommitted=", 12) == 0)
            options->uncommitted_bytes_max = (size_t)number(value);
        else if (kp_streq(words[i], "pre-vote"))
            options->pre_vote = true;
        else if (kp_streq(words[i], "check-quorum"))
            options->check_quorum = true;
        else
            fail_msg("cluster: %s?", words[i]);
    }
    for (size_t i = 0; i < options->conf.voters.len; i++) {
        options->id = options->conf.voters.ids[i];
        cluster_add(&run->cluster, options);
    }
    for (size_t i = 0; i < options->conf.learners.len; i++) {
        options->id = options->conf.learners.ids[i];
        cluster_add(&run->cluster, options);
    }
}

static void do_propose(struct run *run, char **words, size_t len)
{
    struct kp_blob *data[WORDS_MAX];
    struct kp_error error = {0};
    for (size_t i = 2; i < len; i++)
        data[i - 2] = kp_blob_new(words[i], strlen(words[i]));
    outcome(run, raft_propose_batch(up(run, words[1]), data, len - 2, &error), &error);
    for (size_t i = 2; i < len; i++)
        kp_blob_unref(data[i - 2]);
}

static void do_change(struct run *run, char **words, size_t len)
{
    struct raft_conf_change change = {0};
    struct kp_error error = {0};
    for (size_t i = 2; i < len; i++) {
        if (kp_streq(words[i], "explicit"))
            change.transition = RAFT_TRANSITION_EXPLICIT;
        else if (kp_streq(words[i], "implicit"))
            change.transition = RAFT_TRANSITION_IMPLICIT;
        else if (!kp_streq(words[i], "leave")) {
            enum raft_change_type type = words[i][0] == 'v'   ? RAFT_ADD_VOTER
                                         : words[i][0] == 'l' ? RAFT_ADD_LEARNER
                                                              : RAFT_REMOVE;
            change.changes[change.len].type = type;
            change.changes[change.len++].id = number(strpbrk(words[i], "+-") + 1);
        }
    }
    outcome(run, raft_propose_conf_change(up(run, words[1]), &change, &error), &error);
}

/* Messages that were on the network when the command began, of one link or of all. */
static void do_network(struct run *run, const char *link, bool lose)
{
    uint64_t from = 0, to = 0;
    if (link && sscanf(link, "%" SCNu64 "->%" SCNu64, &from, &to) != 2)
        fail_msg("%s is no link", link);
    for (size_t left = run->cluster.network_len, i = 0; left > 0; left--) {
        const struct raft_message *message = &run->cluster.network[i];
        if (from && (message->from != from || message->to != to)) {
            i++;
            continue;
        }
        kp_buf_puts(&run->out, lose ? "lost " : "delivered ");
        cluster_print_message(&run->out, message);
        kp_buf_puts(&run->out, "\n");
        if (lose)
            cluster_drop(&run->cluster, i);
        else
            cluster_deliver(&run->cluster, i, false);
    }
}

static void do_settle(struct run *run, bool quietly)
{
    run->cluster.trace = quietly ? NULL : &run->out;
    if (!cluster_settle(&run->cluster, 500))
        fail_msg("does not settle");
    run->cluster.trace = &run->out;
}

static void do_cut(struct run *run, uint64_t a, uint64_t b)
{
    for (uint64_t other = 1; other <= CLUSTER_NODES_MAX; other++)
        if (b == 0 || other == b)
            run->cluster.cut[a][other] = run->cluster.cut[other][a] = true;
}

static void do_status(struct run *run, const char *word)
{
    static const char *const states[] = {"probe", "replicate", "snapshot"};
    struct raft_status s;
    struct kp_buf *out = &run->out;
    raft_status(up(run, word), &s);
    kp_buf_printf(out, "%s in term %" PRIu64 " of %" PRIu64 ", commit %" PRIu64 ", applied %" PRIu64 ", last %" PRIu64 "; ",
                  raft_role_name(s.role), s.term, s.leader, s.commit, s.applied, s.last_index);
    cluster_print_conf(out, &s.conf);
    kp_buf_puts(out, "\n");
    for (size_t i = 0; i < s.progress_len; i++)
        kp_buf_printf(out, "  %" PRIu64 "%s: %s, has %" PRIu64 ", next %" PRIu64 ", in flight %zu%s\n", s.progress[i].id,
                      s.progress[i].learner ? " (learner)" : "", states[s.progress[i].state], s.progress[i].match,
                      s.progress[i].next, s.progress[i].inflight, s.progress[i].recent_active ? "" : ", silent");
}

static void do_log(struct run *run, const char *word)
{
    const struct cluster_disk *disk = &node_of(run, word)->disk;
    kp_buf_printf(&run->out, "after %" PRIu64 "/%" PRIu64 ":", disk->snapshot_index, disk->snapshot_term);
    for (size_t i = 0; i < disk->entries_len; i++) {
        kp_buf_puts(&run->out, i ? ", " : " ");
        cluster_print_entry(&run->out, &disk->entries[i]);
    }
    kp_buf_puts(&run->out, "\n");
}

static void simple_command(struct run *run, char **words, size_t len)
{
    const char *command = words[0], *second = len > 2 ? words[2] : NULL;
    struct kp_error error = {0};
    if (kp_streq(command, "node")) {
        struct raft_config options = run->options;
        options.id = number(words[1]);
        options.conf = (struct raft_conf_state){0};
        cluster_add(&run->cluster, &options);
    } else if (kp_streq(command, "tick")) {
        for (uint64_t n = second ? number(second) : 1; n > 0; n--)
            raft_tick(up(run, words[1]));
    } else if (kp_streq(command, "campaign")) {
        outcome(run, raft_campaign(up(run, words[1]), &error), &error);
    } else if (kp_streq(command, "read")) {
        outcome(run, raft_read_index(up(run, words[1]), number(second), &error), &error);
    } else if (kp_streq(command, "transfer")) {
        outcome(run, raft_transfer_leader(up(run, words[1]), number(second), &error), &error);
    } else if (kp_streq(command, "ready")) {
        if (!cluster_ready(&run->cluster, node_of(run, words[1]), CRASH_NEVER))
            kp_buf_puts(&run->out, "nothing\n");
    } else if (kp_streq(command, "cut")) {
        do_cut(run, number(words[1]), number(second));
    } else if (kp_streq(command, "heal")) {
        memset(run->cluster.cut, 0, sizeof(run->cluster.cut));
    } else if (kp_streq(command, "crash")) {
        cluster_crash_node(&run->cluster, node_of(run, words[1]));
    } else if (kp_streq(command, "start")) {
        cluster_start(&run->cluster, node_of(run, words[1]));
    } else if (kp_streq(command, "compact")) {
        cluster_compact(&run->cluster, node_of(run, words[1]), number(second));
    } else if (kp_streq(command, "unreachable")) {
        raft_report_unreachable(up(run, words[1]), number(second));
    } else {
        fail_msg("unknown command %s", command);
    }
}

static void command(struct run *run, const char *line)
{
    char text[512], *words[WORDS_MAX], *rest = text;
    size_t len = 0;
    snprintf(text, sizeof(text), "%s", line);
    for (char *word; len < WORDS_MAX && (word = strsep(&rest, " ")) != NULL;)
        if (*word)
            words[len++] = word;
    if (len == 0)
        fail_msg("an empty command");
    if (kp_streq(words[0], "cluster"))
        do_cluster(run, words, len);
    else if (kp_streq(words[0], "propose"))
        do_propose(run, words, len);
    else if (kp_streq(words[0], "change"))
        do_change(run, words, len);
    else if (kp_streq(words[0], "deliver") || kp_streq(words[0], "lose"))
        do_network(run, len > 1 ? words[1] : NULL, words[0][0] == 'l');
    else if (kp_streq(words[0], "settle"))
        do_settle(run, len > 1);
    else if (kp_streq(words[0], "status"))
        do_status(run, words[1]);
    else if (kp_streq(words[0], "log"))
        do_log(run, words[1]);
    else
        simple_command(run, words, len);
}

static void run_file(const char *path)
{
    KP_AUTO_BUF struct kp_buf want = {0}, got = {0};
    struct kp_error error = {0};
    if (kp_read_file(path, 0, &want, &error) < 0)
        fail_msg("%s", error.message);
    struct run run = {0};
    cluster_init(&run.cluster, 1);
    run.cluster.trace = &run.out;
    unsigned commands = 0;
    KP_AUTO_FREE char *text = kp_strdup(want.data);
    char *rest = text;
    for (char *line; (line = strsep(&rest, "\n")) != NULL;) {
        if (line[0] == '#' || (line[0] == '\0' && rest))
            kp_buf_printf(&got, "%s\n", line);
        if (strncmp(line, "> ", 2) != 0)
            continue;
        kp_buf_printf(&got, "%s\n", line);
        run.out.len = 0;
        command(&run, line + 2);
        kp_buf_append(&got, run.out.data ? run.out.data : "", run.out.len);
        commands++;
    }
    raft_cluster_done(&run.cluster);
    kp_buf_done(&run.out);
    assert_true(commands > 1);
    if (got.len == want.len && memcmp(got.data, want.data, got.len) == 0)
        return;
    if (getenv("REGEN")) {
        assert_int_equal(kp_write_file(path, got.data, got.len, 0644, &error), 0);
        print_message("rewrote %s\n", path);
        return;
    }
    size_t at = 0, line = 1;
    while (at < got.len && at < want.len && got.data[at] == want.data[at])
        line += got.data[at++] == '\n';
    while (at > 0 && got.data[at - 1] != '\n')
        at--;
    fail_msg("%s:%zu differs (REGEN=1 rewrites it); now it is:\n%.*s", path, line, 600, got.data + KP_MIN(at, got.len));
}

static int by_name(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

static void every_scenario_reads_as_written(void **state)
{
    (void)state;
    DIR *dir = opendir(GOLDEN);
    assert_non_null(dir);
    char *paths[128];
    size_t len = 0;
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        size_t name = strlen(entry->d_name);
        if (name > 4 && kp_streq(entry->d_name + name - 4, ".txt") && len < KP_ARRAY_LEN(paths))
            paths[len++] = kp_asprintf("%s/%s", GOLDEN, entry->d_name);
    }
    closedir(dir);
    assert_true(len >= 10);
    qsort(paths, len, sizeof(paths[0]), by_name);
    for (size_t i = 0; i < len; i++) {
        run_file(paths[i]);
        free(paths[i]);
    }
    print_message("%zu scenarios\n", len);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_scenario_reads_as_written)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
