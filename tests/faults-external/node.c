/* All that is in a node of these tests: env, which goes on to its last word, umount, and an init that waits until it is told to end. */
#include <signal.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

static void end(int sig)
{
    (void)sig;
    _exit(0);
}

int main(int argc, char **argv)
{
    const char *slash = strrchr(argv[0], '/'), *name = slash ? slash + 1 : argv[0];
    if (strcmp(name, "env") == 0) {
        execv(argv[argc - 1], argv + argc - 1);
        return 127;
    }
    if (strcmp(name, "umount") == 0)
        return umount2(argv[argc - 1], MNT_DETACH) < 0;
    signal(SIGTERM, end);
    signal(SIGRTMIN + 3, end);
    for (;;)
        pause();
}
