// SPDX-License-Identifier: Apache-2.0
/*
 * The writers of the mmap oracle. Each, before it writes a word that only it writes, looks whether
 * the word still holds what it wrote last: a local process through its mapping or by pread, the
 * foreign one at the server. Anything else is a lost write (or one that came back).
 */
#include "tests/mount/oracle.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct local {
    struct oracle *o;
    struct rng rng;
    int fd, me;
    char *map;
    size_t len;
};

static void local_value(struct local *l, int g, enum slot_class c)
{
    struct oracle *o = l->o;
    struct known *k = &o->slot[g];
    volatile uint64_t *q = (volatile uint64_t *)(l->map + (size_t)g * 8);
    uint64_t want = k->last ? value_make(SIDE_LOCAL, g, k->last) : 0, seen, next;
    bool by_pread = rng_below(&l->rng, c == S_LOCAL_PW ? 2 : 16) == 0;

    if (by_pread) {
        if (t_pread_all(l->fd, &seen, 8, (off_t)g * 8)) {
            __sync_fetch_and_add(&o->errors, 1);
            return;
        }
    } else
        seen = *q;
    if (seen != want)
        oracle_finding(o, &o->lost_local, by_pread ? "lost local (pread)" : "lost local (mapping)",
                       g, want, seen);
    next = value_make(SIDE_LOCAL, g, k->last + 1);
    if (c == S_LOCAL_PW) {
        if (t_pwrite_all(l->fd, &next, 8, (off_t)g * 8)) {
            __sync_fetch_and_add(&o->errors, 1);
            return;
        }
        __sync_fetch_and_add(&o->n_pwrites, 1);
    } else
        *q = next;
    __sync_synchronize();
    k->last++;
    if (c == S_LOCAL_PW && rng_below(&l->rng, 4) == 0 && *q != next)
        oracle_finding(o, &o->lost_local, "lost local (mapping, right after pwrite)", g, next, *q);
}

static void local_half(struct local *l, int g)
{
    struct known *k = &l->o->slot[g];
    volatile uint32_t *q = (volatile uint32_t *)(l->map + (size_t)g * 8);
    uint32_t want = k->last ? half_make(SIDE_LOCAL, g, k->last) : 0, seen = *q;

    if (seen != want)
        oracle_finding(l->o, &l->o->lost_local, "lost local (half word)", g, want, seen);
    *q = half_make(SIDE_LOCAL, g, k->last + 1);
    __sync_synchronize();
    k->last++;
}

static void local_conflict(struct local *l, int g)
{
    struct known *k = &l->o->slot[g];
    uint64_t v;

    while (pthread_spin_trylock(&k->guard)) {
        if (l->o->stop)
            return;
        t_sleep_us(50);
    }
    v = conflict_make(SIDE_LOCAL, k->last + 1);
    if (rng_below(&l->rng, 2))
        *(volatile uint64_t *)(l->map + (size_t)g * 8) = v;
    else if (t_pwrite_all(l->fd, &v, 8, (off_t)g * 8)) {
        __sync_fetch_and_add(&l->o->errors, 1);
        pthread_spin_unlock(&k->guard);
        return;
    }
    __sync_synchronize();
    k->last++;
    pthread_spin_unlock(&k->guard);
}

static void local_sometimes(struct local *l)
{
    size_t page = rng_below(&l->rng, (uint64_t)l->o->pages) * PAGE;
    int rc = 0;

    switch (rng_below(&l->rng, 400)) {
    case 0:
        rc = msync(l->map, l->len, MS_SYNC);
        __sync_fetch_and_add(&l->o->n_msync, 1);
        break;
    case 1:
        rc = msync(l->map + page, PAGE, MS_SYNC);
        __sync_fetch_and_add(&l->o->n_msync, 1);
        break;
    case 2:
        rc = fsync(l->fd);
        break;
    case 3:
        rc = sync_file_range(l->fd, 0, 0, SYNC_FILE_RANGE_WRITE);
        break;
    case 4:
        rc = madvise(l->map + page, PAGE, MADV_DONTNEED);
        break;
    case 5:
        posix_fadvise(l->fd, 0, 0, POSIX_FADV_DONTNEED);
        break;
    }
    if (rc) {
        fprintf(stderr, "  local %d: sync: %s\n", l->me, strerror(errno));
        __sync_fetch_and_add(&l->o->errors, 1);
    }
}

