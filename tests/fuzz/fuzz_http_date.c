/* The Date of an answer: a moment, or refused. */
#include "provisioner/cli/clocks.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    KP_AUTO_FREE char *text = kp_strndup((const char *)data, size);
    int64_t date_s = -1;
    if (clocks_parse_date(text, &date_s) == 0)
        KP_ASSERT(date_s >= 0 && date_s < 253402300801LL);
    else
        KP_ASSERT(date_s == -1);
    return 0;
}
