// SPDX-License-Identifier: Apache-2.0
/* The options of a mount: what is accepted, what it means, how a refusal reads. */
// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "daemon/options.h"

#define RAM ((uint64_t)8 << 30)

static struct mount_options o;
static char err[OPTIONS_ERROR_MAX];

/* Parses and finishes; true when all of it was accepted. */
static bool given(const char *text)
{
    options_clear(&o);
    options_init(&o);
    err[0] = 0;
    return options_parse(&o, text, err) && options_finish(&o, RAM, err);
}

static bool source(const char *text)
{
    options_clear(&o);
    options_init(&o);
    err[0] = 0;
    return options_parse_source(&o, text, err) && options_finish(&o, RAM, err);
}

static int clear(void **state)
{
    options_clear(&o);
    return 0;
}

#define assert_says(part)                                                                          \
    do {                                                                                           \
        if (!strstr(err, part))                                                                    \
            fail_msg("'%s' does not hold '%s'", err, part);                                        \
    } while (0)

static void test_defaults_are_those_of_nfs5(void **state)
{
    assert_true(given(""));
    assert_false(o.soft);
    assert_int_equal(o.timeo_ds, 600);
    assert_int_equal(o.retrans, 2);
    assert_int_equal(o.acregmin, 3);
    assert_int_equal(o.acregmax, 60);
    assert_int_equal(o.acdirmin, 30);
    assert_int_equal(o.acdirmax, 60);
    assert_true(o.cto);
    assert_false(o.sync);
    assert_int_equal(o.retry_min, 2);
    assert_int_equal(o.lookupcache, OPTION_LOOKUPCACHE_ALL);
    assert_int_equal(o.wcc, OPTION_WCC_BRACKET);
    assert_int_equal(o.resvport, OPTION_RESVPORT_TRY);
    assert_true(o.nosuid && o.nodev);
    assert_int_equal(o.cache_size, RAM / 4);
    assert_int_equal(o.readahead, 16 << 20);
}

static void test_times_and_noac(void **state)
{
    assert_true(given("actimeo=7"));
    assert_int_equal(o.acregmin, 7);
    assert_int_equal(o.acregmax, 7);
    assert_int_equal(o.acdirmin, 7);
    assert_int_equal(o.acdirmax, 7);
    /* A later option wins. */
    assert_true(given("actimeo=7,acregmax=9"));
    assert_int_equal(o.acregmin, 7);
    assert_int_equal(o.acregmax, 9);
    assert_true(given("noac,acregmin=5"));
    assert_int_equal(o.acregmin, 0);
    assert_int_equal(o.acregmax, 0);
    assert_int_equal(o.acdirmax, 0);
    assert_true(o.sync);
    assert_true(given("noac,ac"));
    assert_int_equal(o.acregmin, 3);
    assert_false(o.sync);
    /* One bound given alone takes the other along; both given must agree. */
    assert_true(given("acregmin=100"));
    assert_int_equal(o.acregmax, 100);
    assert_true(given("acdirmax=10"));
    assert_int_equal(o.acdirmin, 10);
    assert_false(given("acregmin=100,acregmax=99"));
    assert_says("acregmin=100 is above acregmax=99");
}

static void test_io_sizes_are_rounded_as_nfs5_says(void **state)
{
    static const struct {
        const char *text;
        uint32_t want;
    } cases[] = {{"rsize=0", 0},
                 {"rsize=1", 4096},
                 {"rsize=1023", 4096},
                 {"rsize=1024", 1024},
                 {"rsize=5000", 4096},
                 {"rsize=1048576", 1048576},
                 {"rsize=9999999", 1048576},
                 {"rsize=64K", 65536}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_true(given(cases[i].text));
        assert_int_equal(o.rsize, cases[i].want);
    }
    assert_false(given("wsize=big"));
    assert_says("'wsize=big': expected a number of bytes");
}

