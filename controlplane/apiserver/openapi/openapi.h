/* controlplane/apiserver/openapi: the /openapi/v2 and /openapi/v3 documents, made from the schema. */
#ifndef APISERVER_OPENAPI_H
#define APISERVER_OPENAPI_H

#include "lib/http/http.h"

struct aggregator_view; /* aggregator/aggregator.h */

/* Answers GET of /openapi/v2, /openapi/v3 and /openapi/v3/... (JSON and upstream's protobuf by Accept, ETag, 404 for an unknown
   group version). Documents are made on first use, kept, and made anew when the custom resources in them have changed. Any thread, on the
   worker pool. The index names the documents of aggregated API servers (view may be NULL), which are theirs to serve. */
void openapi_serve(struct http_request *req, const struct aggregator_view *view);

#endif
