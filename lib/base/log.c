/* Structured log lines on stderr in klog's layout. */
#include "lib/base/base.h"

#include <time.h>
#include <unistd.h>

#define LOG_PROGRAM_MAX 64
#define LOG_VALUE_MAX 4096 /* bytes of one value; longer ones are cut */

static char log_program[LOG_PROGRAM_MAX] = "-";
static int log_level = KP_LOG_INFO;

void kp_log_init(const char *program, enum kp_log_level level)
{
    const char *slash = strrchr(program, '/');
    snprintf(log_program, sizeof(log_program), "%s", slash ? slash + 1 : program);
    __atomic_store_n(&log_level, (int)level, __ATOMIC_RELAXED);
}

bool kp_log_enabled(enum kp_log_level level)
{
    return (int)level <= __atomic_load_n(&log_level, __ATOMIC_RELAXED);
}

/* Quotes as Go's %q does for what matters here: a log line must stay one line. */
static void put_quoted(struct kp_buf *out, const char *s)
{
    kp_buf_putc(out, '"');
    size_t left = LOG_VALUE_MAX;
    for (; *s && left; s++, left--) {
        unsigned char c = (unsigned char)*s;
        if (c == '"' || c == '\\') {
            kp_buf_putc(out, '\\');
            kp_buf_putc(out, (char)c);
        } else if (c == '\n') {
            kp_buf_puts(out, "\\n");
        } else if (c == '\t') {
            kp_buf_puts(out, "\\t");
        } else if (c < 0x20 || c == 0x7f) {
            kp_buf_printf(out, "\\x%02x", c);
        } else {
            kp_buf_putc(out, (char)c);
        }
    }
    if (*s)
        kp_buf_puts(out, "...");
    kp_buf_putc(out, '"');
}

static void put_header(struct kp_buf *out, enum kp_log_level level)
{
    static const char letters[] = "EWID";
    int64_t now = kp_now_ns();
    time_t seconds = (time_t)(now / 1000000000);
    struct tm tm;
    gmtime_r(&seconds, &tm);
    kp_buf_printf(out, "%c%02d%02d %02d:%02d:%02d.%06d %s ", letters[level], tm.tm_mon + 1, tm.tm_mday, tm.tm_hour,
                  tm.tm_min, tm.tm_sec, (int)(now / 1000 % 1000000), log_program);
}

void kp_log(enum kp_log_level level, const char *message, ...)
{
    if (!kp_log_enabled(level))
        return;
    KP_AUTO_BUF struct kp_buf line = {0};
    put_header(&line, level);
    put_quoted(&line, message);
    va_list ap;
    va_start(ap, message);
    for (const char *key; (key = va_arg(ap, const char *));) {
        const char *value = va_arg(ap, const char *);
        kp_buf_printf(&line, " %s=", key);
        if (!value) { /* a NULL value ends the pairs too: nothing after it can be told from the sentinel */
            kp_buf_puts(&line, "<nil>");
            break;
        }
        put_quoted(&line, value);
    }
    va_end(ap);
    kp_buf_putc(&line, '\n');
    /* One write a line: lines of several threads and processes do not mix. A log that cannot be written is lost. */
    ssize_t written = write(STDERR_FILENO, line.data, line.len);
    (void)written;
}
