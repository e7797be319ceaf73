/* The version of this build: of kprov and of the Kubernetes it is. A header of its own, so that few files know of it. */
#ifndef KP_BASE_VERSION_H
#define KP_BASE_VERSION_H

extern const char kp_version[]; /* "v1.36.0" */

#endif
