#!/bin/sh
# Holds a profile of the work tree against the same file of a git revision: the gate of a release, for any CI system.
#
#   gate.sh PROFILE REVISION [POLICY]
#
# Exit codes are those of `seccast check`: 0 passed, 1 failed, 2 wrong usage, 3 could not. In $SECCAST_OUT (else ./seccast-gate) it leaves
# diff.md, check.json, seccast.sarif and junit.xml; $SECCAST (else seccast) is the program. Where there is
# $GITHUB_STEP_SUMMARY the difference goes there, too.
set -eu

if [ $# -lt 2 ] || [ $# -gt 3 ]; then
    echo "usage: gate.sh PROFILE REVISION [POLICY]" >&2
    exit 2
fi
profile=$1
revision=$2
policy=${3-}
seccast=${SECCAST:-seccast}
out=${SECCAST_OUT:-seccast-gate}

# git would find no such file in the revision, and what is not in there has no baseline.
case $profile in /*)
    echo "gate.sh: give the path of $profile from this folder on" >&2
    exit 2
    ;;
esac
if [ ! -r "$profile" ]; then
    echo "gate.sh: cannot read $profile; record it first, or give its path from this folder on" >&2
    exit 3
fi
mkdir -p "$out"
rm -f "$out/baseline.json" "$out/baseline.report.json"
if ! git rev-parse --quiet --verify "$revision^{commit}" >/dev/null; then
    echo "gate.sh: git knows no revision $revision; fetch it (actions/checkout: fetch-depth: 0)" >&2
    exit 3
fi
if git cat-file -e "$revision:./$profile" 2>/dev/null; then
    git show "$revision:./$profile" >"$out/baseline.json"
    # Who called what first, also for calls that are gone.
    git show "$revision:./${profile%.json}.report.json" >"$out/baseline.report.json" 2>/dev/null || rm -f "$out/baseline.report.json"
else
    echo "gate.sh: $revision has no $profile yet: only the policy is checked" >&2
    cp "$profile" "$out/baseline.json"
fi

check() {
    "$seccast" check "$profile" --against "$out/baseline.json" ${policy:+--policy "$policy"} "$@"
}

"$seccast" diff "$out/baseline.json" "$profile" --format markdown -o "$out/diff.md"
if [ -n "${GITHUB_STEP_SUMMARY-}" ]; then
    cat "$out/diff.md" >>"$GITHUB_STEP_SUMMARY"
fi
status=0
check || status=$?
if [ "$status" -le 1 ]; then
    for format in sarif:seccast.sarif junit:junit.xml json:check.json; do
        # The verdict is known; on stderr it has been said.
        check --quiet --format "${format%%:*}" >"$out/${format#*:}" || [ $? -eq "$status" ]
    done
fi
exit "$status"
