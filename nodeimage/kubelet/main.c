/* The kubelet program. */
#include "nodeimage/kubelet/kubelet.h"

int main(int argc, char **argv)
{
    return kubelet_main(argc, argv);
}
