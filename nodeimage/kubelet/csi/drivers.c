/* The registered drivers, and who works on which volume. */
#include "nodeimage/kubelet/csi/csi_internal.h"

struct csi *csi_new(const struct csi_config *config)
{
    struct csi *csi = kp_calloc(1, sizeof(*csi));
    csi->config = *config;
    pthread_mutex_init(&csi->lock, NULL);
    pthread_cond_init(&csi->changed, NULL);
    csi->drivers = kp_strmap_new();
    csi->busy = kp_strmap_new();
    csi->staged = kp_strmap_new();
    return csi;
}

static void unref(void *driver)
{
    csi_driver_unref(driver);
}

int csi_driver_find(struct csi *csi, const char *name, struct csi_driver **ret, struct kp_error *error)
{
    pthread_mutex_lock(&csi->lock);
    struct csi_driver *driver = kp_strmap_get(csi->drivers, name);
    if (driver)
        __atomic_add_fetch(&driver->refs, 1, __ATOMIC_RELAXED);
    pthread_mutex_unlock(&csi->lock);
    if (!driver)
        return kp_fail(error, KP_EUNAVAILABLE, "driver name %s not found in the list of registered CSI drivers", name);
    *ret = driver;
    return 0;
}

bool csi_registered(struct csi *csi, const char *name)
{
    pthread_mutex_lock(&csi->lock);
    bool known = kp_strmap_get(csi->drivers, name) != NULL;
    pthread_mutex_unlock(&csi->lock);
    return known;
}

void csi_driver_put(struct csi *csi, struct csi_driver *driver)
{
    pthread_mutex_lock(&csi->lock);
    struct csi_driver *old = kp_strmap_put(csi->drivers, driver->name, driver);
    pthread_mutex_unlock(&csi->lock);
    csi_driver_unref(old);
}

void csi_driver_drop(struct csi *csi, const char *name)
{
    pthread_mutex_lock(&csi->lock);
    struct csi_driver *old = kp_strmap_remove(csi->drivers, name);
    pthread_mutex_unlock(&csi->lock);
    csi_driver_unref(old);
}

void csi_volume_lock(struct csi *csi, const char *key)
{
    pthread_mutex_lock(&csi->lock);
    while (kp_strmap_get(csi->busy, key))
        pthread_cond_wait(&csi->changed, &csi->lock);
    kp_strmap_put(csi->busy, key, csi);
    pthread_mutex_unlock(&csi->lock);
}

void csi_volume_unlock(struct csi *csi, const char *key)
{
    pthread_mutex_lock(&csi->lock);
    KP_ASSERT(kp_strmap_remove(csi->busy, key));
    pthread_cond_broadcast(&csi->changed);
    pthread_mutex_unlock(&csi->lock);
}

bool csi_staged(struct csi *csi, const char *key)
{
    pthread_mutex_lock(&csi->lock);
    bool staged = kp_strmap_get(csi->staged, key) != NULL;
    pthread_mutex_unlock(&csi->lock);
    return staged;
}

void csi_set_staged(struct csi *csi, const char *key, bool staged)
{
    pthread_mutex_lock(&csi->lock);
    if (staged)
        kp_strmap_put(csi->staged, key, csi);
    else
        kp_strmap_remove(csi->staged, key);
    pthread_mutex_unlock(&csi->lock);
}

void csi_free(struct csi *csi)
{
    if (!csi)
        return;
    csi_plugins_free(csi->plugins);
    kp_strmap_free(csi->drivers, unref);
    kp_strmap_free(csi->busy, NULL);
    kp_strmap_free(csi->staged, NULL);
    pthread_cond_destroy(&csi->changed);
    pthread_mutex_destroy(&csi->lock);
    free(csi);
}
