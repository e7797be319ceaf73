/* Errors of compiling: where in the text, and how cel-go shows them. */
#include "lib/cel/cel_internal.h"

#define SNIPPET_MAX 16384 /* bytes of a line that is shown */

void fault_add(struct source *source, uint32_t at, const char *format, ...)
{
    va_list ap;
    if (source->all_faults++ >= CEL_FAULTS_MAX)
        return;
    va_start(ap, format);
    struct fault *fault = &source->faults[source->n_faults];
    *fault = (struct fault){at, source->n_faults, kp_arena_vprintf(source->arena, format, ap)};
    source->n_faults++;
    va_end(ap);
}

static int compare_faults(const void *a, const void *b)
{
    const struct fault *x = a, *y = b;
    uint32_t at_x = x->at + 1, at_y = y->at + 1; /* without a place comes first */
    return at_x != at_y ? (at_x < at_y ? -1 : 1) : x->order < y->order ? -1 : 1;
}

/* The line that has the place, from 1, its text, and the place's column from 0. */
static size_t find_line(const struct source *source, uint32_t at, const char **ret_line, size_t *ret_len, size_t *ret_column)
{
    const char *p = source->text, *end = p + source->len, *begin = p;
    size_t line = 1, column = 0;
    for (uint32_t i = 0; i < at && p < end; i++) {
        bool is_break = *p == '\n';
        p += utf8_len(p, end);
        column++;
        if (is_break) {
            begin = p;
            column = 0;
            line++;
        }
    }
    const char *stop = memchr(begin, '\n', (size_t)(end - begin));
    *ret_line = begin;
    *ret_len = (size_t)((stop ? stop : end) - begin);
    *ret_column = column;
    return line;
}

/* The line with its tabs as blanks, and dots to the place below it, wide ones under wide characters. */
static void show_line(const char *line, size_t len, size_t column, struct kp_buf *out)
{
    const char *p = line, *end = line + len;
    kp_buf_puts(out, "\n | ");
    size_t at = out->len;
    kp_buf_append(out, line, len);
    for (; at < out->len; at++)
        if (out->data[at] == '\t')
            out->data[at] = ' ';
    kp_buf_puts(out, "\n | ");
    for (size_t i = 0; i < column && p < end; i++) {
        size_t size = utf8_len(p, end);
        kp_buf_puts(out, size > 1 ? "\uff0e" : ".");
        p += size;
    }
    kp_buf_puts(out, p < end && utf8_len(p, end) > 1 ? "\uff3e" : "^");
}

const char *faults_text(struct source *source, struct kp_arena *arena)
{
    KP_AUTO_BUF struct kp_buf out = {0};
    qsort(source->faults, source->n_faults, sizeof(*source->faults), compare_faults);
    for (size_t i = 0; i < source->n_faults; i++) {
        const struct fault *fault = &source->faults[i];
        kp_buf_puts(&out, i ? "\n" : "");
        if (fault->at == NO_PLACE) {
            kp_buf_printf(&out, "ERROR: <input>:-1:0: %s", fault->message);
            continue;
        }
        const char *line;
        size_t len, column, number = find_line(source, fault->at, &line, &len, &column);
        kp_buf_printf(&out, "ERROR: <input>:%zu:%zu: %s", number, column + 1, fault->message);
        if (len <= SNIPPET_MAX)
            show_line(line, len, column, &out);
    }
    if (source->all_faults > CEL_FAULTS_MAX)
        kp_buf_printf(&out, "\n%zu more errors were truncated", source->all_faults - CEL_FAULTS_MAX);
    return kp_arena_strndup(arena, out.data ? out.data : "", out.len);
}
