/* Whether the API in memory, which the driver is tested against, answers as the published API description (docs.hetzner.cloud, of February 2026) says:
 * fields and their types, status and error codes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "tests/support/hetzner_fake.h"

/* "name:type", the type i(nteger), n(umber), s(tring), b(oolean), a(rray) or o(bject); '?' it may be missing, '!' it may be null. Objects that are null
   in the published examples have '!' too. */
static const char action[] = "command:s error:o! finished:s! id:i progress:i resources:a started:s status:s";
static const char server[] = "backup_window:s! created:s datacenter:o id:i image:o! included_traffic:i! ingoing_traffic:i! iso:o! labels:o load_balancers:a? location:o "
                             "locked:b name:s outgoing_traffic:i! placement_group:o?! primary_disk_size:i private_net:a protection:o public_net:o rescue_enabled:b "
                             "server_type:o status:s volumes:a?";
static const char public_net[] = "firewalls:a? floating_ips:a ipv4:o! ipv6:o!";
static const char ipv4[] = "blocked:b dns_ptr:s id:i? ip:s";
static const char private_net[] = "alias_ips:a? ip:s? mac_address:s? network:i?";
static const char server_type[] = "architecture:s category:s? cores:i cpu_type:s deprecated:b! deprecation:o?! description:s disk:n id:i locations:a memory:n name:s prices:a "
                                  "storage_type:s";
static const char network[] = "created:s expose_routes_to_vswitch:b id:i ip_range:s labels:o load_balancers:a? name:s protection:o routes:a servers:a subnets:a";
static const char subnet[] = "gateway:s ip_range:s? network_zone:s type:s vswitch_id:i?!";
static const char route[] = "destination:s gateway:s";
static const char firewall[] = "applied_to:a created:s id:i labels:o? name:s rules:a";
static const char rule[] = "description:s?! destination_ips:a direction:s port:s! protocol:s source_ips:a";
static const char placement_group[] = "created:s id:i labels:o name:s servers:a type:s";
static const char primary_ip[] = "assignee_id:i! assignee_type:s auto_delete:b blocked:b created:s datacenter:o dns_ptr:a id:i ip:s labels:o location:o name:s protection:o type:s";
static const char load_balancer[] = "algorithm:o created:s id:i included_traffic:i ingoing_traffic:i! labels:o load_balancer_type:o location:o name:s outgoing_traffic:i! "
                                    "private_net:a protection:o public_net:o services:a targets:a";
static const char service[] = "destination_port:i health_check:o http:o? listen_port:i protocol:s proxyprotocol:b";
static const char health_check[] = "http:o? interval:i port:i protocol:s retries:i timeout:i";
static const char http[] = "domain:s! path:s response:s? status_codes:a? tls:b?";
static const char target[] = "health_status:a? ip:o?! label_selector:o?! server:o? targets:a? type:s use_private_ip:b?";
static const char health_status[] = "listen_port:i? status:s?";
static const char balancer_net[] = "enabled:b ipv4:o ipv6:o";
static const char balancer_type[] = "deprecated:s! description:s id:i max_assigned_certificates:i max_connections:i max_services:i max_targets:i name:s prices:a";
static const char image[] = "architecture:s bound_to:i! created:s created_from:o! deleted:s! deprecated:s! description:s disk_size:n id:i image_size:n! labels:o name:s! "
                            "os_flavor:s os_version:s! protection:o rapid_deploy:b? status:s type:s";
static const char location[] = "city:s country:s description:s id:i latitude:n longitude:n name:s network_zone:s";
static const char pagination[] = "last_page:i! next_page:i! page:i per_page:i previous_page:i! total_entries:i!";
static const char error_body[] = "code:s details:o?! message:s";

static bool is_of(const json_t *value, char type)
{
    switch (type) {
    case 'i': return json_is_integer(value);
    case 'n': return json_is_number(value);
    case 's': return json_is_string(value);
    case 'b': return json_is_boolean(value);
    case 'a': return json_is_array(value);
    case 'o': return json_is_object(value);
    default: return false;
    }
}

