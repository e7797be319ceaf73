/* Passwords: bcrypt, written as Go's bcrypt writes it. */
#include "controlplane/etcd/auth/auth_internal.h"

#include <crypt.h>
#include <string.h>

#define COST_MIN 4
#define COST_MAX 31
#define SALT_BYTES 16
#define PREFIX_LEN 4 /* "$2a$" */

int password_cost(int64_t wanted)
{
    return wanted < COST_MIN || wanted > COST_MAX ? AUTH_BCRYPT_COST_DEFAULT : (int)wanted;
}

/* libcrypt's "$2a$" guards against a bug that only its own forerunner had and may give another hash; its "$2b$" is what
   Go computes and calls "$2a$". */
static bool run(const char *password, const char *setting, char out[AUTH_HASH_MAX])
{
    struct crypt_data *data = kp_calloc(1, sizeof *data);
    char proper[AUTH_HASH_MAX], cut[AUTH_PASSWORD_MAX + 1]; /* bcrypt looks at no more than this */
    snprintf(proper, sizeof proper, "$2b$%s", setting + PREFIX_LEN);
    snprintf(cut, sizeof cut, "%s", password);
    const char *hash = crypt_r(cut, proper, data);
    bool fine = hash && hash[0] == '$' && strlen(hash) < AUTH_HASH_MAX;
    if (fine)
        snprintf(out, AUTH_HASH_MAX, "$2a$%s", hash + PREFIX_LEN);
    explicit_bzero(data, sizeof *data);
    explicit_bzero(cut, sizeof cut);
    free(data);
    return fine;
}

bool password_hash(const char *password, int cost, char out[AUTH_HASH_MAX])
{
    char salt[SALT_BYTES], setting[CRYPT_GENSALT_OUTPUT_SIZE];
    kp_random_bytes(salt, sizeof salt);
    if (!crypt_gensalt_rn("$2b$", (unsigned long)cost, salt, sizeof salt, setting, sizeof setting))
        return false;
    return run(password, setting, out);
}

bool password_matches(const char *password, const char *hash)
{
    bool bcrypt = kp_starts_with(hash, "$2a$") || kp_starts_with(hash, "$2b$") || kp_starts_with(hash, "$2y$");
    size_t len = strlen(hash);
    char again[AUTH_HASH_MAX];
    if (!bcrypt || len >= AUTH_HASH_MAX || !run(password, hash, again))
        return false;
    return strlen(again) == len && kp_equal_constant_time(again + PREFIX_LEN, hash + PREFIX_LEN, len - PREFIX_LEN);
}
