/* Snapshots: the database as an image for a member that is too far behind, and such an image put in place. */
#include "controlplane/etcd/peer/peer.h"
#include "controlplane/etcd/server/node_internal.h"

#include <dirent.h>
#include <unistd.h>

char *images_new_path(struct etcd_server *server, const char *what)
{
    return kp_asprintf("%s.%s-%016llx", server->db_path, what, (unsigned long long)kp_random_u64());
}

/* What a crash left of images on their way; nobody will ask for them again. */
void images_sweep(const char *folder)
{
    DIR *dir = opendir(folder);
    if (!dir)
        return;
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        if (!kp_starts_with(entry->d_name, "db.image-") && !kp_starts_with(entry->d_name, "db.incoming-"))
            continue;
        KP_AUTO_FREE char *path = kp_asprintf("%s/%s", folder, entry->d_name);
        if (unlink(path) < 0)
            kp_warn("a left-over image stays", "path", path, NULL);
    }
    closedir(dir);
}

void images_want(struct etcd_server *server, struct raft_message *message)
{
    struct upkeep *upkeep = &server->upkeep;
    struct image_request *request = kp_calloc(1, sizeof *request);
    request->message = *message;
    *message = (struct raft_message){0};
    pthread_mutex_lock(&upkeep->mutex);
    request->next = upkeep->images;
    upkeep->images = request;
    pthread_cond_signal(&upkeep->wake_image);
    pthread_mutex_unlock(&upkeep->mutex);
}

/* What the image holds goes into the message: it may be newer than what was asked for. */
static int make(struct etcd_server *server, struct raft_snapshot *snapshot, const char *path, struct kp_error *error)
{
    KP_AUTO_BUF struct kp_buf conf = {0};
    uint64_t index, term;
    if (backend_image(server->backend, path, META_CONF, &index, &term, &conf, error) < 0)
        return error->code;
    int rc = raft_conf_state_decode(conf.data, conf.len, &snapshot->conf, error);
    if (rc == 0 && index < snapshot->index)
        rc = kp_fail(error, KP_EUNAVAILABLE, "the database holds entry %llu, asked for is %llu",
                     (unsigned long long)index, (unsigned long long)snapshot->index);
    if (rc < 0) {
        unlink(path);
        return rc;
    }
    snapshot->index = index;
    snapshot->term = term;
    return 0;
}

bool images_make_one(struct etcd_server *server)
{
    struct upkeep *upkeep = &server->upkeep;
    const struct etcd_world *world = server->config.world;
    pthread_mutex_lock(&upkeep->mutex);
    struct image_request *request = upkeep->images;
    if (request)
        upkeep->images = request->next;
    pthread_mutex_unlock(&upkeep->mutex);
    if (!request)
        return false;
    struct raft_message *message = &request->message;
    KP_AUTO_FREE char *path = images_new_path(server, "image");
    struct kp_error error = {0};
    char to[24];
    snprintf(to, sizeof to, "%llx", (unsigned long long)message->to);
    if (make(server, message->snapshot, path, &error) < 0) {
        kp_warn("no snapshot for a member", "member", to, "err", error.message, NULL);
        server_snapshot_sent(server, message->to, false);
        raft_message_done(message);
    } else if (world && world->send_snapshot) {
        world->send_snapshot(world->ctx, server, message, path);
    } else {
        kp_info("sending a snapshot", "member", to, NULL);
        peer_send_snapshot(server->transport, message, path);
    }
    free(request);
    return true;
}

void images_forget(struct etcd_server *server)
{
    struct upkeep *upkeep = &server->upkeep;
    for (struct image_request *request = upkeep->images, *next; request; request = next) {
        next = request->next;
        raft_message_done(&request->message);
        free(request);
    }
    upkeep->images = NULL;
}

/* Under the write lock that backend_install took: everything that was built from the database. */
static int reload(struct etcd_server *server, struct kp_error *error)
{
    struct members members = {0};
    struct alarms *alarms = &server->alarms;
    int rc;
    if ((rc = mvcc_reload(server->mvcc, kp_mono_ms(), error)) < 0 || (rc = alarms_reload(server->backend, alarms, error)) < 0 ||
        (rc = auth_reload(server->auth, server->backend, error)) < 0 ||
        (rc = members_load(server->backend, &members, error)) < 0)
        return rc;
    members_replace(&server->members, &members);
    return 0;
}

/* The database first: should a crash come before the marker, the next start finds a database that is ahead of the log
   and says by META_INSTALLED that this is no damage. */
void images_install(struct etcd_server *server, const struct raft_snapshot *snapshot, const char *path)
{
    struct node *node = &server->node;
    struct kp_error error = {0};
    if (backend_install(server->backend, path, META_INSTALLED, snapshot->index, &error) < 0)
        server_die(server, "install a snapshot", &error);
    int rc = reload(server, &error);
    backend_write_unlock(server->backend);
    if (rc < 0)
        server_die(server, "read an installed snapshot", &error);
    struct wal_snapshot marker = {.index = snapshot->index, .term = snapshot->term, .conf = snapshot->conf};
    if (wal_append_snapshot(node->wal, &marker, &error) < 0)
        server_die(server, "mark a snapshot in the log", &error);
    node->conf = snapshot->conf;
    node->conf_index = snapshot->index;
    node->term_applied = false;
    atomic_store(&node->applied, snapshot->index);
    atomic_store(&server->upkeep.last_snapshot, snapshot->index);
    cluster_note_conf(server);
    cluster_know_peers(server);
    char index[24];
    snprintf(index, sizeof index, "%llu", (unsigned long long)snapshot->index);
    kp_info("installed a snapshot of the leader", "index", index, NULL);
}
