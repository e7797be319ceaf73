/* The power button of a machine: what a hypervisor presses to ask for an orderly end. */
#include <dirent.h>
#include <fcntl.h>
#include <linux/input.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "init_internal.h"

#define INPUT_DIR "/dev/input"

static bool has_power_key(int fd)
{
    unsigned char keys[KEY_MAX / 8 + 1] = {0};
    return ioctl(fd, EVIOCGBIT(EV_KEY, sizeof(keys)), keys) >= 0 && (keys[KEY_POWER / 8] >> (KEY_POWER % 8) & 1);
}

int init_button_open(void)
{
    DIR *dir = opendir(INPUT_DIR);
    int found = -1;
    if (!dir) /* in namespaces of a host there is no button */
        return -1;
    for (struct dirent *entry; found < 0 && (entry = readdir(dir));) {
        if (!kp_starts_with(entry->d_name, "event"))
            continue;
        found = openat(dirfd(dir), entry->d_name, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
        if (found >= 0 && !has_power_key(found))
            kp_close_fd(&found);
    }
    closedir(dir);
    return found;
}

bool init_button_pressed(int fd)
{
    struct input_event event;
    bool pressed = false;
    while (fd >= 0 && read(fd, &event, sizeof(event)) == (ssize_t)sizeof(event))
        pressed |= event.type == EV_KEY && event.code == KEY_POWER && event.value != 0;
    return pressed;
}
