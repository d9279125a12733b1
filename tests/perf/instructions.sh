#!/usr/bin/env bash
# Fails if a no-op build executes more instructions than recorded:
#
#     tests/perf/instructions.sh [FBUILD]             compares with instructions.txt
#     tests/perf/instructions.sh --record [FBUILD]    writes instructions.txt
#
# Counts instructions, not seconds, because they do not depend on the machine's load. The kernel's
# are not counted. Callgrind's processor has no SHA instructions, so hashing is overrated. Needs
# Python 3, a C compiler and valgrind; takes about a minute.

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

# count SIZE: prints the number of instructions of a no-op build.
count() {
  python3 "$here/bench.py" --size "$1" --peers fbuild --scenario noop --rounds 1 --no-floors \
    --fbuild "$fbuild" --work "$work" >/dev/null 2>"$work/log" || { cat "$work/log" >&2; return 1; }
  cd "$work/$1/fbuild"
  # Under valgrind, fbuild is another program, which does not use the snapshot of the first.
  for _ in 1 2; do
    counted=$(env -i PATH="$PATH" HOME="$HOME" valgrind --tool=callgrind --callgrind-out-file=/dev/null "$fbuild" run --jobs 2 2>&1 >/dev/null)
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
