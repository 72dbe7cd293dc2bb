// SPDX-License-Identifier: Apache-2.0
/* A READ answered shorter than the size that the kernel knows. */
#include "tests/race/mount/mount.h"

#define MINE (3 * PAGE_SIZE + 8)

static void mount(struct lab_mount *m)
{
    lm_load(m, MINE);
    lm_store(m, MINE, 2);
    lm_hold(m, "reval.asked"); /* by the attributes of the READs: it would fetch the page */
    lm_foreign_truncate(m, PAGE_SIZE);
    lm_wait(m, lm_start(m, "application", LM_READ, PAGE_SIZE, 0, 1));
    lm_wait(m, lm_start(m, "application", LM_READ, 2 * PAGE_SIZE, 0, 1));
}

static void setup(struct lab *l)
{
    lab_load(l, MINE);
}

static void storer(struct lab *l)
{
    lab_store(l, MINE, 2);
}

static void reader(struct lab *l)
{
    lab_load(l, PAGE_SIZE);
    lab_load(l, 2 * PAGE_SIZE);
}

static void foreign(struct lab *l)
{
    fr_truncate(l->file, PAGE_SIZE);
    lab_say(l, "another client truncates the file to one page");
}

static const struct lab_lane lanes[] = {
    {"application", storer}, {"application2", reader}, {"foreign", foreign}, {0}};

static const struct lab_protocol protocols[] = {
    {.name = "shipped", .what = "READs are padded with zeros up to the size last told"},
    {.name = "size-from-read",
     .what = "the end of file in a READ's reply is believed, and passed on",
     .faults = FAULT_BIT(size_from_read),
     .on_cache = LOST,
     .on_mount = LOST},
    {0}};

const struct lab_entry entry_short_read = {
    .name = "short-read",
    .number = 22,
    .year = "2026",
    .title = "A READ shorter than the known size makes the kernel drop dirty pages beyond",
    .history =
        "Found while this project was designed. Another client truncates the file; a READ here "
        "comes "
        "to its new end; a page further on has a store in it that is in nobody's hands but the "
        "kernel's.",
    .source = "Linux fs/fuse/file.c fuse_short_read(), fuse_read_update_size(); writeback skips "
              "pages beyond i_size",
    .mechanism =
        "To the kernel a READ that ends early is the end of the file: it sets i_size there. Dirty "
        "pages beyond i_size are not written back any more: writeback takes them for cut off. No "
        "error is set, and fsync(2) returns 0.",
    .saved_by = "A READ is answered in full up to the size that the kernel was last told, with "
                "zeros where the server has nothing. A smaller size is told only after an unmap "
                "has fetched what is dirty beyond it.",
    .protocols = protocols,
    .world = {.pages = 4},
    .lanes = lanes,
    .setup = setup,
    .schedule = "application until end            # dirty in the kernel, and nowhere else\n"
                "foreign until end\n"
                "application2 until end           # two READs: one meets the end, one is beyond\n",
    .mount = mount,
};
