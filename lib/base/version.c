/* The one object that the version is compiled into: a build of another version links the same others with another of this. */
#include "base/version.h"

const char kp_version[] = KP_VERSION;
