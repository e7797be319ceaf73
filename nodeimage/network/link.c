/* The link that a node's packets leave by. */
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "nodeimage/network/network.h"

unsigned network_link_mtu(unsigned index)
{
    struct ifreq request = {0};
    KP_AUTO_CLOSE int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || !if_indextoname(index, request.ifr_name) || ioctl(fd, SIOCGIFMTU, &request) < 0 || request.ifr_mtu < 0)
        return 0;
    return (unsigned)request.ifr_mtu;
}
