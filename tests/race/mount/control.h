// SPDX-License-Identifier: Apache-2.0
/* The points of a daemon, over its control socket: lab_control.x. */
#ifndef NFSCACHED_RACE_MOUNT_CONTROL_H
#define NFSCACHED_RACE_MOUNT_CONTROL_H

#include <stdbool.h>
#include <sys/types.h>

struct __rpc_svcxprt;

/* The daemon's end: the listener answers the lab's calls as well. Called by control_start(). */
bool lab_control_add(struct __rpc_svcxprt *listener);

/* The caller's end. One thread at a time; 0 or negative errno. */
struct steer;
int steer_connect(dev_t dev, struct steer **out);
void steer_disconnect(struct steer *s);
int steer_hold(struct steer *s, const char *point);
int steer_release(struct steer *s, const char *point); /* "": all */
/* How many have come to the point; answered after `ms` at the latest. */
int steer_arrived(struct steer *s, const char *point, unsigned n, unsigned ms);

#endif
