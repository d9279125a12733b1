#!/usr/bin/env bash
# Fails if a run in which nothing changed executes more instructions than it used to:
#
#     tests/perf/instructions.sh [FBUILD]             compares with instructions.txt
#     tests/perf/instructions.sh --record [FBUILD]    writes instructions.txt
#
# Instructions, not seconds: a busy machine changes the one and not the other. Only the
# program's own are counted, not the system's. Callgrind's processor has no SHA
# instructions, so hashing counts for more than it takes. Needs Python 3, a C compiler and
# valgrind; takes about a minute.

set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
ceilings=$here/instructions.txt

record=false
if [ "${1-}" = --record ]; then
  record=true
  shift
fi
fbuild=$(realpath "${1-$here/../../target/release/fbuild}")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# count SIZE: prints the number of instructions of a run in which nothing changed.
count() {
  python3 "$here/bench.py" --size "$1" --peers fbuild --scenario noop --rounds 1 --no-floors \
    --fbuild "$fbuild" --work "$work" >/dev/null 2>"$work/log" || { cat "$work/log" >&2; return 1; }
  cd "$work/$1/fbuild"
  # Below valgrind it takes itself for another program, which has to find out for itself.
  for _ in 1 2; do
    counted=$(env -i PATH="$PATH" valgrind --tool=callgrind --callgrind-out-file=/dev/null "$fbuild" run --jobs 2 2>&1 >/dev/null)
    sleep 0.1
  done
  sed -n 's/.*Collected : //p' <<<"$counted"
}

failed=0
lines=
for size in medium large; do
  counted=$(count "$size")
  lines+="$size $counted"$'\n'
  if [ "$record" = false ]; then
    # Threads that wait for each other do not always wait the same: hence a twentieth more.
    ceiling=$(sed -n "s/^$size //p" "$ceilings")
    most=$((ceiling + ceiling / 20))
    printf '%-7s %12d instructions, at most %d\n' "$size" "$counted" "$most"
    [ "$counted" -le "$most" ] || failed=1
  fi
done
if [ "$record" = true ]; then
  printf '%s' "$lines" | tee "$ceilings"
elif [ "$failed" = 1 ]; then
  printf 'error: more instructions than recorded; if they are worth it: %s --record\n' "$0" >&2
fi
exit "$failed"