/* Every field of the list is there, and there is no other. */
static void has_fields(const char *what, const json_t *object, const char *fields)
{
    KP_AUTO_FREE char *copy = kp_strdup(fields);
    size_t known = 0;
    if (!json_is_object(object))
        fail_msg("%s is no object", what);
    for (char *rest = copy, *field; (field = strsep(&rest, " ")) != NULL;) {
        char *type = strchr(field, ':');
        *type++ = 0;
        const json_t *value = json_object_get(object, field);
        known += value != NULL;
        if (!value && !strchr(type, '?'))
            fail_msg("%s has no %s", what, field);
        if (value && !is_of(value, *type) && !(json_is_null(value) && strchr(type, '!')))
            fail_msg("%s.%s is of another type than %c", what, field, *type);
    }
    if (known != json_object_size(object))
        fail_msg("%s has %zu fields, the description knows %zu of them", what, json_object_size(object), known);
}

static struct hetzner_fake fake; /* one process, with a new project for each test */

struct world {
    struct hetzner_fake *fake;
    int64_t network, server, balancer;
};

static json_t *call(struct world *w, int status, const char *method, const char *path, const char *body)
{
    json_t *answer = NULL;
    int got = hetzner_fake_call(w->fake, method, path, NULL, body, &answer);
    if (got != status)
        fail_msg("%s %s: %d, %d is wanted: %s", method, path, got, status, rest_json_text(answer, "error/message"));
    return answer;
}

static const char *path_of(struct world *w, const char *format, int64_t id)
{
    KP_AUTO_BUF struct kp_buf text = {0};
    const char *at = strstr(format, "ID");
    kp_buf_printf(&text, "/v1/%.*s%lld%s", (int)(at - format), format, (long long)id, at + 2);
    return kp_arena_strdup(w->fake->arena, text.data);
}

/* A network with a subnet, a server in it, and a load balancer with both. */
static int setup(void **state)
{
    struct world *w = kp_calloc(1, sizeof(*w));
    *state = w;
    w->fake = &fake;
    hetzner_fake_reset(&fake);
    hetzner_fake_call(w->fake, "POST", "/_fake/set", NULL, "{\"ticks\":0}", NULL);
    KP_AUTO(json_decref) json_t *net = call(w, 201, "POST", "/v1/networks", "{\"name\":\"n\",\"ip_range\":\"10.1.0.0/16\",\"subnets\":[{\"type\":\"cloud\","
                                            "\"ip_range\":\"10.1.0.0/16\",\"network_zone\":\"eu-central\"}]}");
    w->network = rest_json_int(net, "network/id");
    KP_AUTO(json_decref) json_t *made = call(w, 201, "POST", "/v1/servers", "{\"name\":\"s\",\"server_type\":\"cx22\",\"image\":\"4712\"}");
    w->server = rest_json_int(made, "server/id");
    KP_AUTO(json_decref) json_t *lb = call(w, 201, "POST", "/v1/load_balancers", "{\"name\":\"b\",\"load_balancer_type\":\"lb11\",\"network_zone\":\"eu-central\"}");
    w->balancer = rest_json_int(lb, "load_balancer/id");
    const char *attach = kp_arena_printf(w->fake->arena, "{\"network\":%lld}", (long long)w->network);
    json_decref(call(w, 201, "POST", path_of(w, "servers/ID/actions/attach_to_network", w->server), attach));
    json_decref(call(w, 201, "POST", path_of(w, "load_balancers/ID/actions/attach_to_network", w->balancer), attach));
    json_decref(call(w, 201, "POST", path_of(w, "load_balancers/ID/actions/add_service", w->balancer),
                     "{\"protocol\":\"tcp\",\"listen_port\":80,\"destination_port\":30080,\"health_check\":{\"protocol\":\"http\",\"port\":1,\"interval\":15,\"timeout\":10,"
                     "\"retries\":3,\"http\":{\"path\":\"/\"}}}"));
    json_decref(call(w, 201, "POST", path_of(w, "load_balancers/ID/actions/add_target", w->balancer),
                     kp_arena_printf(w->fake->arena, "{\"type\":\"server\",\"server\":{\"id\":%lld},\"use_private_ip\":true}", (long long)w->server)));
    json_decref(call(w, 201, "POST", path_of(w, "networks/ID/actions/add_route", w->network), "{\"destination\":\"10.244.1.0/24\",\"gateway\":\"10.1.0.2\"}"));
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;
    free(w);
    return 0;
}

