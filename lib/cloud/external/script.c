/* node.sh, as bytes of this program. */
#include "cloud/external/external_internal.h"

extern const char external_script_end[];
/* Its path is below the project's root, where compilers run. */
__asm__(".pushsection .rodata\n"
        ".global external_script\n"
        ".global external_script_end\n"
        "external_script:\n"
        ".incbin \"lib/cloud/external/node.sh\"\n"
        "external_script_end:\n"
        ".byte 0\n"
        ".popsection\n");

size_t external_script_len(void)
{
    return (size_t)(external_script_end - external_script);
}
