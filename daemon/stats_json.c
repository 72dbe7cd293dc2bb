// SPDX-License-Identifier: Apache-2.0
/*
 * The status of a mount as JSON: the figures of the cache, the front and the NFS client under
 * names that stay. Pages are of 4 KiB; names that end in _us are microseconds, in _s seconds; all
 * other numbers are counts, or bytes where the name says so.
 *
 *   source server export mountpoint options rsize wsize pid version uptime_s
 *   responding                     false while requests are sent again and again
 *   last_error    {text, age_s}    of the connection
 *   cache         {size size_max memory moved pages frames frames_free clean dirty writeback
 * unstable pinned mapped twins dirty_bytes dirty_limit dirty_background metadata_bytes_page hits
 * misses evicted alarms} readahead     {pages used wasted} fetch         {rpcs bytes again}
 *   writeback     {writes bytes commits errors verifier_changes throttled}
 *   revalidation  {asked changed dropped kept second_unmaps}
 *   ahead         {lookups listings entries held}  (fuse/ahead.c)
 *   rpc           {PROCEDURE: {calls errors retransmits jukebox bytes_out bytes_in
 *                  mean_us p50_us p90_us p99_us max_us}}
 *   network       {connections up reconnects retransmits timeouts garbled}
 *   files         [{path ino bytes error}] with bytes that the server has not committed
 */
#include <errno.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "daemon/loop.h"
#include "daemon/mount.h"
#include "daemon/nfs/nfs3.h"
#include "fuse/ops.h"

static void put(json_t *o, const char *key, uint64_t n)
{
    json_object_set_new(o, key, json_integer((json_int_t)n));
}

/* Names are bytes, JSON is UTF-8: what is not valid is shown as '?'. */
static json_t *text(const char *s)
{
    json_t *j = json_string(s);
    if (j)
        return j;
    char *copy = strdup(s);
    for (char *c = copy; c && *c; c++)
        if ((unsigned char)*c >= 0x80)
            *c = '?';
    j = json_string(copy ? copy : "");
    free(copy);
    return j;
}

/* ---- files -------------------------------------------------------------------------------- */

static void add_file(struct front *f, struct inode *ino, void *arg)
{
    struct mapping *map = inode_map(ino);
    char path[PATH_MAX];

    if (!map || !mapping_is_busy(map))
        return;
    json_t *o = json_object();
    bool named = unmap_path(f, ino, path, sizeof path) == 0;
    int error = mapping_error_last(map);
    json_object_set_new(o, "path", named ? text(path) : json_null());
    put(o, "ino", ino->rec->attr.fileid);
    put(o, "bytes", mapping_dirty_bytes(map));
    json_object_set_new(o, "error", error ? text(strerror(-error)) : json_null());
    json_array_append_new(arg, o);
}

static json_t *files(const struct mount_state *m)
{
    json_t *array = json_array();

    inode_for_each(m->front, add_file, array);
    return array;
}

char *stats_json_files(const struct mount_state *m)
{
    json_t *array = files(m);
    char *out = json_dumps(array, JSON_COMPACT);
    json_decref(array);
    return out;
}

/* ---- the parts ---------------------------------------------------------------------------- */

static void add_cache(json_t *root, const struct mount_state *m)
{
    struct cache_stats s;
    json_t *c = json_object(), *ra = json_object(), *f = json_object(), *w = json_object(),
           *r = json_object();

    cache_stats(m->front->cache, &s);
    put(c, "size", s.size);
    put(c, "size_max", s.size_max);
    put(c, "memory", s.memory);
    put(c, "moved", s.moved);
    put(c, "pages", s.pages);
    put(c, "frames", s.frames);
    put(c, "frames_free", s.frames_free);
    put(c, "clean", s.clean);
    put(c, "dirty", s.dirty);
    put(c, "writeback", s.writeback);
    put(c, "unstable", s.unstable);
    put(c, "pinned", s.pinned);
    put(c, "mapped", s.mapped);
    put(c, "twins", s.twins);
    put(c, "dirty_bytes", s.dirty_bytes);
    put(c, "dirty_limit", s.dirty_limit);
    put(c, "dirty_background", s.dirty_background);
    put(c, "metadata_bytes_page", s.metadata_bytes_page);
    put(c, "hits", s.hits);
    put(c, "misses", s.misses);
    put(c, "evicted", s.evicted);
    put(c, "reclaim_unmaps", s.reclaim_unmaps);
    put(c, "alarms", s.twin_alarms + atomic_load(&m->front->stats.alarms));
    json_object_set_new(root, "cache", c);

    put(ra, "pages", s.readahead_pages);
    put(ra, "used", s.readahead_used);
    put(ra, "wasted", s.readahead_wasted);
    json_object_set_new(root, "readahead", ra);

    put(f, "rpcs", s.fetches);
    put(f, "bytes", s.fetch_bytes);
    put(f, "again", s.refetched_old);
    json_object_set_new(root, "fetch", f);

    put(w, "writes", s.writes);
    put(w, "bytes", s.write_bytes);
    put(w, "commits", s.commits);
    put(w, "errors", s.write_errors);
    put(w, "verifier_changes", s.verifier_changes);
    put(w, "throttled", s.throttled);
    json_object_set_new(root, "writeback", w);

    put(r, "asked", s.reval_asked);
    put(r, "changed", s.reval_changed);
    put(r, "dropped", s.reval_dropped);
    put(r, "kept", s.reval_kept);
    put(r, "second_unmaps", s.reval_second_unmaps);
    json_object_set_new(root, "revalidation", r);
}

