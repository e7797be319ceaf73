/* Steps and machines of a long command on stderr: redrawn in place on a terminal, plain lines elsewhere. */
#include <sys/ioctl.h>
#include <unistd.h>

#include "provisioner/cli/cli.h"

#define REDRAW_MS 100

static const char *const phase_names[] = {
    [CLI_PHASE_RESERVE] = "reserve", [CLI_PHASE_CREATE] = "create", [CLI_PHASE_BOOT] = "boot",     [CLI_PHASE_KUBELET] = "kubelet",
    [CLI_PHASE_READY] = "Ready",     [CLI_PHASE_DRAIN] = "drain",   [CLI_PHASE_DELETE] = "delete", [CLI_PHASE_GONE] = "gone",
};

const char *cli_phase_name(enum cli_phase phase)
{
    return phase_names[phase];
}

bool cli_phase_is_final(enum cli_phase phase)
{
    return phase == CLI_PHASE_READY || phase == CLI_PHASE_GONE;
}

bool cli_terminal(int fd)
{
    return isatty(fd) && !kp_streq(getenv("TERM"), "dumb");
}

bool cli_colour(int fd)
{
    return cli_terminal(fd) && kp_empty(getenv("NO_COLOR")); /* no-color.org */
}

static struct cli_screen screen_now(const struct cli_progress *progress)
{
    struct winsize size = {0};
    struct cli_screen screen = {.columns = 80, .rows = 24, .colour = progress->colour};
    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 && size.ws_row > 0) {
        screen.columns = size.ws_col;
        screen.rows = size.ws_row;
    }
    return screen;
}

static void put(const struct kp_buf *text)
{
    if (text->len)
        fwrite(text->data, 1, text->len, stderr);
}

/* Takes what is drawn away, prints the line given (or NULL) where it was, and draws again below. */
static void redraw(struct cli_progress *progress, const char *line)
{
    KP_AUTO_BUF struct kp_buf text = {0};
    struct cli_screen screen = screen_now(progress);
    cli_progress_erase(progress, &text);
    if (line)
        kp_buf_puts(&text, line);
    progress->drawn_ms = kp_mono_ms();
    cli_progress_draw(progress, progress->drawn_ms, &screen, &text);
    put(&text);
}

static void print_line(struct cli_progress *progress, const char *line)
{
    if (progress->terminal)
        redraw(progress, line);
    else
        fputs(line, stderr);
}

static double seconds(int64_t ms)
{
    return (double)ms / 1000.0;
}

void cli_progress_start(struct cli_progress *progress)
{
    free(progress->machines);
    *progress = (struct cli_progress){
        .terminal = cli_terminal(STDERR_FILENO), .colour = cli_colour(STDERR_FILENO), .start_ms = kp_mono_ms(),
    };
}

void cli_progress_end(struct cli_progress *progress)
{
    free(progress->machines);
    progress->machines = NULL;
    progress->n_machines = 0;
}

void cli_progress_begin(struct cli_progress *progress, const char *step)
{
    progress->step = step;
    progress->step_start_ms = kp_mono_ms();
    progress->detail[0] = 0;
    if (progress->terminal)
        redraw(progress, NULL);
}

void cli_progress_tick(struct cli_progress *progress, const char *detail)
{
    snprintf(progress->detail, sizeof(progress->detail), "%s", detail ? detail : "");
    if (progress->terminal && progress->step && kp_mono_ms() - progress->drawn_ms >= REDRAW_MS)
        redraw(progress, NULL);
}

void cli_progress_machine(struct cli_progress *progress, const char *name, enum cli_phase phase)
{
    int64_t now_ms = kp_mono_ms();
    const struct cli_progress_machine *machine = cli_progress_note(progress, name, phase, now_ms);
    if (!machine)
        return;
    if (progress->terminal) {
        redraw(progress, NULL);
    } else if (cli_phase_is_final(phase)) {
        fprintf(stderr, "[%5.1fs] %s: %s (%.1fs)\n", seconds(now_ms - progress->start_ms), name, phase_names[phase],
                seconds(now_ms - machine->start_ms));
    }
}

void cli_progress_done(struct cli_progress *progress)
{
    int64_t now_ms = kp_mono_ms();
    char line[256];
    if (!progress->step)
        return;
    if (progress->n_steps < CLI_STEPS_MAX) {
        progress->steps[progress->n_steps].name = progress->step;
        progress->steps[progress->n_steps++].took_ms = now_ms - progress->step_start_ms;
    }
    snprintf(line, sizeof(line), "[%5.1fs] %s (%.2fs)\n", seconds(now_ms - progress->start_ms), progress->step,
             seconds(now_ms - progress->step_start_ms));
    progress->step = NULL;
    print_line(progress, line);
}

void cli_progress_fail(struct cli_progress *progress)
{
    char line[256];
    if (progress->step) {
        snprintf(line, sizeof(line), "[%5.1fs] %s: %s\n", seconds(kp_mono_ms() - progress->start_ms), progress->step,
                 cli_was_interrupted() ? "interrupted" : "failed");
        progress->step = NULL;
        print_line(progress, line);
    }
    /* What is drawn of the machines stays as it is; a next run of steps has lines of its own. */
    progress->drawn_lines = 0;
    progress->n_machines = 0;
}
