/* Passing one request on to another server, and its answer back. */
#ifndef APISERVER_HTTP_RELAY_INTERNAL_H
#define APISERVER_HTTP_RELAY_INTERNAL_H

#include "controlplane/apiserver/http/http_internal.h"

#define RELAY_HEADERS_MAX 128 /* of an answer; more are not passed on */

/* Where a request goes on to. Everything but client and owner is borrowed for the call. */
struct relay_target {
    struct http_client *client;   /* of the server's own loop */
    void (*release)(void *owner); /* called once when client is not used any more; never on the loop */
    void *owner;
    const char *path; /* with the query */
    const struct http_header *headers; /* all that are sent, Host too */
    size_t header_count;
    int64_t timeout_ms; /* of the whole answer; -1: none */
    bool aggregated;    /* failures are plain text and redirects refused, as upstream's aggregator does; else failures are a Status */
};
/* Sends the method and the body of the request, and answers it with what comes back: streamed with the client's pace, or as a tunnel when it asks to
   upgrade. Takes over what the request counts for in flight. */
void relay_request(struct api_request *ar, const struct relay_target *target);
bool relay_is_upgrade(const struct api_request *ar);
bool relay_hop_by_hop(const char *name); /* a header that is of one connection, or made anew */
void relay_respond_plain(struct http_request *request, int status, const char *text); /* as Go's http.Error */

#endif