static void add_ahead(json_t *root, const struct mount_state *m)
{
    struct ahead_stats s;
    json_t *a = json_object();

    ahead_stats(m->front, &s);
    put(a, "lookups", s.lookups);
    put(a, "listings", s.listings);
    put(a, "entries", s.entries);
    put(a, "held", s.held);
    json_object_set_new(root, "ahead", a);
}

static json_t *procedure(const struct nfs3_proc_stats *p)
{
    json_t *o = json_object();

    put(o, "calls", p->calls);
    put(o, "errors", p->errors);
    put(o, "retransmits", p->retransmits);
    put(o, "jukebox", p->jukebox);
    put(o, "bytes_out", p->bytes_out);
    put(o, "bytes_in", p->bytes_in);
    put(o, "mean_us", p->mean_ns / 1000);
    put(o, "p50_us", p->p50_ns / 1000);
    put(o, "p90_us", p->p90_ns / 1000);
    put(o, "p99_us", p->p99_ns / 1000);
    put(o, "max_us", p->max_ns / 1000);
    return o;
}

static int add_network(json_t *root, const struct mount_state *m)
{
    struct nfs3_stats *s = calloc(1, sizeof(*s));
    json_t *rpc = json_object(), *n = json_object(), *last = json_object();
    unsigned up = 0;

    if (!s)
        return -ENOMEM;
    nfs3_stats(m->remote, s);
    for (int i = 0; i < PROC_COUNT; i++)
        json_object_set_new(rpc, nfs3_proc_name(i), procedure(&s->proc[i]));
    json_object_set_new(root, "rpc", rpc);

    for (int i = 0; i < s->nconn && i < NFS3_STATS_CONNS; i++)
        up += strcmp(s->conn[i].state, "up") == 0;
    put(n, "connections", (uint64_t)s->nconn);
    put(n, "up", up);
    put(n, "reconnects", s->reconnects);
    put(n, "retransmits", s->retransmits);
    put(n, "timeouts", s->timeouts);
    put(n, "garbled", s->garbled);
    json_object_set_new(root, "network", n);

    json_object_set_new(root, "responding", json_boolean(s->responding));
    if (s->last_error[0]) {
        uint64_t t = (uint64_t)time(NULL);
        json_object_set_new(last, "text", text(s->last_error));
        put(last, "age_s", t > s->last_error_s ? t - s->last_error_s : 0);
    }
    json_object_set_new(root, "last_error", last);
    free(s);
    return 0;
}

char *stats_json(const struct mount_state *m)
{
    const struct mount_options *o = m->options;
    json_t *root = json_object();
    char *options = options_to_string(o);

    json_object_set_new(root, "source", text(o->source));
    json_object_set_new(root, "server", text(o->host));
    json_object_set_new(root, "export", text(o->export));
    json_object_set_new(root, "mountpoint", text(o->mountpoint));
    json_object_set_new(root, "options", text(options ? options : ""));
    free(options);
    put(root, "rsize", m->remote->rsize);
    put(root, "wsize", m->remote->wsize);
    put(root, "pid", (uint64_t)getpid());
    json_object_set_new(root, "version", text(NFSCACHED_VERSION));
    put(root, "uptime_s", (now_ns() - m->start_ns) / 1000000000u);
    add_cache(root, m);
    add_ahead(root, m);
    char *out = NULL;
    if (add_network(root, m) == 0) {
        json_object_set_new(root, "files", files(m));
        out = json_dumps(root, JSON_COMPACT);
    }
    json_decref(root);
    return out;
}
