/* The generated API structs and the client, included in one place. */
#ifndef KUBELET_API_INTERNAL_H
#define KUBELET_API_INTERNAL_H

#include "api/k8s.h"
#include "lib/base/base.h"
#include "lib/client/client.h"
#include "lib/codec/codec.h"

#endif
