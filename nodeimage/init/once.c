/* What is to happen at one boot only, before anything else runs: putting a database in its place. */
#include "init_internal.h"

static int run(const struct init_once *once, struct kp_error *error)
{
    KP_AUTO_BUF struct kp_buf complaint = {0};
    int status = 0;
    int r = kp_run(once->argv, INIT_ONCE_MS_MAX, NULL, &complaint, &status, error);
    if (r == 0 && status != 0)
        r = kp_fail(error, KP_EIO, "%s ended with %d: %s", once->id, status, complaint.data ? complaint.data : "");
    return r;
}

int init_run_once(const struct init_config *config, const char *dir, struct kp_error *error)
{
    int r = config->n_once ? kp_mkdir_p(dir, 0700, error) : 0;
    for (size_t i = 0; r == 0 && i < config->n_once; i++) {
        KP_AUTO_FREE char *done = kp_asprintf("%s/%s", dir, config->once[i].id);
        if (kp_path_exists(done))
            continue;
        r = run(&config->once[i], error);
        if (r == 0)
            r = kp_write_file(done, "", 0, 0600, error);
        if (r == 0)
            kp_info("done once", "id", config->once[i].id, NULL);
    }
    return r;
}
