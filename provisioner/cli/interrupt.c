/* Ctrl-C and SIGTERM: the first lets the call under way come to its end, the second ends the program where it stands. Either
   is safe, since every intent is in the journal before its deed and every command finds what an interrupted one left. */
#include <errno.h>
#include <signal.h>
#include <unistd.h>

#include "provisioner/cli/cli.h"

#define GRACE_S 15 /* a call that has not come to its end by then is cut short as a second Ctrl-C would */
#define EXIT_INTERRUPTED 130

static volatile sig_atomic_t interrupted; /* set by a signal handler, which has no other place to put it */

static _Noreturn void end_at_once(void)
{
    static const char text[] = "\nkprov: ended at once: the same command goes on from here\n";
    if (write(STDERR_FILENO, text, sizeof(text) - 1) < 0)
        _exit(EXIT_INTERRUPTED); /* nobody to tell */
    _exit(EXIT_INTERRUPTED);
}

static void on_signal(int signal)
{
    int saved = errno;
    if (interrupted || signal == SIGALRM)
        end_at_once();
    interrupted = 1;
    alarm(GRACE_S);
    errno = saved;
}

void cli_interrupt_catch(void)
{
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGALRM, &action, NULL);
}

bool cli_was_interrupted(void)
{
    return interrupted != 0;
}

int cli_interrupted(struct kp_error *error)
{
    return interrupted ? kp_fail(error, KP_ECANCELLED, "interrupted: the same command goes on from here") : 0;
}
