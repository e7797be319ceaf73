/* lib/base/cpu.h: what kind of processor this is. */
#ifndef KP_CPU_H
#define KP_CPU_H

#include <stdbool.h>

/* True on a machine that QEMU emulates without KVM: a request takes tens of milliseconds there, so what renews a lease all the time does
   it less often. */
bool kp_cpu_is_emulated(void);

#endif
