#!/bin/sh
# Runs every row of the verdict table; exits 1 if a verdict differs. Needs spin and a C compiler.
# Usage: docs/models/check.sh [quick | seconds for each row, 600 unless told]
# quick leaves out the rows of more than about four million states: two minutes in all.
models=$(cd "$(dirname "$0")" && pwd)
quick=
if [ "${1:-}" = quick ]; then
    quick=yes
    shift
fi
limit=${1:-600}
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
failed=0

row() {
    expected=$1
    model=$2
    shift 2
    cp "$models/$model" . && spin -a "$@" "$model" >spin.log 2>&1 &&
        cc -O2 -DSAFETY -DCOLLAPSE -DVECTORSZ=2048 pan.c -o pan 2>>spin.log || {
        cat spin.log
        exit 1
    }
    # -E: a process that waits for ever is a crashed one, not a mistake.
    timeout "$limit" ./pan -E -m400000 -w25 >pan.log 2>&1
    if [ $? -eq 124 ]; then
        verdict=unfinished
    elif grep -q 'errors: 0' pan.log && ! grep -q 'max search depth too small' pan.log; then
        verdict=holds
    elif grep -q 'assertion violated' pan.log; then
        verdict=violated
    else
        verdict=failed
    fi
    states=$(sed -n 's/ *\([0-9.e+]*\) states, stored.*/\1/p' pan.log)
    [ "$verdict" = "$expected" ] || failed=1
    echo "$verdict (expected $expected), $states states: $model $*"
}

# A row that takes long.
long() {
    [ -n "$quick" ] || row "$@"
}

row holds register.pml -DN=3 -DQ=2 -DR=2
row violated register.pml -DN=3 -DQ=2 -DR=2 -DLOSSES=1
long holds register.pml -DN=3 -DQ=3 -DR=2 -DLOSSES=1
row holds register.pml -DN=3 -DQ=2 -DP=3 -DR=1
row violated register.pml -DN=4 -DQ=2 -DR=1
row holds register.pml -DN=4 -DQ=3 -DR=1
row holds register.pml -DN=4 -DQ=3 -DR=1 -DLOSSES=1
row violated register.pml -DN=3 -DQ=2 -DR=2 -DMUTANT=1
row violated register.pml -DN=3 -DQ=2 -DR=2 -DMUTANT=2
row violated register.pml -DN=3 -DQ=2 -DR=1 -DMUTANT=3
row holds founding.pml -DN=3 -DQ=2 -DR=1
row holds founding.pml -DN=3 -DQ=2 -DR=1 -DRESTARTS=1
long holds founding.pml -DN=3 -DQ=2 -DR=2
row holds founding.pml -DN=3 -DQ=3 -DR=2
row violated founding.pml -DN=3 -DQ=2 -DR=1 -DLOSSES=1
long holds founding.pml -DN=3 -DQ=3 -DR=1 -DRESTARTS=1 -DLOSSES=1
row violated founding.pml -DN=3 -DQ=2 -DR=1 -DMUTANT=1
row violated founding.pml -DN=3 -DQ=2 -DR=1 -DMUTANT=2
row violated founding.pml -DN=3 -DQ=2 -DR=1 -DRESTARTS=1 -DMUTANT=3
row violated founding.pml -DN=3 -DQ=2 -DR=1 -DMUTANT=4
row violated founding.pml -DN=3 -DQ=2 -DR=1 -DMUTANT=5
row holds lease.pml -DN=3 -DR=1
row holds lease.pml -DN=2 -DR=1 -DCHANGE=1
row holds lease.pml -DN=2 -DR=1 -DRESTARTS=1
row violated lease.pml -DN=3 -DR=1 -DMUTANT=1
row violated lease.pml -DN=3 -DR=1 -DRESTARTS=1 -DMUTANT=2
row violated lease.pml -DN=3 -DR=1 -DMUTANT=3
row violated lease.pml -DN=3 -DR=1 -DMUTANT=4
exit $failed
