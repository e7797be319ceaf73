/* Reading container logs in the CRI format: tail, since, limits, following over rotations. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include "nodeimage/kubelet/text_internal.h"

#define LOG_LINE_MAX ((size_t)1 << 20)  /* bytes of one stored line; runtimes cut at 16 KiB */
#define LOG_CHUNK ((size_t)32 << 10)
#define LOG_FOLLOW_POLL_MS 500          /* how often a silent follower looks whether the container still runs */

int kubelet_log_parse(const char *line, size_t len, struct kubelet_log_line *ret_line)
{
    const char *end = line + len;
    const char *stamp_end = memchr(line, ' ', len);
    if (!stamp_end || stamp_end == line)
        return KP_EBADREQUEST;
    const char *stream = stamp_end + 1;
    const char *stream_end = memchr(stream, ' ', (size_t)(end - stream));
    if (!stream_end || stream_end - stream != 6)
        return KP_EBADREQUEST;
    bool is_stderr = memcmp(stream, "stderr", 6) == 0;
    if (!is_stderr && memcmp(stream, "stdout", 6) != 0)
        return KP_EBADREQUEST;
    const char *tag = stream_end + 1;
    if (tag >= end || (tag[0] != 'P' && tag[0] != 'F'))
        return KP_EBADREQUEST;
    const char *tag_end = memchr(tag, ' ', (size_t)(end - tag));
    if (!tag_end)
        tag_end = end;
    const char *text = tag_end < end ? tag_end + 1 : end;
    *ret_line = (struct kubelet_log_line){
        .timestamp = line,
        .timestamp_len = (size_t)(stamp_end - line),
        .is_stderr = is_stderr,
        .partial = tag[0] == 'P',
        .text = text,
        .text_len = (size_t)(end - text),
    };
    return 0;
}

int64_t kubelet_log_tail_offset(int fd, int64_t lines)
{
    int64_t size = lseek(fd, 0, SEEK_END);
    if (size <= 0 || lines <= 0)
        return KP_MAX(size, 0);
    int64_t end = size, newlines = 0;
    char block[4096];
    while (end > 0) {
        int64_t start = KP_MAX(end - (int64_t)sizeof(block), 0);
        ssize_t n = pread(fd, block, (size_t)(end - start), start);
        if (n <= 0)
            return 0;
        for (int64_t i = n - 1; i >= 0; i--) {
            /* The newline that ends the file does not begin a line. */
            if (block[i] != '\n' || start + i == size - 1)
                continue;
            if (++newlines == lines)
                return start + i + 1;
        }
        end = start;
    }
    return 0;
}

struct log_reader {
    const char *path;
    const struct kubelet_log_options *options;
    const struct kubelet_log_sink *sink;
    int fd;
    int inotify_fd; /* -1 unless following */
    struct kp_buf pending; /* bytes of an unfinished line */
    int64_t bytes_left; /* -1: no bound */
    bool line_start;
    bool limit_hit;
};

static bool before_since(const struct log_reader *reader, const struct kubelet_log_line *line)
{
    if (!reader->options->since_ns)
        return false;
    char stamp[64];
    if (line->timestamp_len >= sizeof(stamp))
        return false;
    memcpy(stamp, line->timestamp, line->timestamp_len);
    stamp[line->timestamp_len] = '\0';
    int64_t seconds;
    int32_t nanos;
    if (kp_parse_rfc3339(stamp, &seconds, &nanos) < 0)
        return false;
    return seconds * 1000000000 + nanos < reader->options->since_ns;
}

static int put(struct log_reader *reader, const char *data, size_t len)
{
    if (reader->bytes_left >= 0 && (int64_t)len >= reader->bytes_left) {
        len = (size_t)reader->bytes_left;
        reader->limit_hit = true;
    }
    if (reader->bytes_left >= 0)
        reader->bytes_left -= (int64_t)len;
    return len > 0 ? reader->sink->write(reader->sink->arg, data, len) : 0;
}

static int emit_line(struct log_reader *reader, const char *bytes, size_t len, struct kp_buf *out)
{
    struct kubelet_log_line line;
    if (kubelet_log_parse(bytes, len, &line) < 0)
        return 0; /* a line cut short by a crash of the runtime: the next one is whole again */
    if (reader->options->stream != KUBELET_LOG_ALL &&
        line.is_stderr != (reader->options->stream == KUBELET_LOG_STDERR))
        return 0;
    if (!before_since(reader, &line)) {
        if (reader->options->timestamps && reader->line_start) {
            kp_buf_append(out, line.timestamp, line.timestamp_len);
            kp_buf_putc(out, ' ');
        }
        kp_buf_append(out, line.text, line.text_len);
        if (!line.partial)
            kp_buf_putc(out, '\n');
    }
    reader->line_start = !line.partial;
    return 0;
}

/* Emits every whole line of the pending bytes. */
static int drain_lines(struct log_reader *reader)
{
    KP_AUTO_BUF struct kp_buf out = {0};
    size_t done = 0;
    while (done < reader->pending.len) {
        const char *start = reader->pending.data + done;
        const char *eol = memchr(start, '\n', reader->pending.len - done);
        if (!eol)
            break;
        emit_line(reader, start, (size_t)(eol - start), &out);
        done += (size_t)(eol - start) + 1;
    }
    kp_buf_consume(&reader->pending, done);
    if (reader->pending.len > LOG_LINE_MAX)
        kp_buf_consume(&reader->pending, reader->pending.len);
    return out.len > 0 ? put(reader, out.data, out.len) : 0;
}

