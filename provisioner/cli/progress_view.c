/* What progress looks like on a terminal. Pure: the machines' phases and the time in, bytes for the terminal out. */
#include "provisioner/cli/cli.h"

#define GREEN "\033[32m"
#define PLAIN "\033[0m"
#define NAME_WIDTH_MAX 40

const struct cli_progress_machine *cli_progress_note(struct cli_progress *progress, const char *name, enum cli_phase phase, int64_t now_ms)
{
    struct cli_progress_machine *machine = NULL;
    for (size_t i = 0; i < progress->n_machines && !machine; i++)
        if (kp_streq(progress->machines[i].name, name))
            machine = &progress->machines[i];
    if (machine && machine->phase == phase)
        return NULL;
    if (!machine) {
        if (progress->n_machines == CLOUD_MACHINES_MAX)
            return NULL;
        progress->machines = kp_realloc(progress->machines, (progress->n_machines + 1) * sizeof(*progress->machines));
        machine = &progress->machines[progress->n_machines++];
        *machine = (struct cli_progress_machine){.start_ms = now_ms};
        snprintf(machine->name, sizeof(machine->name), "%s", name);
    }
    machine->phase = phase;
    machine->phase_ms = now_ms;
    return machine;
}

/* Appends at most `columns` - 1 bytes, whole characters: a line that wraps could not be redrawn. */
static void put_line(struct kp_buf *out, const char *text, size_t columns, const char *colour)
{
    size_t len = strlen(text);
    if (len > columns - 1)
        len = columns - 1;
    while (len > 0 && ((unsigned char)text[len] & 0xc0) == 0x80)
        len--;
    if (colour)
        kp_buf_puts(out, colour);
    kp_buf_append(out, text, len);
    kp_buf_puts(out, colour ? PLAIN "\n" : "\n");
}

static double seconds(int64_t ms)
{
    return (double)ms / 1000.0;
}

static void put_machine(const struct cli_progress_machine *machine, int width, int64_t now_ms, const struct cli_screen *screen,
                        struct kp_buf *out)
{
    char line[256];
    bool final = cli_phase_is_final(machine->phase);
    snprintf(line, sizeof(line), "  %-*s  %-8s %6.1fs", width, machine->name, cli_phase_name(machine->phase),
             seconds((final ? machine->phase_ms : now_ms) - machine->start_ms));
    put_line(out, line, screen->columns, final && screen->colour ? GREEN : NULL);
}

void cli_progress_erase(struct cli_progress *progress, struct kp_buf *out)
{
    if (progress->drawn_lines)
        kp_buf_printf(out, "\033[%zuA\r\033[J", progress->drawn_lines);
    progress->drawn_lines = 0;
}

void cli_progress_draw(struct cli_progress *progress, int64_t now_ms, const struct cli_screen *screen, struct kp_buf *out)
{
    char line[512];
    int width = 0;
    size_t room = screen->rows > 3 ? screen->rows - 3 : 1, shown = 0, left = progress->n_machines;
    if (screen->columns < 2)
        return;
    if (progress->step) {
        snprintf(line, sizeof(line), "[%5.1fs] %s ...%s%s", seconds(now_ms - progress->start_ms), progress->step,
                 progress->detail[0] ? " " : "", progress->detail);
        put_line(out, line, screen->columns, NULL);
        progress->drawn_lines++;
    }
    for (size_t i = 0; i < progress->n_machines; i++)
        width = KP_MAX(width, KP_MIN((int)strlen(progress->machines[i].name), NAME_WIDTH_MAX));
    /* When they are too many for the screen, those that are not there yet are what one wants to see. */
    bool all = progress->n_machines <= room;
    for (size_t i = 0; i < progress->n_machines && shown < room; i++) {
        if (!all && cli_phase_is_final(progress->machines[i].phase))
            continue;
        put_machine(&progress->machines[i], width, now_ms, screen, out);
        shown++;
    }
    left -= shown;
    if (left) {
        snprintf(line, sizeof(line), "  and %zu more", left);
        put_line(out, line, screen->columns, NULL);
    }
    progress->drawn_lines += shown + (left != 0);
}
