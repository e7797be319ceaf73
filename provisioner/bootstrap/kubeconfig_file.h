/* A kubeconfig file of the user's, held under kubectl's lock and replaced whole.

   kubectl (client-go's clientcmd) and every program built on it guard a kubeconfig by creating <file>.lock with O_EXCL, and
   remove it when they are done. A program that is killed in between leaves that file behind, and everyone after it refuses.
   Ours says that it is ours and is held with flock(2), which ends with the process: the next kprov takes a dead one's lock
   away, together with the half-written text beside it. A lock of anyone else's is waited for, and then named in the error. */
#ifndef KP_KUBECONFIG_FILE_H
#define KP_KUBECONFIG_FILE_H

#include "lib/base/base.h"

struct kubeconfig_file {
    char path[4096];   /* the file itself; where the user's path is a symbolic link, what it leads to */
    char lock[4096];   /* <the user's path>.lock */
    char unready[4096]; /* <path>.kprov: the new text until it takes the file's place */
    int fd;            /* of the lock */
};

/* Takes away what a kprov that was killed left at the path: its lock, and the text it was writing. Nothing of anyone else's, nothing that
   is held; never waits. */
void kubeconfig_file_mend(const char *path);

/* Locks the kubeconfig at the path, which need not exist; its folder has to. Waits up to 5 s for whoever holds it.
   KP_ECONFLICT when it stays locked. */
int kubeconfig_file_lock(struct kubeconfig_file *ret_file, const char *path, struct kp_error *error) KP_NODISCARD;

/* Puts the text in the file's place, with the mode and the owner the file had (0600 and the caller's for a new one).
   Readers see the old text or the new one. */
int kubeconfig_file_replace(struct kubeconfig_file *file, const char *text, size_t len, struct kp_error *error) KP_NODISCARD;

void kubeconfig_file_unlock(struct kubeconfig_file *file);

#endif