/* Reads to the end of the open file. */
static int drain_file(struct log_reader *reader, struct kp_error *error)
{
    while (!reader->limit_hit) {
        kp_buf_reserve(&reader->pending, LOG_CHUNK);
        ssize_t n = read(reader->fd, reader->pending.data + reader->pending.len, LOG_CHUNK);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return kp_fail_errno(error, "read log %s", reader->path);
        if (n == 0)
            return 0;
        reader->pending.len += (size_t)n;
        reader->pending.data[reader->pending.len] = '\0';
        int rc = drain_lines(reader);
        if (rc < 0)
            return rc;
    }
    return 0;
}

/* True when path names another file than the one that is open: the log was rotated. */
static bool rotated(const struct log_reader *reader)
{
    struct stat open_stat, path_stat;
    if (fstat(reader->fd, &open_stat) < 0 || stat(reader->path, &path_stat) < 0)
        return false;
    return open_stat.st_ino != path_stat.st_ino || open_stat.st_dev != path_stat.st_dev;
}

static void wait_for_change(struct log_reader *reader)
{
    struct pollfd pfd = {.fd = reader->inotify_fd, .events = POLLIN};
    if (reader->inotify_fd < 0) {
        kp_sleep_ms(LOG_FOLLOW_POLL_MS);
        return;
    }
    if (poll(&pfd, 1, LOG_FOLLOW_POLL_MS) > 0) {
        char events[4096];
        if (read(reader->inotify_fd, events, sizeof(events)) < 0)
            kp_sleep_ms(LOG_FOLLOW_POLL_MS);
    }
}

static int follow(struct log_reader *reader, struct kp_error *error)
{
    while (!reader->limit_hit) {
        /* Looked at before the last read, so that what a container writes right before its end is not missed. */
        bool running = reader->sink->running(reader->sink->arg);
        int rc = drain_file(reader, error);
        if (rc < 0)
            return rc;
        if (rotated(reader)) {
            int fd = open(reader->path, O_RDONLY | O_CLOEXEC);
            if (fd >= 0) {
                close(reader->fd);
                reader->fd = fd;
                kp_buf_consume(&reader->pending, reader->pending.len);
                continue;
            }
        }
        if (!running)
            return 0;
        /* An empty write lets the sink notice a client that has gone. */
        rc = reader->sink->write(reader->sink->arg, "", 0);
        if (rc < 0)
            return rc;
        wait_for_change(reader);
    }
    return 0;
}

static void watch_folder(struct log_reader *reader)
{
    char *folder = kp_strdup(reader->path);
    char *slash = strrchr(folder, '/');
    if (slash)
        *slash = '\0';
    reader->inotify_fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    if (reader->inotify_fd >= 0 &&
        inotify_add_watch(reader->inotify_fd, slash ? folder : ".", IN_MODIFY | IN_CREATE | IN_MOVED_TO) < 0)
        kp_close_fd(&reader->inotify_fd);
    free(folder);
}

int kubelet_log_read(const char *path, const struct kubelet_log_options *options, const struct kubelet_log_sink *sink,
                     struct kp_error *error)
{
    struct log_reader reader = {.path = path, .options = options, .sink = sink, .inotify_fd = -1,
                                .bytes_left = options->limit_bytes, .line_start = true};
    reader.fd = open(path, O_RDONLY | O_CLOEXEC);
    if (reader.fd < 0)
        return kp_fail_errno(error, "open log %s", path);
    if (options->follow)
        watch_folder(&reader);
    int64_t offset = options->tail_lines >= 0 ? kubelet_log_tail_offset(reader.fd, options->tail_lines) : 0;
    int rc = lseek(reader.fd, offset, SEEK_SET) < 0 ? kp_fail_errno(error, "seek in log %s", path) : 0;
    if (rc == 0 && reader.bytes_left != 0)
        rc = options->follow ? follow(&reader, error) : drain_file(&reader, error);
    kp_buf_done(&reader.pending);
    kp_close_fd(&reader.fd);
    kp_close_fd(&reader.inotify_fd);
    return rc;
}

struct tail_sink {
    struct kp_buf out;
};

static int tail_write(void *arg, const void *data, size_t len)
{
    struct tail_sink *sink = arg;
    kp_buf_append(&sink->out, data, len);
    return 0;
}

static bool tail_running(void *arg)
{
    return false;
}

char *kubelet_log_tail(struct kp_arena *arena, const char *path, size_t max_bytes, size_t max_lines)
{
    struct tail_sink tail = {0};
    struct kubelet_log_options options = {.tail_lines = (int64_t)max_lines, .limit_bytes = -1};
    struct kubelet_log_sink sink = {.write = tail_write, .running = tail_running, .arg = &tail};
    if (kubelet_log_read(path, &options, &sink, NULL) < 0) {
        kp_buf_done(&tail.out);
        return kp_arena_strdup(arena, "");
    }
    size_t skip = tail.out.len > max_bytes ? tail.out.len - max_bytes : 0;
    char *text = kp_arena_strndup(arena, tail.out.data ? tail.out.data + skip : "", tail.out.len - skip);
    kp_buf_done(&tail.out);
    return text;
}
