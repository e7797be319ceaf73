/* Promises about what clouds with an API have: sizes, images, public addresses, forwarding, routes. */
#include <arpa/inet.h>

#include "tests/contract/contract.h"

static bool in_order(const struct cloud_machine_type *a, const struct cloud_machine_type *b)
{
    if (a->vcpus != b->vcpus)
        return a->vcpus < b->vcpus;
    return a->memory_mib != b->memory_mib ? a->memory_mib < b->memory_mib : strcmp(a->name, b->name) < 0;
}

void contract_types(struct contract *c)
{
    struct kp_error error = {0};
    struct cloud_machine_type_list types = {0};
    bool whole = true, sorted = true, named = false;
    under(c, "machine_types");
    int r = cloud_machine_types(c->cloud, c->arena, &types, &error);
    if (r == KP_ENOTSUPPORTED) {
        unsupported(c, "machine_types");
        return;
    }
    check(c, r == 0 && types.len > 0, &error, "the cloud tells its sizes");
    for (size_t i = 0; i < types.len; i++) {
        const struct cloud_machine_type *type = &types.items[i];
        whole &= !kp_empty(type->name) && type->vcpus > 0 && type->memory_mib > 0 && type->disk_gib >= 0;
        sorted &= i == 0 || in_order(type - 1, type);
        named |= kp_streq(type->name, c->machine_type);
    }
    check(c, whole, NULL, "each has a name, vCPUs and memory");
    check(c, sorted, NULL, "they are in order of vCPUs, memory, name");
    if (!kp_empty(c->machine_type))
        check(c, named, NULL, "the one that is asked for is among them");
}

void contract_images(struct contract *c)
{
    struct kp_error error = {0};
    struct kp_strings removed = {0};
    const char *const keep[] = {c->image, c->other_image, NULL};
    under(c, "image_ensure");
    check_code(c, cloud_image_ensure(c->cloud, "", &error), KP_EINVALID, &error, "an image without a name is none");
    if (!c->image) {
        skipped(c, "image_ensure", "no image");
        skipped(c, "images_prune", "no image");
        return;
    }
    check_code(c, cloud_image_ensure(c->cloud, c->image, &error), 0, &error, "the cloud has the image");
    check_code(c, cloud_image_ensure(c->cloud, c->image, &error), 0, &error, "it has it once");
    if (!c->prune) {
        skipped(c, "images_prune", "the cloud is shared");
        return;
    }
    under(c, "images_prune");
    bool gone = false;
    int r = cloud_images_prune(c->cloud, keep, &removed, &error);
    for (size_t i = 0; i < removed.len; i++)
        gone |= kp_streq(removed.items[i], c->image) || kp_streq(removed.items[i], c->other_image);
    check(c, r == 0 && !gone, &error, "those that are to be kept are kept");
    check_code(c, cloud_image_ensure(c->cloud, c->image, &error), 0, &error, "the cloud has the image still, or again");
    kp_strings_done(&removed);
}

void contract_publish(struct contract *c)
{
    struct kp_error error = {0};
    struct cloud_machine machine = {0};
    struct in_addr parsed;
    const char *own = NULL, *published = NULL, *again = NULL;
    bool other = cloud_can(c->cloud, CLOUD_HAS_PUBLIC_ADDRESSES);
    under(c, "address_publish");
    int r = cloud_address_reserve(c->cloud, c->uid, "w-2", c->arena, &own, &error);
    if (r == 0)
        r = cloud_address_publish(c->cloud, c->uid, "w-2", c->arena, &published, &error);
    if (!check_code(c, r, 0, &error, "a reserved address is published"))
        return;
    check(c, inet_pton(AF_INET, published, &parsed) == 1 && kp_streq(own, published) != other, NULL,
          other ? "it is another address than the reserved one" : "it is the reserved one itself");
    r = cloud_address_publish(c->cloud, c->uid, "w-2", c->arena, &again, &error);
    check(c, r == 0 && kp_streq(published, again), &error, "publishing it again gives the same");
    r = cloud_address_reserve(c->cloud, c->uid, "w-2", c->arena, &again, &error);
    check(c, r == 0 && kp_streq(own, again), &error, "the reserved one stays what it was");
    if (other && c->machines) {
        int64_t deadline_ms = kp_mono_ms() + c->wait_ms;
        for (;;) { /* Nova hears of it from Neutron */
            r = cloud_machine_get(c->cloud, c->uid, "w-2", c->arena, &machine, &error);
            if (r < 0 || kp_streq(machine.public_address, published) || kp_mono_ms() > deadline_ms)
                break;
            kp_sleep_ms(50);
        }
        check(c, r == 0 && kp_streq(machine.public_address, published), &error, "the machine tells it");
    }
    if (!other)
        unsupported(c, "address_publish");
}

void contract_forward(struct contract *c)
{
    static const char *const two[] = {"10.244.1.0/24", "10.244.2.0/24", NULL}, *const one[] = {"10.244.1.0/24", NULL}, *const wrong[] = {"10.244.1.0", NULL};
    struct kp_error error = {0};
    under(c, "machine_forward");
    check_code(c, cloud_machine_forward(c->cloud, c->uid, "w-2", wrong, &error), KP_EINVALID, &error, "an address is no network");
    if (!c->machines)
        return;
    check_code(c, cloud_machine_forward(c->cloud, c->uid, "w-2", two, &error), 0, &error, "a machine forwards for two networks");
    check_code(c, cloud_machine_forward(c->cloud, c->uid, "w-2", two, &error), 0, &error, "asking again is fine");
    check_code(c, cloud_machine_forward(c->cloud, c->uid, "w-2", one, &error), 0, &error, "then for one of them");
    int r = cloud_machine_forward(c->cloud, c->uid, "w-9", one, &error);
    check(c, r == KP_ENOTFOUND || r == 0, &error, "a machine that is not there is not found, where the cloud looks at all");
}