static void test_limits_follow_another_size(void **state)
{
    const uint64_t mib = 1 << 20;
    struct option_limits l;
    uint64_t size;

    assert_true(given("cache_size=1G"));
    options_limits(&o, 100 * mib, &l);
    assert_int_equal(l.dirty_limit, 40 * mib);
    assert_int_equal(l.dirty_background, 10 * mib);
    assert_false(l.clamped);
    /* Bytes stay bytes, as far as they fit. */
    assert_true(given("cache_size=1G,dirty_limit=200M,dirty_background=150M"));
    options_limits(&o, 500 * mib, &l);
    assert_int_equal(l.dirty_limit, 200 * mib);
    assert_int_equal(l.dirty_background, 150 * mib);
    assert_false(l.clamped);
    options_limits(&o, 200 * mib, &l);
    assert_int_equal(l.dirty_limit, 200 * mib / 100 * 90);
    assert_int_equal(l.dirty_background, 150 * mib);
    assert_true(l.clamped);
    options_limits(&o, 100 * mib, &l);
    assert_int_equal(l.dirty_background, 100 * mib / 100 * 90);
    /* One that was not given is below the other in any case. */
    assert_true(given("cache_size=1G,dirty_limit=4M"));
    options_limits(&o, 100 * mib, &l);
    assert_int_equal(l.dirty_background, mib);
    assert_false(l.clamped);

    assert_true(options_parse_cache_size(&size, "16M", RAM, err));
    assert_int_equal(size, 16 * mib);
    assert_true(options_parse_cache_size(&size, "50%", RAM, err));
    assert_int_equal(size, RAM / 2);
    assert_false(options_parse_cache_size(&size, "16000K", RAM, err));
    assert_says("'16000K' is 16384000 bytes: expected at least 16M");
    assert_false(options_parse_cache_size(&size, "150%", RAM, err));
    assert_false(options_parse_cache_size(&size, "16G", RAM, err));
    assert_false(options_parse_cache_size(&size, "", RAM, err));
    assert_false(options_parse_cache_size(&size, "big", RAM, err));
    assert_says("'big': expected bytes");
}

static void test_cache_amounts(void **state)
{
    assert_true(given("cache_size=1G,dirty_limit=50%,dirty_background=64M,readahead=1M"));
    assert_int_equal(o.cache_size, 1 << 30);
    assert_int_equal(o.dirty_limit, 1 << 29);
    assert_int_equal(o.dirty_background, 64 << 20);
    assert_int_equal(o.readahead, 1 << 20);
    assert_true(given("cache_size=50%"));
    assert_int_equal(o.cache_size, RAM / 2);
    /* The default is bounded, a wish is not. */
    options_clear(&o);
    options_init(&o);
    assert_true(options_finish(&o, (uint64_t)64 << 30, err));
    assert_int_equal(o.cache_size, (uint64_t)4 << 30);
    assert_true(given("dirty_limit=2M"));
    assert_int_equal(o.dirty_background, 512 << 10);
    assert_true(given("readahead=0"));
    assert_int_equal(o.readahead, 0);
    assert_true(given("cache_size=16M"));
    assert_int_equal(o.readahead, 4 << 20);

    assert_false(given("cache_size=1M"));
    assert_says("at least 16M");
    assert_false(given("cache_size=16G"));
    assert_says("more than");
    assert_false(given("cache_size=101%"));
    assert_says("'cache_size=101%'");
    assert_false(given("cache_size=99999999999999999999"));
    assert_false(given("cache_size=99999999999G"));
    assert_false(given("cache_size=-1"));
    assert_false(given("dirty_limit=100%"));
    assert_says("at most 90%");
    assert_false(given("dirty_limit=10M,dirty_background=20M"));
    assert_says("above dirty_limit");
    assert_false(given("readahead=10%"));
}

static void test_numbers_out_of_range_are_quoted(void **state)
{
    static const char *const bad[] = {
        "timeo=0",  "timeo=6001", "timeo=abc",  "timeo=",         "timeo= 5",
        "timeo=+5", "timeo=5s",   "port=65536", "nconnect=0",     "nconnect=17",
        "shards=0", "umask=888",  "uid=root",   "uid=4294967295", "acregmin=-1"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_false(given(bad[i]));
        assert_says(bad[i]);
        assert_says("expected");
    }
    assert_false(given("timeo"));
    assert_says("option 'timeo' needs a value: deciseconds");
    assert_false(given("hard=1"));
    assert_says("takes no value");
    assert_false(given("resvport=1"));
    assert_says("takes no value");
}

static void test_choices(void **state)
{
    assert_true(given("lookupcache=pos"));
    assert_int_equal(o.lookupcache, OPTION_LOOKUPCACHE_POSITIVE);
    assert_true(given("lookupcache=positive"));
    assert_int_equal(o.lookupcache, OPTION_LOOKUPCACHE_POSITIVE);
    assert_true(given("lookupcache=none,wcc=trust"));
    assert_int_equal(o.lookupcache, OPTION_LOOKUPCACHE_NONE);
    assert_int_equal(o.wcc, OPTION_WCC_TRUST);
    assert_true(given("wcc=strict,noresvport,proto=tcp6"));
    assert_int_equal(o.wcc, OPTION_WCC_STRICT);
    assert_int_equal(o.resvport, OPTION_RESVPORT_NO);
    assert_int_equal(o.family, AF_INET6);
    assert_true(given("noresvport,resvport"));
    assert_int_equal(o.resvport, OPTION_RESVPORT_YES);
    assert_false(given("lookupcache=some"));
    assert_says("'lookupcache=some': expected all, pos, positive or none");
    assert_true(given("vers=3,nfsvers=3,proto=tcp,sec=sys,nolock,local_lock=all"));
    assert_true(given("rdirplus=none"));
    assert_false(o.rdirplus);
    assert_true(given("nordirplus,rdirplus"));
    assert_true(o.rdirplus);
}