static void answers_have_the_fields_of_the_description(void **state)
{
    struct world *w = *state;
    KP_AUTO(json_decref) json_t *s = call(w, 200, "GET", path_of(w, "servers/ID", w->server), NULL);
    has_fields("server", rest_json_at(s, "server"), server);
    has_fields("public_net", rest_json_at(s, "server/public_net"), public_net);
    has_fields("ipv4", rest_json_at(s, "server/public_net/ipv4"), ipv4);
    has_fields("private_net", rest_json_at(s, "server/private_net/0"), private_net);
    has_fields("server_type", rest_json_at(s, "server/server_type"), server_type);
    has_fields("image", rest_json_at(s, "server/image"), image);
    has_fields("location", rest_json_at(s, "server/location"), location);
    KP_AUTO(json_decref) json_t *n = call(w, 200, "GET", path_of(w, "networks/ID", w->network), NULL);
    has_fields("network", rest_json_at(n, "network"), network);
    has_fields("subnet", rest_json_at(n, "network/subnets/0"), subnet);
    has_fields("route", rest_json_at(n, "network/routes/0"), route);
    KP_AUTO(json_decref) json_t *b = call(w, 200, "GET", path_of(w, "load_balancers/ID", w->balancer), NULL);
    has_fields("load_balancer", rest_json_at(b, "load_balancer"), load_balancer);
    has_fields("service", rest_json_at(b, "load_balancer/services/0"), service);
    has_fields("health_check", rest_json_at(b, "load_balancer/services/0/health_check"), health_check);
    has_fields("http", rest_json_at(b, "load_balancer/services/0/health_check/http"), http);
    has_fields("target", rest_json_at(b, "load_balancer/targets/0"), target);
    has_fields("health_status", rest_json_at(b, "load_balancer/targets/0/health_status/0"), health_status);
    has_fields("public_net", rest_json_at(b, "load_balancer/public_net"), balancer_net);
    has_fields("load_balancer_type", rest_json_at(b, "load_balancer/load_balancer_type"), balancer_type);
}

static void what_is_made_has_its_fields_and_actions(void **state)
{
    struct world *w = *state;
    KP_AUTO(json_decref) json_t *f = call(w, 201, "POST", "/v1/firewalls", "{\"name\":\"f\",\"rules\":[{\"direction\":\"in\",\"protocol\":\"tcp\",\"port\":\"6443\","
                                          "\"source_ips\":[\"0.0.0.0/0\"]}]}");
    has_fields("firewalls.create", f, "actions:a firewall:o");
    has_fields("firewall", rest_json_at(f, "firewall"), firewall);
    has_fields("rule", rest_json_at(f, "firewall/rules/0"), rule);
    KP_AUTO(json_decref) json_t *g = call(w, 201, "POST", "/v1/placement_groups", "{\"name\":\"g\",\"type\":\"spread\"}");
    has_fields("placement_group", rest_json_at(g, "placement_group"), placement_group);
    KP_AUTO(json_decref) json_t *p = call(w, 201, "POST", "/v1/primary_ips", "{\"name\":\"p\",\"type\":\"ipv4\",\"assignee_type\":\"server\",\"location\":\"fsn1\"}");
    has_fields("primary_ip", rest_json_at(p, "primary_ip"), primary_ip);
    KP_AUTO(json_decref) json_t *s = call(w, 201, "POST", "/v1/servers", "{\"name\":\"s2\",\"server_type\":\"cx22\",\"image\":\"4712\"}");
    has_fields("servers.create", s, "action:o next_actions:a root_password:s! server:o");
    has_fields("action", rest_json_at(s, "action"), action);
    KP_AUTO(json_decref) json_t *a = call(w, 200, "GET", path_of(w, "actions/ID", rest_json_int(s, "action/id")), NULL);
    has_fields("actions.get", rest_json_at(a, "action"), action);
    KP_AUTO(json_decref) json_t *d = call(w, 200, "DELETE", path_of(w, "servers/ID", rest_json_int(s, "server/id")), NULL);
    has_fields("servers.delete", d, "action:o");
    json_decref(call(w, 204, "DELETE", path_of(w, "firewalls/ID", rest_json_int(f, "firewall/id")), NULL));
    json_decref(call(w, 204, "DELETE", path_of(w, "placement_groups/ID", rest_json_int(g, "placement_group/id")), NULL));
    json_decref(call(w, 204, "DELETE", path_of(w, "primary_ips/ID", rest_json_int(p, "primary_ip/id")), NULL));
    json_decref(call(w, 204, "DELETE", path_of(w, "load_balancers/ID", w->balancer), NULL));
    json_decref(call(w, 204, "DELETE", path_of(w, "networks/ID", w->network), NULL));
}

