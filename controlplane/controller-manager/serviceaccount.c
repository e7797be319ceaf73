/* What every namespace is given: the ServiceAccount "default" and the ConfigMap with the cluster's root certificate. */
#include "controlplane/controller-manager/controllers.h"

#define ROOT_CA_CONFIG_MAP "kube-root-ca.crt"

static const struct k8s_namespace *active_namespace(const struct plan_input *in)
{
    const struct k8s_namespace *ns = client_view_get(in->view, engine_cache(in->engine, &k8s_namespaces_resource), "", in->name);
    return ns && !ns->metadata->deletion_timestamp.set ? ns : NULL;
}

/* A namespace's own key: from the object inside it that was changed or removed. */
static void map_to_namespace(struct controller_run *run, const struct client_object *old, const struct client_object *new)
{
    const struct client_object *object = new ? new : old;
    if (kp_streq(object->name, ROOT_CA_CONFIG_MAP) || kp_streq(object->name, "default"))
        engine_enqueue(run, "", object->ns);
}

static int plan_serviceaccount(const struct plan_input *in, struct plan *plan, struct kp_error *error)
{
    if (!active_namespace(in) || client_view_get(in->view, engine_cache(in->engine, &k8s_serviceaccounts_resource), in->name, "default"))
        return 0;
    struct k8s_service_account *account = KP_OBJECT_NEW(in->arena, k8s_service_account);
    account->metadata->name = "default";
    account->metadata->namespace = in->name;
    plan_create(plan, &k8s_serviceaccounts_resource, in->name, account);
    return 0;
}

static int setup_serviceaccount(struct engine *engine, struct controller_run *run, void **ret_state, struct kp_error *error)
{
    engine_watch(run, &k8s_namespaces_resource, engine_map_self);
    engine_watch(run, &k8s_serviceaccounts_resource, map_to_namespace);
    return 0;
}

const struct controller serviceaccount_controller = {
    .name = "serviceaccount-controller", .setup = setup_serviceaccount, .plan = plan_serviceaccount,
};

static int plan_root_ca(const struct plan_input *in, struct plan *plan, struct kp_error *error)
{
    const char *pem = engine_config(in->engine)->root_ca_pem;
    if (!pem || !active_namespace(in))
        return 0;
    const struct k8s_config_map *map =
        client_view_get(in->view, engine_cache(in->engine, &k8s_configmaps_resource), in->name, ROOT_CA_CONFIG_MAP);
    if (map && map->data.len == 1 && kp_streq(kp_string_map_get(&map->data, "ca.crt"), pem))
        return 0;
    struct k8s_config_map *wanted = map ? KP_OBJECT_CLONE(in->arena, k8s_config_map, map) : KP_OBJECT_NEW(in->arena, k8s_config_map);
    wanted->metadata->name = ROOT_CA_CONFIG_MAP;
    wanted->metadata->namespace = in->name;
    kp_string_map_set(in->arena, &wanted->metadata->annotations, "kubernetes.io/description",
                      "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the "
                      "internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes clusters.");
    wanted->data = (struct kp_string_map){0};
    kp_string_map_set(in->arena, &wanted->data, "ca.crt", pem);
    if (map)
        plan_update(plan, &k8s_configmaps_resource, wanted);
    else
        plan_create(plan, &k8s_configmaps_resource, in->name, wanted);
    return 0;
}

static int setup_root_ca(struct engine *engine, struct controller_run *run, void **ret_state, struct kp_error *error)
{
    engine_watch(run, &k8s_namespaces_resource, engine_map_self);
    engine_watch(run, &k8s_configmaps_resource, map_to_namespace);
    return 0;
}

const struct controller root_ca_publisher_controller = {
    .name = "root-ca-certificate-publisher-controller", .setup = setup_root_ca, .plan = plan_root_ca,
};