void local_writer(struct oracle *o, int slot, int me)
{
    struct local l = {.o = o, .me = me, .rng = {o->seed * 131 + (uint64_t)me}};
    l.len = (size_t)o->pages * PAGE;
    l.fd = open(t_path(o->mount, o->name), O_RDWR);
    if (l.fd < 0)
        t_die("local writer: open %s/%s", o->mount, o->name);
    l.map = mmap(NULL, l.len, PROT_READ | PROT_WRITE, MAP_SHARED, l.fd, 0);
    if (l.map == MAP_FAILED)
        t_die("local writer: mmap");
    while (!o->stop) {
        watch_beat(o->watch, slot);
        oracle_pause(o, slot);
        for (int j = 0; j < 24; j++) {
            int page = (int)rng_below(&l.rng, (uint64_t)o->pages);
            int block = (int)rng_below(&l.rng, PAGE_SLOTS / 8);
            /* Half of the stores go to few words, which then meet more than once in a round. */
            if (rng_below(&l.rng, 2)) {
                page %= 8;
                block %= 4;
            }
            int g = page * PAGE_SLOTS + block * 8 + (int)rng_below(&l.rng, 8);
            enum slot_class c = oracle_class(o, g);
            if (c == S_CONFLICT)
                local_conflict(&l, g);
            else if (oracle_owner(o, g) != me)
                continue;
            else if (c == S_LOCAL_MAP || c == S_LOCAL_PW)
                local_value(&l, g, c);
            else if (c == S_HALF)
                local_half(&l, g);
            else
                continue;
            __sync_fetch_and_add(&o->n_stores, 1);
        }
        local_sometimes(&l);
        if (o->idle_us)
            t_sleep_us((long)rng_below(&l.rng, (uint64_t)o->idle_us));
    }
    munmap(l.map, l.len);
    if (close(l.fd)) {
        fprintf(stderr, "  local %d: close: %s\n", me, strerror(errno));
        __sync_fetch_and_add(&o->errors, 1);
    }
    watch_disarm(o->watch, slot);
}

/* A call of the foreign client; repeated while the server is away, if the run breaks servers. */
static void insist(struct oracle *o, int slot, struct foreign **f, int kind, void *buf, size_t n,
                   off_t off)
{
    for (;;) {
        int rc = -EIO;
        if (*f)
            rc = kind == 'r'   ? (*f)->read(*f, buf, n, off)
                 : kind == 'w' ? (*f)->write(*f, buf, n, off)
                               : (*f)->sync(*f);
        if (!rc)
            return;
        if (!o->tolerate_errors) {
            errno = -rc;
            t_die("foreign writer: %c at %lld", kind, (long long)off);
        }
        watch_beat(o->watch, slot);
        t_sleep_us(100000);
        if (*f && !strcmp((*f)->kind, "nfs")) {
            (*f)->close(*f);
            *f = NULL;
        }
        if (!*f)
            *f = foreign_open(o->foreign, o->name);
    }
}

static void foreign_store(struct oracle *o, int slot, struct foreign **f, int g, enum slot_class c)
{
    struct known *k = &o->slot[g];
    uint64_t v;
    uint32_t h;

    if (c == S_FOREIGN) {
        uint64_t want = k->sent ? value_make(SIDE_FOREIGN, g, k->sent) : 0;
        insist(o, slot, f, 'r', &v, 8, (off_t)g * 8);
        if (v != want)
            oracle_finding(o, &o->lost_foreign, "lost foreign", g, want, v);
        v = value_make(SIDE_FOREIGN, g, k->sent + 1);
        k->sent++;
        insist(o, slot, f, 'w', &v, 8, (off_t)g * 8);
    } else if (c == S_HALF) {
        uint32_t want = k->sent ? half_make(SIDE_FOREIGN, g, k->sent) : 0;
        insist(o, slot, f, 'r', &h, 4, (off_t)g * 8 + 4);
        if (h != want)
            oracle_finding(o, &o->lost_foreign, "lost foreign (half word)", g, want, h);
        h = half_make(SIDE_FOREIGN, g, k->sent + 1);
        k->sent++;
        insist(o, slot, f, 'w', &h, 4, (off_t)g * 8 + 4);
    } else {
        v = conflict_make(SIDE_FOREIGN, k->sent + 1);
        k->sent++;
        insist(o, slot, f, 'w', &v, 8, (off_t)g * 8);
    }
    __sync_fetch_and_add(&o->n_foreign, 1);
}

void foreign_writer(struct oracle *o, int slot)
{
    struct rng rng = {o->seed * 977 + 5};
    struct foreign *f = foreign_open(o->foreign, o->name);
    int batch[8];

    if (!f)
        exit(T_ERROR);
    while (!o->stop) {
        int n = 0;
        watch_beat(o->watch, slot);
        oracle_pause(o, slot);
        for (int j = 0; j < 8; j++) {
            int g = (int)rng_below(&rng, (uint64_t)o->pages * PAGE_SLOTS);
            if (rng_below(&rng, 2))
                g = g / PAGE_SLOTS % 8 * PAGE_SLOTS + g % 32;
            enum slot_class c = oracle_class(o, g);
            if (c != S_FOREIGN && c != S_HALF && c != S_CONFLICT)
                continue;
            foreign_store(o, slot, &f, g, c);
            batch[n++] = g;
        }
        insist(o, slot, &f, 's', NULL, 0, 0);
        for (int j = 0; j < n; j++)
            o->slot[batch[j]].acked = o->slot[batch[j]].sent;
        if (o->idle_us)
            t_sleep_us((long)rng_below(&rng, (uint64_t)o->idle_us));
    }
    if (f)
        f->close(f);
    watch_disarm(o->watch, slot);
}