static void lists_have_pages(void **state)
{
    struct world *w = *state;
    static const char *const collections[] = {"servers", "networks", "load_balancers", "firewalls", "placement_groups", "primary_ips", "images", "server_types", "locations",
                                              "load_balancer_types"};
    for (size_t i = 0; i < KP_ARRAY_LEN(collections); i++) {
        KP_AUTO(json_decref) json_t *list = call(w, 200, "GET", kp_arena_printf(w->fake->arena, "/v1/%s?page=1&per_page=1", collections[i]), NULL);
        has_fields(collections[i], list, kp_arena_printf(w->fake->arena, "%s:a meta:o", collections[i]));
        has_fields("pagination", rest_json_at(list, "meta/pagination"), pagination);
    }
    KP_AUTO(json_decref) json_t *first = call(w, 200, "GET", "/v1/locations?page=1&per_page=1", NULL), *last = call(w, 200, "GET", "/v1/locations?page=4&per_page=1", NULL);
    assert_int_equal(rest_json_int(first, "meta/pagination/next_page"), 2);
    assert_true(json_is_null(rest_json_at(first, "meta/pagination/previous_page")));
    assert_true(json_is_null(rest_json_at(last, "meta/pagination/next_page")));
    KP_AUTO(json_decref) json_t *none = call(w, 200, "GET", "/v1/servers?label_selector=a%3Db", NULL);
    assert_int_equal(json_array_size(rest_json_at(none, "servers")), 0);
}

static void errors_have_codes_and_fields(void **state)
{
    struct world *w = *state;
    static const struct {
        int status; /* those that the description gives, else what fits */
        const char *method, *path, *token, *body, *code;
    } cases[] = {
        {401, "GET", "/v1/servers", "nobody", NULL, "unauthorized"}, {403, "POST", "/v1/networks", HETZNER_FAKE_READONLY, "{}", "token_readonly"},
        {404, "GET", "/v1/servers/1", NULL, NULL, "not_found"}, {404, "GET", "/v1/actions/1", NULL, NULL, "not_found"}, {400, "POST", "/v1/servers", NULL, "{", "json_error"},
        {409, "POST", "/v1/networks", NULL, "{\"name\":\"n\",\"ip_range\":\"10.2.0.0/16\"}", "uniqueness_error"},
        {422, "POST", "/v1/networks", NULL, "{\"name\":\"m\",\"ip_range\":\"8.8.8.0/24\"}", "invalid_input"},
        {422, "POST", "/v1/servers", NULL, "{\"name\":\"no_host_name\"}", "invalid_input"},
        {422, "POST", "/v1/servers", NULL, "{\"name\":\"x\",\"server_type\":\"cx99\",\"image\":\"4712\"}", "invalid_input"},
        {412, "POST", "/v1/servers", NULL, "{\"name\":\"x\",\"server_type\":\"ccx13\",\"image\":\"4712\",\"location\":\"ash\"}", "resource_unavailable"},
        {422, "POST", "/v1/placement_groups", NULL, "{\"name\":\"x\",\"type\":\"gather\"}", "invalid_input"},
        {422, "GET", "/v1/servers?per_page=51", NULL, NULL, "invalid_input"},
        {422, "POST", "/v1/networks", NULL, "{\"name\":\"m\",\"ip_range\":\"10.2.0.0/16\",\"labels\":{\"a b\":\"\"}}", "invalid_input"},
    };
    for (size_t i = 0; i < KP_ARRAY_LEN(cases); i++) {
        KP_AUTO(json_decref) json_t *answer = NULL;
        int status = hetzner_fake_call(w->fake, cases[i].method, cases[i].path, cases[i].token, cases[i].body, &answer);
        has_fields(cases[i].path, rest_json_at(answer, "error"), error_body);
        assert_string_equal(rest_json_text(answer, "error/code"), cases[i].code);
        assert_int_equal(status, cases[i].status);
        if (kp_streq(cases[i].code, "invalid_input"))
            has_fields("field", rest_json_at(answer, "error/details/fields/0"), "name:s messages:a");
    }
}

