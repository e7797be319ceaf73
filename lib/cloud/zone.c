/* In which zone a machine is made; all drivers ask here, so that a cluster is spread alike in every cloud. Pure. */
#include "cloud/cloud.h"

size_t cloud_zone_of(const char *name, size_t n_zones)
{
    size_t begin = strlen(name), number = 0;
    if (n_zones == 0)
        return 0;
    while (begin > 0 && name[begin - 1] >= '0' && name[begin - 1] <= '9')
        begin--;
    if (!name[begin])
        return (size_t)(kp_hash64(name, strlen(name)) % n_zones);
    for (const char *at = name + begin; *at; at++) /* of the remainder alone, so that no number is too long */
        number = (number * 10 + (size_t)(*at - '0')) % n_zones;
    return (number + n_zones - 1) % n_zones;
}
