/* Asking the processor what it is. */
#include "lib/base/cpu.h"

#include <string.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

bool kp_cpu_is_emulated(void)
{
#if defined(__x86_64__)
    unsigned eax, ebx, ecx, edx, name[3];
    if (!__get_cpuid(1, &eax, &ebx, &ecx, &edx) || !(ecx >> 31)) /* the bit that says: there is a hypervisor */
        return false;
    __cpuid(0x40000000, eax, name[0], name[1], name[2]); /* where hypervisors have their name */
    return memcmp(name, "TCGTCGTCGTCG", sizeof(name)) == 0;
#else
    return false;
#endif
}
