#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Renders manual pages (scdoc(5)) as plain text into a C file, for `nfscached help VERB`.

usage: embed.py OUTPUT.c PAGE.scd...

scdoc's markup is nearly plain text already: emphasis marks and escapes are taken out, lines are
filled to 78 columns, what stands between ``` is kept as it is.
"""
import os
import re
import sys
import textwrap

WIDTH = 78


def plain(text):
    """Takes emphasis (*bold*, _underline_) and backslash escapes out of one line."""
    out, i = [], 0
    while i < len(text):
        c = text[i]
        before = text[i - 1] if i else " "
        after = text[i + 1] if i + 1 < len(text) else " "
        if c == "\\" and i + 1 < len(text):
            out.append(after)
            i += 2
            continue
        # Inside a word an underscore is itself (scdoc(5)); an asterisk always marks.
        if c == "*" or (c == "_" and not (before.isalnum() and after.isalnum())):
            i += 1
            continue
        out.append(c)
        i += 1
    return "".join(out).rstrip().removesuffix("++")


def render(source):
    lines = source.split("\n")
    out, paragraph = [], []
    indent = 4

    def flush():
        if paragraph:
            lead = " " * indent
            first = lead
            rest = lead
            text = " ".join(paragraph)
            if text.startswith("- "):
                first, rest, text = lead + "- ", lead + "  ", text[2:]
            out.append(textwrap.fill(text, WIDTH, initial_indent=first, subsequent_indent=rest,
                                     break_long_words=False, break_on_hyphens=False))
            paragraph.clear()

    literal = False
    for line in lines[1:]:
        tabs = len(line) - len(line.lstrip("\t"))
        body = line[tabs:]
        if body.startswith(";"):
            continue
        if body.startswith("```"):
            flush()
            literal = not literal
            continue
        if literal:
            out.append((" " * (4 + 4 * tabs) + body).rstrip())
            continue
        if body.startswith("#"):
            flush()
            out.append(plain(body.lstrip("# ")))
            continue
        if not body:
            flush()
            if out and out[-1] != "":
                out.append("")
            continue
        if 4 + 4 * tabs != indent or body.startswith("- "):
            flush()
            indent = 4 + 4 * tabs
        hard = body.rstrip().endswith("++")
        paragraph.append(plain(body).strip())
        if hard:
            flush()
    flush()
    return "\n".join(out).strip("\n") + "\n"


def c_string(text):
    quoted = (line.replace("\\", "\\\\").replace('"', '\\"') for line in text.split("\n")[:-1])
    return "\n".join(f'     "{line}\\n"' for line in quoted)


def main():
    output, pages = sys.argv[1], sys.argv[2:]
    with open(output, "w", encoding="utf-8") as c:
        c.write('#include "daemon/help_text.h"\n\nconst struct help_text help_texts[] = {\n')
        for page in pages:
            name = re.sub(r"\.\d\.scd$", "", os.path.basename(page))
            verb = name.removeprefix("nfscached-") if name != "nfscached" else "nfscached"
            with open(page, encoding="utf-8") as f:
                c.write(f'    {{"{verb}",\n{c_string(render(f.read()))}}},\n')
        c.write("    {0, 0},\n};\n")


main()
