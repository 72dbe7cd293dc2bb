# SPDX-License-Identifier: Apache-2.0
# Ratio of each line of results.tsv to its floor, with the range of the pairs and the aim.
set terminal svg size 900,420 font "sans,13" background "white"
set output plotfile
set datafile separator "\t"
set title "nfscached against its floors: median of the pairs, and their range"
set ylabel "ours / floor"
set yrange [0:*]
set grid ytics lc rgb "#dddddd"
set style fill solid 0.8
set boxwidth 0.5
set xrange [-0.6:*]
aim(s) = s eq "-" ? NaN : real(substr(s, 3, strlen(s)))
plot data using 0:10:xtic(1) with boxes lc rgb "#4477aa" title "measured", \
     data using 0:10:11:12 with yerrorbars lc rgb "#222222" lw 1.5 pt 0 title "range", \
     data using 0:(aim(strcol(3))) with points pt 9 ps 1.6 lc rgb "#cc3311" title "aim (open: at most, others: at least)"