/* ---- routes */

#define FIRST "10.244.1.0/24"
#define SECOND "10.244.2.0/24"

/* The machine that the route to the destination leads to; NULL: there is none. */
static const char *leads_to(const struct cloud_route_list *list, const char *destination)
{
    for (size_t i = 0; i < list->len; i++)
        if (kp_streq(list->items[i].destination, destination))
            return list->items[i].machine;
    return NULL;
}

static void no_routes(struct contract *c)
{
    struct kp_error error = {0};
    struct cloud_route_list list = {0};
    const struct cloud_route route = {FIRST, "w-2"};
    under(c, "route_list");
    check_code(c, cloud_route_list(c->cloud, c->uid, c->arena, &list, &error), KP_ENOTSUPPORTED, &error, "this cloud has no routes");
    under(c, "route_ensure");
    check_code(c, cloud_route_ensure(c->cloud, c->uid, &route, &error), KP_ENOTSUPPORTED, &error, "this cloud makes no routes");
    under(c, "route_delete");
    check_code(c, cloud_route_delete(c->cloud, c->uid, &route, &error), KP_ENOTSUPPORTED, &error, "this cloud deletes no routes");
    unsupported(c, "route_list");
    unsupported(c, "route_ensure");
    unsupported(c, "route_delete");
}

static void make_routes(struct contract *c)
{
    struct kp_error error = {0};
    struct cloud_route_list list = {0};
    struct cloud_machine other = {0};
    under(c, "route_ensure");
    check_code(c, make_machine(c, c->uid, "w-1", &other, &error), 0, &error, "there are two machines");
    check_code(c, cloud_route_ensure(c->cloud, c->uid, &(const struct cloud_route){FIRST, "w-2"}, &error), 0, &error, "a route is made");
    check_code(c, cloud_route_ensure(c->cloud, c->uid, &(const struct cloud_route){FIRST, "w-2"}, &error), 0, &error, "making it again is fine");
    check_code(c, cloud_route_ensure(c->cloud, c->uid, &(const struct cloud_route){SECOND, "w-2"}, &error), 0, &error, "so is another one");
    under(c, "route_list");
    int r = cloud_route_list(c->cloud, c->uid, c->arena, &list, &error);
    check(c, r == 0 && list.len == 2 && kp_streq(leads_to(&list, FIRST), "w-2") && kp_streq(leads_to(&list, SECOND), "w-2"), &error, "both are listed, once each");
    under(c, "route_ensure");
    check_code(c, cloud_route_ensure(c->cloud, c->uid, &(const struct cloud_route){FIRST, "w-1"}, &error), 0, &error, "a route is made to lead elsewhere");
    r = cloud_route_list(c->cloud, c->uid, c->arena, &list, &error);
    check(c, r == 0 && list.len == 2 && kp_streq(leads_to(&list, FIRST), "w-1") && kp_streq(leads_to(&list, SECOND), "w-2"), &error, "it does, and is the only one to there");
}

static void lose_routes(struct contract *c)
{
    struct kp_error error = {0};
    struct cloud_route_list list = {0};
    under(c, "route_list");
    int r = cloud_machine_delete(c->cloud, c->uid, "w-1", &error);
    if (r == 0)
        r = cloud_route_list(c->cloud, c->uid, c->arena, &list, &error);
    check(c, r == 0 && kp_empty(leads_to(&list, FIRST)), &error, "one whose machine is gone leads nowhere, or is gone too");
    under(c, "route_delete");
    check_code(c, cloud_route_delete(c->cloud, c->uid, &(const struct cloud_route){FIRST, ""}, &error), 0, &error, "it is deleted by its destination");
    check_code(c, cloud_route_delete(c->cloud, c->uid, &(const struct cloud_route){FIRST, ""}, &error), 0, &error, "deleting it again succeeds");
    r = cloud_route_list(c->cloud, c->uid, c->arena, &list, &error);
    check(c, r == 0 && list.len == 1 && kp_streq(leads_to(&list, SECOND), "w-2"), &error, "the other one stays");
    check_code(c, cloud_route_delete(c->cloud, c->uid, &(const struct cloud_route){SECOND, "w-2"}, &error), 0, &error, "until it is deleted");
    r = cloud_route_list(c->cloud, c->uid, c->arena, &list, &error);
    check(c, r == 0 && list.len == 0, &error, "then there is none");
}

void contract_routes(struct contract *c)
{
    struct kp_error error = {0};
    struct cloud_route_list list = {0};
    if (!cloud_can(c->cloud, CLOUD_CAN_ROUTE)) {
        no_routes(c);
        return;
    }
    under(c, "route_list");
    int r = cloud_route_list(c->cloud, c->uid, c->arena, &list, &error);
    check(c, r == 0 && list.len == 0, &error, "a cluster begins without routes");
    under(c, "route_ensure");
    check_code(c, cloud_route_ensure(c->cloud, c->uid, &(const struct cloud_route){"10.244.1.0", "w-2"}, &error), KP_EINVALID, &error, "an address is no network");
    check_code(c, cloud_route_ensure(c->cloud, c->uid, &(const struct cloud_route){FIRST, "w-9"}, &error), KP_ENOTFOUND, &error, "a machine that is not there gets no route");
    if (!c->machines) {
        skipped(c, "route_ensure", "no image");
        skipped(c, "route_delete", "no image");
        return;
    }
    make_routes(c);
    lose_routes(c);
}