static void actions_answer_with_the_errors_of_the_description(void **state)
{
    struct world *w = *state;
    const char *attach = kp_arena_printf(w->fake->arena, "{\"network\":%lld}", (long long)w->network);
    const char *again = kp_arena_printf(w->fake->arena, "{\"type\":\"server\",\"server\":{\"id\":%lld},\"use_private_ip\":true}", (long long)w->server);
    const struct {
        const char *path, *body, *code;
        int64_t id;
    } cases[] = {
        {"servers/ID/actions/attach_to_network", attach, "server_already_attached", w->server},
        {"load_balancers/ID/actions/attach_to_network", attach, "load_balancer_already_attached", w->balancer},
        {"load_balancers/ID/actions/add_service", "{\"protocol\":\"tcp\",\"listen_port\":80,\"destination_port\":1}", "source_port_already_used", w->balancer},
        {"load_balancers/ID/actions/add_target", again, "target_already_defined", w->balancer},
        {"load_balancers/ID/actions/detach_from_network", NULL, "targets_without_use_private_ip", w->balancer},
    };
    for (size_t i = 0; i < KP_ARRAY_LEN(cases); i++) {
        KP_AUTO(json_decref) json_t *answer = call(w, 422, "POST", path_of(w, cases[i].path, cases[i].id), cases[i].body);
        assert_string_equal(rest_json_text(answer, "error/code"), cases[i].code);
    }
}

static void the_rate_is_in_the_headers(void **state)
{
    struct world *w = *state;
    const char *headers[] = {"Authorization: Bearer " HETZNER_FAKE_TOKEN, NULL};
    const struct rest_request request = {.operation = "test", .method = "GET", .url = kp_arena_printf(w->fake->arena, "%s/v1/locations", w->fake->url), .headers = headers};
    struct rest_answer answer;
    struct kp_error error = {0};
    hetzner_fake_call(w->fake, "POST", "/_fake/set", NULL, "{\"rate_limit\":1}", NULL);
    assert_int_equal(rest_do(w->fake->rest, &request, w->fake->arena, &answer, &error), 0);
    assert_int_equal(answer.status, 200);
    assert_string_equal(rest_header(&answer, "RateLimit-Limit"), "1");
    assert_string_equal(rest_header(&answer, "RateLimit-Remaining"), "0");
    assert_non_null(rest_header(&answer, "RateLimit-Reset"));
    assert_int_equal(rest_do(w->fake->rest, &request, w->fake->arena, &answer, &error), 0);
    assert_int_equal(answer.status, 429);
    assert_non_null(strstr(answer.body, "rate_limit_exceeded"));
}

static int start(void **state)
{
    return hetzner_fake_start(&fake) ? 0 : -1;
}

static int stop(void **state)
{
    hetzner_fake_stop(&fake);
    return 0;
}

int main(void)
{
#define WORLD(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
    const struct CMUnitTest tests[] = {
        WORLD(answers_have_the_fields_of_the_description), WORLD(what_is_made_has_its_fields_and_actions), WORLD(lists_have_pages), WORLD(errors_have_codes_and_fields),
        WORLD(actions_answer_with_the_errors_of_the_description), WORLD(the_rate_is_in_the_headers),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
