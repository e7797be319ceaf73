/* Steps of a long command on stderr: redrawn on a terminal, one plain line a step elsewhere. */
#include <unistd.h>

#include "provisioner/cli/cli.h"

static double seconds(int64_t ms)
{
    return (double)ms / 1000.0;
}

void cli_progress_start(struct cli_progress *progress)
{
    *progress = (struct cli_progress){.terminal = isatty(STDERR_FILENO) != 0, .start_ms = kp_mono_ms()};
}

void cli_progress_begin(struct cli_progress *progress, const char *step)
{
    progress->step = step;
    progress->step_start_ms = kp_mono_ms();
    cli_progress_tick(progress, NULL);
}

void cli_progress_tick(struct cli_progress *progress, const char *detail)
{
    if (progress->terminal && progress->step)
        fprintf(stderr, "\r\033[K[%5.1fs] %s ...%s%s", seconds(kp_mono_ms() - progress->start_ms), progress->step,
                detail ? " " : "", detail ? detail : "");
}

void cli_progress_done(struct cli_progress *progress)
{
    int64_t now_ms = kp_mono_ms();
    if (!progress->step)
        return;
    fprintf(stderr, "%s[%5.1fs] %s (%.2fs)\n", progress->terminal ? "\r\033[K" : "", seconds(now_ms - progress->start_ms),
            progress->step, seconds(now_ms - progress->step_start_ms));
    if (progress->n_steps < CLI_STEPS_MAX) {
        progress->steps[progress->n_steps].name = progress->step;
        progress->steps[progress->n_steps++].took_ms = now_ms - progress->step_start_ms;
    }
    progress->step = NULL;
}

void cli_progress_fail(struct cli_progress *progress)
{
    if (progress->step)
        fprintf(stderr, "%s[%5.1fs] %s: failed\n", progress->terminal ? "\r\033[K" : "",
                seconds(kp_mono_ms() - progress->start_ms), progress->step);
    progress->step = NULL;
}
