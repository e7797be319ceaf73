/* libvirt's errors as ours. */
#include <libvirt/virterror.h>
#include <stdarg.h>

#include "cloud/libvirt/libvirt_internal.h"

static void say_nothing(void *ctx, virErrorPtr error)
{
}

void lv_silence(void)
{
    virSetErrorFunc(NULL, say_nothing);
}

static int code_of(int code)
{
    switch (code) {
    case VIR_ERR_NO_DOMAIN:
    case VIR_ERR_NO_NETWORK:
    case VIR_ERR_NO_STORAGE_POOL:
    case VIR_ERR_NO_STORAGE_VOL:
        return KP_ENOTFOUND;
    case VIR_ERR_AUTH_FAILED:
    case VIR_ERR_AUTH_CANCELLED:
    case VIR_ERR_AUTH_UNAVAILABLE:
    case VIR_ERR_ACCESS_DENIED:
    case VIR_ERR_OPERATION_DENIED:
        return KP_EFORBIDDEN;
    case VIR_ERR_DOM_EXIST:
    case VIR_ERR_NETWORK_EXIST:
    case VIR_ERR_STORAGE_VOL_EXIST:
        return KP_EEXISTS;
    case VIR_ERR_NO_CONNECT:
    case VIR_ERR_INVALID_CONN:
    case VIR_ERR_SYSTEM_ERROR:
    case VIR_ERR_RPC:
    case VIR_ERR_OPERATION_TIMEOUT:
        return KP_EUNAVAILABLE;
    case VIR_ERR_XML_ERROR:
    case VIR_ERR_INVALID_ARG:
    case VIR_ERR_CONFIG_UNSUPPORTED:
        return KP_EINVALID;
    default:
        return KP_EIO;
    }
}

int lv_fail(struct kp_error *error, const char *format, ...)
{
    char what[256];
    va_list args;
    va_start(args, format);
    vsnprintf(what, sizeof(what), format, args);
    va_end(args);
    const virError *last = virGetLastError();
    return kp_fail(error, code_of(last ? last->code : VIR_ERR_INTERNAL_ERROR), "%s: %s", what,
                   last && last->message ? last->message : "libvirt gives no reason");
}
