/* Maintenance.Downgrade: the questions are answered; a downgrade itself is not possible, for our files are not stock etcd's
   (Maintenance.Snapshot writes those). */
#include "controlplane/etcd/server/rpc_internal.h"

static bool parse_version(const char *text, int64_t *ret_major, int64_t *ret_minor)
{
    const char *dot = strchr(text, '.');
    if (!dot)
        return false;
    KP_AUTO_FREE char *major = kp_strndup(text, (size_t)(dot - text));
    KP_AUTO_FREE char *minor = kp_strndup(dot + 1, strcspn(dot + 1, "."));
    return kp_parse_i64(major, ret_major) == 0 && kp_parse_i64(minor, ret_minor) == 0;
}

/* etcd allows the minor version before this one. */
static enum etcd_err check(const char *target)
{
    int64_t major, minor, our_major, our_minor;
    if (!parse_version(target, &major, &minor))
        return ETCD_DOWNGRADE_VERSION_FORMAT;
    return parse_version(ETCD_VERSION, &our_major, &our_minor) && major == our_major && minor == our_minor - 1
               ? ETCD_OK
               : ETCD_DOWNGRADE_TARGET;
}

static int downgrade(struct grpc_context *context, const void *message, struct grpc_stream *stream,
                     struct kp_error *error)
{
    struct etcd_server *server = server_of(context);
    const Etcdserverpb__DowngradeRequest *request = message;
    int rc = rpc_admin_only(context, error);
    if (rc)
        return rc;
    enum etcd_err err = node_wait_read(server);
    if (err == ETCD_OK && request->action == ETCDSERVERPB__DOWNGRADE_REQUEST__DOWNGRADE_ACTION__CANCEL)
        err = ETCD_NO_DOWNGRADE;
    if (err == ETCD_OK)
        err = check(request->version);
    if (err == ETCD_OK && request->action == ETCDSERVERPB__DOWNGRADE_REQUEST__DOWNGRADE_ACTION__ENABLE)
        err = ETCD_NOT_CAPABLE;
    if (err != ETCD_OK)
        return rpc_fail(error, err);
    KP_AUTO_BUF struct kp_buf out = {0};
    frame_begin(&out);
    encode_header(server, &out, mvcc_revision(server->mvcc));
    encode_string(&out, 2, ETCD_VERSION);
    return rpc_reply(stream, &out);
}

const struct grpc_method downgrade_methods[] = {
    {"/etcdserverpb.Maintenance/Downgrade", GRPC_SERVER_STREAM, &etcdserverpb__downgrade_request__descriptor,
     &etcdserverpb__downgrade_response__descriptor, .server_stream = downgrade},
    {0},
};
