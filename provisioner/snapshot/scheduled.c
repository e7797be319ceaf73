/* Names of the snapshots that a control plane takes by itself: whose database, up to which revision, when. */
#include <ctype.h>

#include "provisioner/snapshot/snapshot.h"

#define REVISION_DIGITS_MAX 18

void snapshot_scheduled_name(const char *machine, int64_t revision, int64_t taken_s, char out[SNAPSHOT_NAME_MAX])
{
    char stem[96];
    snprintf(stem, sizeof(stem), "%.*s-r%lld", SNAPSHOT_MACHINE_MAX - 1, machine, (long long)revision);
    snapshot_name(stem, taken_s, out);
}

int snapshot_scheduled_parse(const char *name, struct snapshot_scheduled *ret)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyz0123456789-.";
    struct snapshot_scheduled found = {0};
    const size_t len = strlen(name), tail = strlen("-20261121T101855Z.db");
    if (len <= tail || len >= SNAPSHOT_NAME_MAX || snapshot_name_time(name, &found.taken_s) < 0)
        return KP_EINVALID;
    size_t end = len - tail, digits = 0;
    while (digits < end && isdigit((unsigned char)name[end - digits - 1]))
        digits++;
    const size_t machine = end - digits >= 2 ? end - digits - 2 : 0;
    if (digits == 0 || digits > REVISION_DIGITS_MAX || machine == 0 || machine >= SNAPSHOT_MACHINE_MAX ||
        strncmp(name + machine, "-r", 2) != 0 || strspn(name, plain) < machine || name[0] == '.' || name[0] == '-')
        return KP_EINVALID;
    memcpy(found.machine, name, machine);
    for (size_t i = 0; i < digits; i++)
        found.revision = found.revision * 10 + (name[end - digits + i] - '0');
    *ret = found;
    return 0;
}
