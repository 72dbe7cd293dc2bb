// SPDX-License-Identifier: Apache-2.0
/*
 * What all implementations of daemon/remote.h share: waiting for a call, from a helper thread.
 */
#include "daemon/remote.h"

#include <assert.h>
#include <errno.h>
#include <semaphore.h>

struct waiter {
    sem_t done;
    void (*outer_done)(struct remote_call *call);
    void *outer_arg;
};

static void waiter_done(struct remote_call *call)
{
    struct waiter *w = call->arg;
    sem_post(&w->done);
}

int remote_call_wait(struct remote *r, struct remote_call *call)
{
    struct waiter w = {.outer_done = call->done, .outer_arg = call->arg};
    assert(!loop_current()); /* it would wait for itself */
    sem_init(&w.done, 0, 0);
    call->done = waiter_done;
    call->arg = &w;
    remote_submit(r, call);
    while (sem_wait(&w.done) < 0 && errno == EINTR)
        ;
    sem_destroy(&w.done);
    call->done = w.outer_done;
    call->arg = w.outer_arg;
    return call->error;
}