static void test_bg_changes_the_default_of_retry(void **state)
{
    assert_true(given("bg"));
    assert_int_equal(o.retry_min, 10000);
    assert_true(given("bg,retry=3"));
    assert_int_equal(o.retry_min, 3);
    assert_true(given("bg,fg"));
    assert_int_equal(o.retry_min, 2);
}

static void test_kernel_writeback_is_refused_with_what_it_breaks(void **state)
{
    static const struct {
        const char *text, *other;
    } cases[] = {
        {"ro", "ro"},
        {"noac", "noac"},
        {"sync", "sync"},
        {"wcc=strict", "wcc=strict"},
        {"wcc=bracket", "wcc=bracket"},
        {"actimeo=0", "actimeo=0"},
        {"acregmin=0,acregmax=0", "acregmax=0"},
    };
    char text[100], says[100];

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        snprintf(text, sizeof text, "%s,kernel_writeback", cases[i].text);
        snprintf(says, sizeof says,
                 "kernel_writeback cannot be combined with %s: ", cases[i].other);
        assert_false(given(text));
        assert_says(says);
        assert_true(given(cases[i].text));
        assert_false(o.kernel_writeback);
    }
    assert_true(given("kernel_writeback"));
    assert_true(o.kernel_writeback);
    assert_int_equal(o.wcc, OPTION_WCC_TRUST);
    assert_true(given("kernel_writeback,wcc=trust,nocto,soft,actimeo=1,sync,async"));
    assert_false(given("writeback_cache"));
    assert_says("kernel_writeback");
}

