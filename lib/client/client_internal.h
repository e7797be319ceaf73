/* What the files of lib/client share. */
#ifndef KP_CLIENT_INTERNAL_H
#define KP_CLIENT_INTERNAL_H

#include "lib/client/client.h"
#include "lib/http/http.h"
#include "api/k8s.h"

struct loop *client_loop(const struct client *client);
/* "/api/v1/namespaces/NS/pods/NAME/SUB"; ns, name and sub may be NULL. */
void client_resource_path(struct kp_buf *out, const struct kp_resource *resource, const char *ns, const char *name,
                          const char *subresource);
/* GET as a stream with the client's credentials; timeout_ms as in http_client_request. */
struct http_call *client_stream(struct client *client, const char *path, const char *accept, int64_t timeout_ms,
                                const struct http_call_callbacks *callbacks, void *arg);
/* Makes an error of a metav1.Status body, or of the HTTP status alone. Returns the code. */
int client_status_to_error(const char *body, size_t len, int http_status, struct kp_error *error);

int client_object_decode(const struct kp_type *type, const char *json, size_t len, struct client_object **ret_object,
                         struct kp_error *error);
/* A counted deep copy of one object, in an arena of its own. */
struct client_object *client_object_copy(const struct kp_type *type, const void *data);
/* Counted snapshot of the cache; index < 0: all, of one namespace when ns is not NULL. The caller unrefs and frees. */
size_t client_informer_snapshot(const struct client_informer *informer, const char *ns, int index, const char *value,
                                struct client_object ***ret_objects);

#endif
