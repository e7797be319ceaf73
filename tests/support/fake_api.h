/* A small API server for tests of clients: JSON objects in memory over plain HTTP on loopback, with mishaps on demand. */
#ifndef TEST_FAKE_API_H
#define TEST_FAKE_API_H

#include "lib/client/client.h"

struct fake_api;
struct fake_api *fake_api_new(struct loop *loop); /* the loop must be running */
void fake_api_free(struct fake_api *api);
const char *fake_api_url(const struct fake_api *api);
/* Creates or replaces an object of "/api/v1/namespaces/d/configmaps" by JSON with metadata.name; tells watchers unless silent. */
void fake_api_put(struct fake_api *api, const char *collection, const char *json, bool silent);
void fake_api_remove(struct fake_api *api, const char *collection, const char *name, bool silent);
/* The stored JSON, or NULL; the caller frees. */
char *fake_api_get(struct fake_api *api, const char *collection, const char *name);
void fake_api_drop_watches(struct fake_api *api);                 /* ends every watch now */
void fake_api_send(struct fake_api *api, const char *event);      /* one raw line to every watch */
/* The next `count` requests of a method (lists and watches are "LIST" and "WATCH") get this status and body; they hang when
   status is 0. */
void fake_api_fail(struct fake_api *api, const char *method, int count, int status, const char *body);
/* Requests of exactly this path get this status and body, until another path is given; NULL: none. */
void fake_api_refuse(struct fake_api *api, const char *path, int status, const char *body);
struct fake_api_counts {
    int lists, watches, requests;
    char watch_version[32]; /* resourceVersion of the last watch */
    char authorization[128]; /* of the last request */
};
struct fake_api_counts fake_api_counts(struct fake_api *api);

#endif