static void test_known_but_not_honoured_says_why(void **state)
{
    static const struct {
        const char *text, *why;
    } cases[] = {{"vers=4", "NFS versions 2 and 4 are not implemented"},
                 {"nfsvers=4.2", "not implemented"},
                 {"v4.1", "only vers=3"},
                 {"proto=udp", "UDP and RDMA are not implemented"},
                 {"udp", "only TCP"},
                 {"sec=krb5p", "RPCSEC_GSS"},
                 {"lock", "NLM"},
                 {"local_lock=none", "NLM"},
                 {"local_lock=posix", "NLM"},
                 {"sharecache", "cache of its own"},
                 {"fsc", "local disk"},
                 {"minorversion=1", "NFSv4"},
                 {"auto_unmount", "dirty"},
                 {"attr_timeout=1", "actimeo"},
                 {"remount", "unmount"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        if (given(cases[i].text))
            fail_msg("'%s' was accepted", cases[i].text);
        assert_says(cases[i].why);
        assert_null(strchr(err, '\n'));
    }
}

static void test_unknown_names_the_nearest(void **state)
{
    assert_false(given("acregmn=3"));
    assert_says("unknown option 'acregmn'; did you mean 'acregmin'?");
    assert_false(given("cachesize=1G"));
    assert_says("did you mean 'cache_size'?");
    assert_false(given("florb=3"));
    assert_string_equal(err, "unknown option 'florb'");
}

static void test_options_of_mount8_change_nothing(void **state)
{
    assert_true(given("defaults,_netdev,x-systemd.automount,X-mount.mkdir=0755,noauto,user,nofail,"
                      "comment=for me,relatime,,"));
    assert_true(o.nosuid && o.nodev && !o.noexec && !o.ro);
    assert_true(given("rw,suid,dev,noexec,noatime"));
    assert_true(!o.nosuid && !o.nodev && o.noexec && o.noatime);
}

static void test_fuse_string(void **state)
{
    assert_true(given("ro,noexec,suid,noatime,context=\"a:b:c\\,d\",rootcontext=x"));
    char *s = options_fuse_string(&o);
    assert_string_equal(s, "suid,nodev,noexec,noatime,context=\"a:b:c,d\",rootcontext=x");
    free(s);
    /* An escaped comma belongs to the value. */
    assert_true(given("fsname=one\\,two,subtype=x"));
    assert_string_equal(o.fsname, "one,two");
    assert_string_equal(o.subtype, "x");
}

static void test_status_line_parses_again(void **state)
{
    assert_true(given("soft,actimeo=9,wcc=strict,noresvport,uid=7,umask=022,rsize=8192,nordirplus,"
                      "cache_size=100M,lookupcache=pos,sync"));
    char *first = options_to_string(&o);
    char *copy = strdup(first);
    assert_true(given(copy));
    char *second = options_to_string(&o);
    assert_string_equal(first, second);
    assert_non_null(strstr(first, "soft,timeo=600,retrans=2"));
    assert_non_null(strstr(first, "umask=022"));
    free(first);
    free(copy);
    free(second);
}

static void test_sources(void **state)
{
    assert_true(source("server:/export/home"));
    assert_string_equal(o.host, "server");
    assert_string_equal(o.export, "/export/home");
    assert_int_equal(o.port, 0);
    assert_true(source("[2001:db8::1]:/x"));
    assert_string_equal(o.host, "2001:db8::1");
    assert_true(source("server:/"));
    assert_string_equal(o.export, "/");
    assert_true(source("server://a/b//"));
    assert_string_equal(o.export, "/a/b");
    assert_true(source("server:/with:colon"));
    assert_string_equal(o.export, "/with:colon");

    assert_true(source("nfs://server/export"));
    assert_string_equal(o.host, "server");
    assert_string_equal(o.export, "/export");
    assert_int_equal(o.port, 0);
    assert_false(o.mountport_is_guess);
    assert_true(source("nfs://[::1]:20490/a%20b"));
    assert_string_equal(o.host, "::1");
    assert_string_equal(o.export, "/a b");
    assert_int_equal(o.port, 20490);
    assert_int_equal(o.mountport, 20490);
    assert_true(o.mountport_is_guess);

    options_clear(&o);
    options_init(&o);
    assert_true(options_parse_source(&o, "nfs://server:2050/x", err));
    assert_true(options_parse(&o, "mountport=77", err));
    assert_true(options_finish(&o, RAM, err));
    assert_int_equal(o.mountport, 77);
    assert_false(o.mountport_is_guess);
    assert_true(options_parse(&o, "port=2051", err));
    assert_false(options_finish(&o, RAM, err));
    assert_says("port=2051 contradicts port 2050");
}

static void test_bad_sources_show_the_form(void **state)
{
    static const char *const bad[] = {"server",
                                      ":/export",
                                      "server:export",
                                      "server/x:/y",
                                      "::1:/x",
                                      "[]:/x",
                                      "[::1:/x",
                                      "[::1]/x",
                                      "nfs://server",
                                      "nfs://server:0/x",
                                      "nfs://server:99999/x",
                                      "nfs:///x",
                                      "nfs://server:/x",
                                      "nfs://server/x?version=4",
                                      "nfs://server/%zz",
                                      "a,b:/x",
                                      "nfs://server/%00",
                                      ""};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        if (source(bad[i]))
            fail_msg("'%s' was accepted", bad[i]);
        assert_says(bad[i]);
        assert_says("expected SERVER:/EXPORT");
    }
    assert_false(source("fe80::1:/x"));
    assert_says("brackets");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_defaults_are_those_of_nfs5, clear),
        cmocka_unit_test_teardown(test_times_and_noac, clear),
        cmocka_unit_test_teardown(test_io_sizes_are_rounded_as_nfs5_says, clear),
        cmocka_unit_test_teardown(test_cache_amounts, clear),
        cmocka_unit_test_teardown(test_limits_follow_another_size, clear),
        cmocka_unit_test_teardown(test_numbers_out_of_range_are_quoted, clear),
        cmocka_unit_test_teardown(test_choices, clear),
        cmocka_unit_test_teardown(test_bg_changes_the_default_of_retry, clear),
        cmocka_unit_test_teardown(test_kernel_writeback_is_refused_with_what_it_breaks, clear),
        cmocka_unit_test_teardown(test_known_but_not_honoured_says_why, clear),
        cmocka_unit_test_teardown(test_unknown_names_the_nearest, clear),
        cmocka_unit_test_teardown(test_options_of_mount8_change_nothing, clear),
        cmocka_unit_test_teardown(test_fuse_string, clear),
        cmocka_unit_test_teardown(test_status_line_parses_again, clear),
        cmocka_unit_test_teardown(test_sources, clear),
        cmocka_unit_test_teardown(test_bad_sources_show_the_form, clear),
    };
    return cmocka_run_group_tests_name("options", tests, NULL, NULL);
}
