/* The journal of intents: what was about to be done outside, and what became of it. */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "provisioner/state/state_internal.h"

static const char *const outcomes[] = {[STATE_EVENT_BEGUN] = "begun", [STATE_EVENT_DONE] = "done", [STATE_EVENT_FAILED] = "failed"};

const char *state_event_outcome_name(enum state_event_outcome outcome)
{
    return outcomes[outcome];
}

/* A line that a killed kprov, or a full disk, cut short is ended first. All of ours is written, or nothing. */
static int append(int fd, const char *path, const struct kp_buf *line, struct kp_error *error)
{
    char last = '\n';
    off_t end = lseek(fd, 0, SEEK_END);
    KP_AUTO_BUF struct kp_buf text = {0};
    if (end < 0 || (end > 0 && pread(fd, &last, 1, end - 1) != 1))
        return kp_fail_errno(error, "read %s", path);
    if (last != '\n')
        kp_buf_putc(&text, '\n');
    kp_buf_append(&text, line->data, line->len);
    ssize_t n = pwrite(fd, text.data, text.len, end);
    if (n == (ssize_t)text.len)
        return fdatasync(fd) < 0 ? kp_fail_errno(error, "write %s", path) : 0;
    errno = n < 0 ? errno : ENOSPC;
    int r = kp_fail_errno(error, "write %s", path);
    return n > 0 && ftruncate(fd, end) < 0 ? kp_wrap(error, "(and half a line stays)") : r;
}

static int write_line(struct state *state, const struct kp_buf *line, struct kp_error *error)
{
    char path[PATH_MAX], older[PATH_MAX];
    struct stat st;
    snprintf(path, sizeof(path), "%s/journal", state->dir);
    snprintf(older, sizeof(older), "%s/journal.1", state->dir);
    if (stat(path, &st) == 0 && st.st_size > STATE_JOURNAL_MAX && rename(path, older) < 0)
        return kp_fail_errno(error, "rename %s", path);
    KP_AUTO_CLOSE int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    return fd < 0 ? kp_fail_errno(error, "open %s", path) : append(fd, path, line, error);
}

/* Words of a line have no spaces, and texts no line breaks. */
static void put(struct kp_buf *out, const char *text, bool word)
{
    for (; *text; text++)
        kp_buf_putc(out, (unsigned char)*text < ' ' || (word && *text == ' ') ? (word ? '_' : ' ') : *text);
}

static int add(struct state *state, const char *intent, const char *object, enum state_event_outcome outcome, const char *detail,
               struct kp_error *error)
{
    char now[KP_RFC3339_MAX];
    KP_AUTO_BUF struct kp_buf line = {0};
    int64_t now_ns = kp_now_ns();
    kp_format_rfc3339(now, now_ns / 1000000000, (int32_t)(now_ns % 1000000000), true);
    put(&line, now, true);
    kp_buf_putc(&line, ' ');
    put(&line, intent, true);
    kp_buf_putc(&line, ' ');
    put(&line, kp_empty(object) ? "-" : object, true);
    kp_buf_printf(&line, " %s", outcomes[outcome]);
    if (!kp_empty(detail)) {
        kp_buf_putc(&line, ' ');
        put(&line, detail, false);
    }
    kp_buf_putc(&line, '\n');
    pthread_mutex_lock(&state->journal);
    int r = write_line(state, &line, error);
    pthread_mutex_unlock(&state->journal);
    return r;
}

int state_journal(struct state *state, const char *intent, const char *object, struct kp_error *error)
{
    return add(state, intent, object, STATE_EVENT_BEGUN, NULL, error);
}

int state_journal_end(struct state *state, const char *intent, const char *object, int result, struct kp_error *error)
{
    struct kp_error unwritten = {0};
    const char *detail = result < 0 && error ? error->message : NULL;
    int r = add(state, intent, object, result < 0 ? STATE_EVENT_FAILED : STATE_EVENT_DONE, detail, &unwritten);
    if (result < 0 || r == 0)
        return result; /* of two failures the first counts */
    if (error)
        *error = unwritten;
    return r;
}

/* false: no line of a journal. */
static bool parse_line(const char *text, size_t len, struct kp_arena *arena, struct state_event *ret)
{
    char *rest = kp_arena_strndup(arena, text, len);
    const char *time = strsep(&rest, " "), *intent = strsep(&rest, " "), *object = strsep(&rest, " "), *outcome = strsep(&rest, " ");
    *ret = (struct state_event){.intent = intent, .object = object, .detail = rest ? rest : ""};
    size_t i = 0;
    if (!outcome || kp_empty(intent) || kp_empty(object) || kp_parse_rfc3339(time, &ret->time_s, NULL) < 0)
        return false;
    while (i < KP_ARRAY_LEN(outcomes) && !kp_streq(outcomes[i], outcome))
        i++;
    ret->outcome = (enum state_event_outcome)i;
    return i < KP_ARRAY_LEN(outcomes);
}

static void parse_lines(const struct kp_buf *text, struct kp_arena *arena, struct state_event_list *list)
{
    size_t lines = 0;
    for (size_t i = 0; i < text->len; i++)
        lines += text->data[i] == '\n';
    struct state_event *items = KP_NEW_ARRAY(arena, struct state_event, list->len + lines + 1);
    if (list->len)
        memcpy(items, list->items, list->len * sizeof(*items));
    list->items = items;
    /* What follows the last line break was cut short. */
    for (const char *at = text->data, *end; at && (end = strchr(at, '\n')); at = end + 1) {
        if (parse_line(at, (size_t)(end - at), arena, &list->items[list->len]))
            list->len++;
        else if (end > at)
            list->torn++;
    }
}

int state_journal_read(const char *cluster, struct kp_arena *arena, struct state_event_list *ret, struct kp_error *error)
{
    static const char *const files[] = {"journal.1", "journal"};
    *ret = (struct state_event_list){0};
    for (size_t i = 0; i < KP_ARRAY_LEN(files); i++) {
        KP_AUTO_BUF struct kp_buf text = {0};
        int r = state_read_file(cluster, files[i], &text, error);
        if (r < 0 && r != KP_ENOTFOUND)
            return r;
        if (r == 0)
            parse_lines(&text, arena, ret);
    }
    return 0;
}
