#!/usr/bin/env bash
# Runs COMMAND under netwatch and checks it against POLICY. netwatch annotates the policy and fills
# the summary of the job. If SARIF is not empty, the verdict is written to that file instead of the
# log. Exits with the code of `netwatch check`.
set -euo pipefail

netwatch=$(command -v netwatch)
as_root=()
# All variables of the job: the command needs them. sudo searches a PATH of its own.
[[ $(id -u) == 0 ]] || as_root=(sudo --preserve-env)

# The page about the newest run, also after a violation.
write_page() {
    local page=$RUNNER_TEMP/netwatch.html
    if "${as_root[@]}" "$netwatch" report --format html -o "$page"; then
        echo "report=$page" >> "$GITHUB_OUTPUT"
    fi
}

if [[ ! -e $POLICY ]]; then
    echo "::warning::there is no $POLICY: this run is not checked; the summary has a policy to begin with"
    code=0
    learned=$("${as_root[@]}" "$netwatch" learn -- bash -c "$COMMAND") || code=$?
    cat >> "$GITHUB_STEP_SUMMARY" <<SUMMARY
### netwatch: a policy to begin with

\`\`\`toml
$learned
\`\`\`
SUMMARY
    write_page
    exit "$code"
fi

# Annotations name files by their path in the repository.
shown=$(realpath --relative-to="${GITHUB_WORKSPACE:-$PWD}" -- "$POLICY")
# In a container the checkout belongs to another user, who could change the policy; netwatch refuses
# it. The workflow is trusted as much as the policy.
if [[ $(id -u) == 0 ]]; then
    private=$(mktemp -d)
    install -m 644 "$POLICY" "$private/netwatch.toml"
    POLICY=$private/netwatch.toml
fi

options=()
[[ -z $SARIF ]] || options=(--format sarif -o "$SARIF")
code=0
"${as_root[@]}" "$netwatch" check --policy "$POLICY" --shown-as "$shown" "${options[@]}" -- bash -c "$COMMAND" || code=$?
write_page
exit "$code"
