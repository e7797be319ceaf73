/* What other members ask of this one. */
#include "controlplane/etcd/server/node_internal.h"

#define MEMBERS_WAIT_MS 500

static void json_string(struct kp_buf *out, const char *text)
{
    kp_buf_putc(out, '"');
    for (const char *p = text; *p; p++) {
        if (*p == '"' || *p == '\\')
            kp_buf_putc(out, '\\');
        if ((unsigned char)*p < 0x20)
            kp_buf_printf(out, "\\u%04x", *p);
        else
            kp_buf_putc(out, *p);
    }
    kp_buf_putc(out, '"');
}

static void json_strings(struct kp_buf *out, const struct kp_strings *list)
{
    kp_buf_putc(out, '[');
    for (size_t i = 0; i < list->len; i++) {
        if (i)
            kp_buf_putc(out, ',');
        json_string(out, list->items[i]);
    }
    kp_buf_putc(out, ']');
}

/* As etcd's peers tell it, so that its members and ours read each other. */
static void write_members(struct etcd_server *server, struct kp_buf *out)
{
    pthread_mutex_lock(&server->members.mutex);
    kp_buf_putc(out, '[');
    for (size_t i = 0; i < server->members.len; i++) {
        const struct member *member = &server->members.items[i];
        kp_buf_printf(out, "%s{\"id\":%llu,\"peerURLs\":", i ? "," : "", (unsigned long long)member->id);
        json_strings(out, &member->peer_urls);
        if (member->learner)
            kp_buf_puts(out, ",\"isLearner\":true");
        if (!kp_empty(member->name)) {
            kp_buf_puts(out, ",\"name\":");
            json_string(out, member->name);
        }
        if (member->client_urls.len) {
            kp_buf_puts(out, ",\"clientURLs\":");
            json_strings(out, &member->client_urls);
        }
        kp_buf_putc(out, '}');
    }
    kp_buf_puts(out, "]\n");
    pthread_mutex_unlock(&server->members.mutex);
}

int server_get(struct etcd_server *server, const char *path, const char **ret_content_type, struct kp_buf *out,
               struct kp_error *error)
{
    *ret_content_type = "application/json";
    if (kp_streq(path, "/members")) {
        write_members(server, out);
        return 0;
    }
    if (kp_streq(path, ETCD_PATH_MEMBERS)) {
        *ret_content_type = "application/octet-stream";
        /* Who joins was added a moment ago. But it may be needed for the quorum that would confirm it, as the second of two
           is: what is known here is then the answer, well before the one who asks gives up. */
        if (!server_is_stepped(server) && atomic_load(&server->node.leader))
            (void)node_wait_read_for(server, MEMBERS_WAIT_MS);
        members_encode(&server->members, out, 2);
        return 0;
    }
    if (kp_streq(path, ETCD_PATH_REMOVED)) {
        *ret_content_type = "text/plain";
        pthread_mutex_lock(&server->members.mutex);
        for (size_t i = 0; i < server->members.removed_len; i++)
            kp_buf_printf(out, "%016llx\n", (unsigned long long)server->members.removed[i]);
        pthread_mutex_unlock(&server->members.mutex);
        return 0;
    }
    if (kp_streq(path, "/version")) {
        health_version(server, out);
        return 0;
    }
    return kp_fail(error, KP_ENOTFOUND, "404 page not found");
}

int server_question(struct etcd_server *server, const char *what, struct kp_bytes question, struct kp_buf *out,
                    struct kp_error *error)
{
    if (kp_streq(what, "member"))
        return cluster_answer_change(server, question, out, error);
    if (kp_streq(what, "hash"))
        return corrupt_answer(server, question, out, error);
    if (kp_streq(what, "lease"))
        return lease_answer(server, question, out, error);
    return kp_fail(error, KP_ENOTFOUND, "no answer to \"%s\"", what);
}
